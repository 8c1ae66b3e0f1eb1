"""deepinv's DPS, DiffPIR, DDRM and ULA as samplers of tiltkit, to compare with.

deepinv expects images between 0 and 1. Images ``x`` of the prior become
``(x - low) / (high - low)``; data and noise are shifted and scaled accordingly, and ``A`` is kept.
Two properties of deepinv 0.5 are worked around. Its samples depend on their batch, and ``seed=0``
is ignored: particles run one at a time, each with its own seed, in a fork of the global random
state. Its default denoisers are downloaded: here the prior is the denoiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.cg import norm_squared
from tiltkit.posterior.level import Info
from tiltkit.protocols import SpectralOperator
from tiltkit.sampling.state import State, planned
from tiltkit_baselines.scaled import Denoiser, Scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = [
    "Ddrm", "DdrmOptions", "DiffPir", "DiffPirOptions", "Dps", "DpsOptions", "Ula", "UlaOptions",
]  # fmt: skip


class DeepinvOptions(BaseModel):
    """Options of all of deepinv's samplers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(-1.0, description="image value that becomes 0 for deepinv")
    high: float = Field(1.0, description="image value that becomes 1 for deepinv")


class DpsOptions(DeepinvOptions):
    """Options of `Dps`, with deepinv's names and defaults."""

    steps: int = Field(1000, ge=2, description="time steps")
    guidance: Literal["norm", "annealed"] = Field(
        "norm",
        description="norm: as published; annealed: scaled by the noise variance",
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="weight of the data; about 1 with annealed, often hundreds with norm",
    )
    schedule: Literal["vp", "ve"] = Field("vp", description="variance preserving or exploding")


class DiffPirOptions(DeepinvOptions):
    """Options of `DiffPir`, with deepinv's names and defaults."""

    steps: int = Field(100, ge=2, le=1000, description="iterations")
    zeta: float = Field(0.1, ge=0, le=1, description="share of new noise in a step")
    lambda_: float = Field(7.0, gt=0, description="weight of the prior against the data")


class DdrmOptions(DeepinvOptions):
    """Options of `Ddrm`, with deepinv's names and defaults."""

    steps: int = Field(100, ge=2, description="noise levels, evenly spaced from 1 to 0")
    eta: float = Field(0.85, ge=0, le=1, description="share of new noise in unmeasured coordinates")
    etab: float = Field(1.0, ge=0, le=1, description="weight of the data in measured coordinates")


class UlaOptions(DeepinvOptions):
    """Options of `Ula`, with deepinv's names and defaults, except for the step."""

    steps: int = Field(1000, ge=1, description="steps of the chain")
    sigma: float = Field(0.05, gt=0, description="noise level of the prior, images between 0 and 1")
    alpha: float = Field(1.0, gt=0, description="weight of the prior")
    step_size: float | None = Field(None, gt=0, description="half of the stability limit when not "
                                    "given; deepinv's own default, 1, diverges")  # fmt: skip


class DeepinvSampler(ABC):
    """Base class: runs one of deepinv's samplers once per particle.

    Levels count the remaining particles. There are no weights and no scores of a last target, so
    that the certificate has no Fisher divergence. The problem's constraint is applied to finished
    samples only.
    """

    Options: ClassVar[type[BaseModel]]
    weighted: ClassVar[bool] = False

    def __init__(self, options: Any) -> None:
        self.options = options
        if not options.low < options.high:
            raise UsageError(
                f"The image range {options.low:g} to {options.high:g} is empty.",
                "set sampler.low below sampler.high.",
            )

    def levels(self, target: Target) -> list[float]:
        """Numbers of remaining particles, from all to 0."""
        return [float(left) for left in range(target.n, -1, -1)]

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`."""
        return planned(self.levels(target), infos)

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Zeros, after a check that the sampler supports the problem."""
        with torch.inference_mode(mode=False):
            self._check(self._scaled(target))
        shape = (target.n, *target.problem.shape)
        x = torch.zeros(shape, dtype=target.dtype, device=target.device)
        return self._state(target, x, level)

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """The state with one more sample."""
        particle = target.n - int(state.level)
        rows = slice(particle, particle + 1)
        seed = int(rng.normal(rows, (), torch.float64).view(torch.int64)) & (2**63 - 1)
        with torch.inference_mode(mode=False), torch.no_grad(), _seeded(seed, target.device):
            scaled = self._scaled(target)
            sample = scaled.image(self._sample(scaled, Denoiser(scaled)))
        x = state.c.clone()
        x[rows] = target.constrain_images(sample)
        return self._state(target, x, level)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return state.c

    def scores(self, target: Target, state: State) -> None:
        """None: these samplers have no last target."""
        return

    @abstractmethod
    def _sample(self, scaled: Scaled, denoiser: Denoiser) -> Tensor:
        """One sample between 0 and 1, (1, channel, *space); may use the global random state."""

    def _check(self, scaled: Scaled) -> None:
        """Check that the sampler supports the problem.

        Raises:
            TiltkitError: It does not.
        """
        return

    def _scaled(self, target: Target) -> Scaled:
        likelihood = target.problem.likelihood
        if not isinstance(likelihood, GaussianLikelihood):
            raise UsageError(
                f"deepinv's samplers need a Gaussian likelihood, not {type(likelihood).__name__}.",
                "use --sampler moments or almc.",
            )
        return Scaled(target, likelihood, self.options.low, self.options.high - self.options.low)

    def _state(self, target: Target, x: Tensor, level: float) -> tuple[State, Info]:
        zero = torch.zeros(target.n, dtype=torch.float64, device=target.device)
        # Finished samples have no noise: the last operation of each is a denoiser.
        done = level == 0
        sigma = 0.0 if done else target.problem.prior.sigma_range[0]
        info = Info(noise_level=sigma, ess=float(target.n), final=done)
        return State(x, torch.zeros_like(x), zero, level), info


class Dps(DeepinvSampler):
    """Diffusion posterior sampling through deepinv.

    It replaces ``p(y | x_t)`` by ``p(y | D(x_t))``, so that no level has an exact target. It costs
    ``steps - 1`` network calls per sample, and as many gradients through the network. A gradient
    costs about 1.4 calls and is not counted. deepinv's defaults give the data a small weight: try
    ``guidance=annealed``.

    Needs a prior that can be differentiated. Cite Chung et al., ICLR 2023, arXiv:2209.14687.
    """

    Options = DpsOptions

    def _check(self, scaled: Scaled) -> None:
        prior, target = scaled.target.problem.prior, scaled.target
        x = torch.zeros((1, *target.problem.shape), dtype=target.dtype, device=target.device)
        with torch.enable_grad():
            # A score (D(x) - x) / sigma^2 has a gradient even where D has none, so test D itself.
            denoise = getattr(prior, "denoise", prior.score)
            clean = denoise(x.requires_grad_(), prior.sigma_range[1])
        if not clean.requires_grad:
            raise TiltkitError(
                f"DPS differentiates through the prior, which {type(prior).__name__} does not"
                " allow.",
                "use a network or closed-form prior, or --sampler walmc.",
            )

    def _sample(self, scaled: Scaled, denoiser: Denoiser) -> Tensor:
        from deepinv.sampling import DPS

        o, device = self.options, scaled.target.device
        sampler = DPS(
            denoiser, schedule=o.schedule, num_steps=o.steps, weight=o.weight,
            guidance=o.guidance, device=device,
        )  # fmt: skip
        shape = (1, *scaled.target.problem.shape)
        sample: Tensor = sampler(scaled.y, scaled.physics(), x_init=shape)
        return sample


class DiffPir(DeepinvSampler):
    """Diffusion plug-and-play restoration through deepinv.

    It has no target distribution: it alternates denoising, a proximal step on the data and new
    noise. It costs ``steps`` network calls per sample. Denoised images are clamped between ``low``
    and ``high`` in each step; this range must include all image values of the prior.

    Cite Zhu et al., CVPRW 2023, arXiv:2305.08995.
    """

    Options = DiffPirOptions

    def _sample(self, scaled: Scaled, denoiser: Denoiser) -> Tensor:
        from deepinv.optim.data_fidelity import L2
        from deepinv.sampling import DiffPIR

        o = self.options
        sampler = DiffPIR(
            denoiser, L2(), sigma=scaled.sigma, max_iter=o.steps, zeta=o.zeta, lambda_=o.lambda_,
            device=scaled.target.device,
        )  # fmt: skip
        sample: Tensor = sampler(scaled.y, scaled.physics(), x_init=scaled.start)
        return sample


class Ddrm(DeepinvSampler):
    """Denoising diffusion restoration models through deepinv.

    It treats each coordinate in which ``A^H A`` is diagonal independently. It costs ``steps``
    network calls per sample. deepinv 0.5 draws noise with half of the variance (it divides by the
    square root of 2), so that the spread of samples is too small; this is not corrected.

    Needs a diagonalised operator. Cite Kawar et al., NeurIPS 2022, arXiv:2201.11793.
    """

    Options = DdrmOptions

    def _check(self, scaled: Scaled) -> None:
        operator = scaled.likelihood.operator
        if not isinstance(operator, SpectralOperator):
            raise UsageError(
                f"DDRM needs a diagonalised operator, and {type(operator).__name__} is none.",
                "use --sampler baselines.diffpir, baselines.dps or walmc.",
            )

    def _sample(self, scaled: Scaled, denoiser: Denoiser) -> Tensor:
        from deepinv.physics import DecomposablePhysics, GaussianNoise
        from deepinv.sampling import DDRM

        target, operator, o = scaled.target, scaled.likelihood.operator, self.options
        assert isinstance(operator, SpectralOperator)  # noqa: S101  (checked at the start)
        back, gains = operator.to_spectral(operator.adjoint(scaled.y)), operator.eigenvalues.sqrt()
        if back.is_complex():  # deepinv gets real components, as `Conditioning.coordinates` returns
            back, gains = torch.view_as_real(back), gains[..., None]
        gains = gains.to(target.dtype).expand_as(back)
        measured = gains > gains.max() * torch.finfo(gains.dtype).eps ** 0.5 * 10
        physics = DecomposablePhysics(
            V_adjoint=target.conditioning.coordinates,
            V=target.conditioning.image,
            mask=torch.where(measured, gains, 0.0),
            noise_model=GaussianNoise(scaled.sigma),
            device=target.device,
        )
        levels = torch.linspace(1, 0, o.steps, dtype=torch.float64).tolist()
        sampler = DDRM(denoiser, sigmas=levels, eta=o.eta, etab=o.etab)
        # Data whose noise is white in these coordinates.
        y = torch.where(measured, back / gains, 0.0)
        sample: Tensor = sampler(y, physics)
        return sample


class Ula(DeepinvSampler):
    """The plug-and-play unadjusted Langevin algorithm through deepinv; one chain per sample.

    The target is ``p_sigma^alpha exp(-R)`` at one noise level. Without a ladder a chain stays in
    one mode. It needs many steps where the data determine some directions far better than others.
    It costs ``steps`` network calls per sample.

    Cite Laumont et al., SIAM J. Imaging Sci. 15 (2022), arXiv:2103.04715.
    """

    Options = UlaOptions

    def _sample(self, scaled: Scaled, denoiser: Denoiser) -> Tensor:
        from deepinv.optim.data_fidelity import L2
        from deepinv.optim.prior import ScorePrior
        from deepinv.sampling import sampling_builder

        o = self.options
        sampler = sampling_builder(
            "ULA",
            L2(sigma=scaled.sigma),
            ScorePrior(denoiser),
            {"step_size": self._step_size(scaled), "alpha": o.alpha, "sigma": o.sigma},
            max_iter=o.steps,
            burnin_ratio=0.0,
            thinning=1,
            history_size=1,
            clip=(-1.0, 2.0),
        )
        sampler.sample(scaled.y, scaled.physics(), x_init=scaled.start)
        sample: Tensor = sampler.get_chain()[-1]["x"]
        return sample

    def _step_size(self, scaled: Scaled) -> float:
        """The option, or half of ``1 / (alpha / sigma^2 + |A|^2 / noise_var)``."""
        o = self.options
        if o.step_size is not None:
            return float(o.step_size)
        image = torch.ones(
            (1, *scaled.target.problem.shape),
            dtype=scaled.target.dtype,
            device=scaled.target.device,
        )
        data = norm_squared(scaled.likelihood.operator, image) / scaled.sigma**2
        return float(0.5 / (o.alpha / o.sigma**2 + data))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random state inside of the context, and restore it at the end."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed(seed)
        yield
