"""Entries of this plugin; imports neither torch nor deepinv."""

from __future__ import annotations

from tiltkit.hookspecs import Entry, hookimpl

__all__ = ["tiltkit_samplers"]

DEEPINV = (
    "Tachella et al., DeepInverse: a Python package for solving imaging inverse problems with deep"
    " learning, J. Open Source Softw. (2025), doi:10.21105/joss.08923"
)
PULA = (
    "Blumenthal et al., Fast and robust diffusion posterior sampling for MR image reconstruction"
    " using the preconditioned unadjusted Langevin algorithm, arXiv:2512.05791"
)
REPLICA = (
    "Zheng et al., Constrained exploration via reflected replica exchange stochastic gradient"
    " Langevin dynamics, ICML 2024, arXiv:2405.07839"
)
TEMPERING = "Zhang et al., Accelerated parallel tempering via neural transports, arXiv:2502.10328"
DPS = (
    "Chung et al., Diffusion posterior sampling for general noisy inverse problems, ICLR 2023,"
    " arXiv:2209.14687"
)
DIFFPIR = (
    "Zhu et al., Denoising diffusion models for plug-and-play image restoration, CVPRW 2023,"
    " arXiv:2305.08995"
)
DDRM = "Kawar et al., Denoising diffusion restoration models, NeurIPS 2022, arXiv:2201.11793"
ULA = (
    "Laumont et al., Bayesian imaging using plug & play priors: when Langevin meets Tweedie, SIAM"
    " J. Imaging Sci. 15 (2022) 701-737, arXiv:2103.04715"
)


@hookimpl
def tiltkit_samplers() -> list[Entry]:
    """Published samplers to compare with."""

    def deepinv_entry(name: str, attribute: str, summary: str, cite: str) -> Entry:
        target = f"tiltkit_baselines.deepinv:{attribute}"
        return Entry(
            name=f"baselines.{name}",
            target=target,
            summary=summary,
            requires=("deepinv",),
            cite=(cite, DEEPINV),
        )

    return [
        Entry(
            name="baselines.pula",
            target="tiltkit_baselines.pula:Pula",
            summary="preconditioned unadjusted Langevin, exact likelihood, as in BART's sample",
            cite=(PULA,),
        ),
        Entry(
            name="baselines.replica",
            target="tiltkit_baselines.replica:Replica",
            summary="replica exchange across noise levels: right mode weights in small problems",
            cite=(REPLICA, TEMPERING),
        ),
        deepinv_entry("dps", "Dps", "deepinv's DPS: gradients through the prior", DPS),
        deepinv_entry(
            "diffpir",
            "DiffPir",
            "deepinv's DiffPIR: plug-and-play, no target distribution",
            DIFFPIR,
        ),
        deepinv_entry("ddrm", "Ddrm", "deepinv's DDRM: diagonalised operators only", DDRM),
        deepinv_entry("ula", "Ula", "deepinv's ULA: one noise level, many steps", ULA),
    ]
