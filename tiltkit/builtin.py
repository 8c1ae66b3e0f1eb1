"""What tiltkit itself brings, through the same hooks as every plugin."""

from __future__ import annotations

from tiltkit.hookspecs import Entry, PriorEntry, WriterEntry, hookimpl

__all__ = [
    "tiltkit_metrics", "tiltkit_operators", "tiltkit_priors", "tiltkit_samplers",
    "tiltkit_writers",
]  # fmt: skip

ALMC = (
    "Parulekar et al., Efficient approximate posterior sampling with annealed Langevin Monte Carlo,"
    " ICLR 2026, arXiv:2508.07631"
)
TDS = (
    "Wu et al., Practical and asymptotically exact conditional sampling in diffusion models,"
    " NeurIPS 2023, arXiv:2306.17775"
)
CHAMBOLLE = (
    "Chambolle, An algorithm for total variation minimization and applications, J. Math. Imaging"
    " Vis. 20 (2004) 89-97"
)
DEEPINV = (
    "Tachella et al., DeepInverse: a Python package for solving imaging inverse problems with deep"
    " learning, J. Open Source Softw. (2025), doi:10.21105/joss.08923"
)
SSIM = (
    "Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE"
    " Trans. Image Process. 13 (2004) 600-612"
)


@hookimpl
def tiltkit_samplers() -> list[Entry]:
    """The weighted sampler, and the published one without weights."""
    return [
        Entry(
            name="walmc",
            target="tiltkit.sampling.walmc:Walmc",
            summary="weighted annealed Langevin: exact particle weights, Gaussian noise",
            cite=(ALMC, TDS),
        ),
        Entry(
            name="almc",
            target="tiltkit.sampling.almc:Almc",
            summary="annealed Langevin as published: any differentiable potential, no weights",
            cite=(ALMC,),
        ),
    ]


@hookimpl
def tiltkit_priors() -> list[PriorEntry]:
    """Priors that need no training."""
    return [
        PriorEntry(
            name="gaussian",
            target="tiltkit.priors.closed_form:gaussian_prior",
            summary="smooth Gaussian with the spectrum of natural images; exact",
        ),
        PriorEntry(
            name="tv",
            target="tiltkit.priors.denoiser:tv_prior",
            summary="total variation, piecewise constant images; its spread is a rough guess",
            cite=(CHAMBOLLE,),
        ),
    ]


@hookimpl
def tiltkit_operators() -> list[Entry]:
    """A door to the forward models of deepinv."""
    return [
        Entry(
            name="deepinv",
            target="tiltkit.operators.deepinv:DeepinvOperator",
            summary="any linear physics of deepinv",
            requires=("deepinv",),
            cite=(DEEPINV,),
        )
    ]


@hookimpl
def tiltkit_metrics() -> list[Entry]:
    """Distance to the truth, and honesty about it."""

    def metric(name: str, summary: str, *cite: str) -> Entry:
        return Entry(name=name, target=f"tiltkit.metrics:{name}", summary=summary, cite=cite)

    return [
        metric("psnr", "peak signal-to-noise ratio of the mean in dB; more is better"),
        metric("ssim", "structural similarity of the mean; 1 is equality", SSIM),
        metric("nrmse", "relative error of the mean; less is better"),
        metric("chi2", "data residual per measurement over the noise; 1 is expected"),
        metric("coverage90", "share of pixels inside their 90 % interval; 0.9 is calibrated"),
        metric("spread_ratio", "error over spread; 1 is calibrated, above 1 is overconfident"),
    ]


@hookimpl
def tiltkit_writers() -> list[WriterEntry]:
    """The result file itself."""
    return [
        WriterEntry(
            name="hdf5",
            target="tiltkit.files.result:copy_result",
            summary="the result as it is: NeXus HDF5",
            suffix=".h5",
        )
    ]
