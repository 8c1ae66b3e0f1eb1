"""The contract of a sampler: the state that it passes from level to level, and its methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tiltkit.priors.score import reverse_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel
    from torch import Tensor

    from tiltkit.posterior.average import MeanEstimate
    from tiltkit.posterior.level import Info
    from tiltkit.sampling.gaussian.conditioning import LastNoise
    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Guidance", "LikelihoodTerm", "Sampler", "State", "planned"]


@dataclass(frozen=True, slots=True)
class LikelihoodTerm:
    """Likelihood at the denoised images: ``h(x) = N(y; A D(x), noise_var I + A C A^H)``.

    Attributes:
        potential: ``-log h`` up to a constant that all particles share, (particle,) float64.
        score: Likelihood score ``A^H (noise_var I + A C A^H)^-1 (y - A D(x))``: the gradient of
            ``log h`` with respect to ``D(x)``, (particle, ...), in the coordinates of
            `Conditioning`.
    """

    potential: Tensor
    score: Tensor

    def at(self, rows: Tensor) -> LikelihoodTerm:
        """The term of the particles ``rows``."""
        return replace(self, potential=self.potential[rows], score=self.score[rows])


@dataclass(frozen=True, slots=True)
class Guidance:
    """Pull of the data on the particles of one noise level.

    Attributes:
        score: Gradient of the log of the likelihood given the noisy image (particle, channel,
            *space).
        variance: Error covariance of the denoised images: one value per shell of spatial
            frequency.
    """

    score: Tensor
    variance: Sequence[float]


@dataclass(frozen=True, slots=True)
class State:
    """Weighted particles at one level of the noise ladder.

    Attributes:
        c: Particles in the sampler's coordinates (particle, ...).
        score: Score of the noised prior at the particles, shaped as ``c``.
        log_weight: Log weights up to a shared constant, (particle,) float64, on the host.
        level: The level: a noise level, or what else the sampler's `levels` count.
        last_noise: The last injected Gaussian noise; None where the sampler does not use it.
        likelihood_term: Likelihood at the denoised images; None where the target has the likelihood
            at ``x`` itself.
        mean_jacobian: Mean diagonal of the denoiser's Jacobian, ``tr J / dim`` in [0, 1]; 0 where
            it was not measured.
        shared_ancestry: Share of pairs of particles with a common ancestor, in [0, 1].
        denoised_mean: ``E[x0 | x_a, y]`` averaged over the particles of the level before, in the
            user's units; None where it was not computed.
        guidance: Pull of the data; None at the last level and where the sampler has none.
        started_over: Number of times that the sampler started over. Reports and samples of levels
            before the last start do not count.
    """

    c: Tensor
    score: Tensor
    log_weight: Tensor
    level: float
    last_noise: LastNoise | None = None
    likelihood_term: LikelihoodTerm | None = None
    mean_jacobian: float = 0.0
    shared_ancestry: float = 0.0
    denoised_mean: MeanEstimate | None = None
    guidance: Guidance | None = None
    started_over: int = 0

    def kernel_variance(self, level: float) -> float:
        """Variance ``v`` of the prior's reverse kernel from this level a to a lower level b.

        ``v = (b^2 + gap j) gap / a^2`` with ``gap = a^2 - b^2`` and ``j = tr J / dim``. This is
        exact for white Gaussian priors. With ``j = 0`` it is the variance of the DDPM step.
        """
        return reverse_variance(self.level, level, self.mean_jacobian)


def planned(levels: Sequence[float], infos: Sequence[Info]) -> float | None:
    """The next of the planned levels, after one level for each of ``infos``; None at the end."""
    return levels[len(infos)] if len(infos) < len(levels) else None


class Sampler(Protocol):
    """A posterior sampler: a first state, a step per level, and the state's images.

    Attributes:
        Options: Model of the settings; an instance of it is the only argument of the constructor.
        weighted: True where particles carry weights, which the certificate then reports.
    """

    Options: ClassVar[type[BaseModel]]
    weighted: ClassVar[bool]

    def __init__(self, options: Any) -> None: ...

    def levels(self, target: Target) -> Sequence[float]:
        """The planned levels: one for `init`, then one for each `step`.

        A last level that is repeated collects samples. The option ``collect``, where there is one,
        is the number of these rounds; the split R-hat compares their first and second half.
        """
        ...

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """The next level; None at the end of the run.

        Samplers without an adaptive ladder return `planned`.

        Args:
            target: The problem.
            state: State after the last level; None before the first.
            infos: Reports of all levels so far, since the sampler last started over.
        """
        ...

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """The state at the first level, and its report."""
        ...

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """The state at ``level``, from that at the level before, and its report."""
        ...

    def images(self, target: Target, state: State) -> Tensor:
        """Particles as images (particle, channel, *space), in the prior's value range."""
        ...

    def scores(self, target: Target, state: State) -> Tensor | None:
        """Scores of the prior at the particles, shaped as `images`.

        None for samplers without a last target.
        """
        ...
