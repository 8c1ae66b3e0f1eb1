"""What a sampler hands from level to level, and what it tells about each level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tiltkit.priors.score import reverse_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel
    from torch import Tensor

    from tiltkit.posterior.average import Average
    from tiltkit.posterior.level import Info
    from tiltkit.sampling.gaussian.conditioning import LastNoise
    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Sampler", "State", "LikelihoodTerm", "planned"]


@dataclass(frozen=True, slots=True)
class LikelihoodTerm:
    """The data seen from denoised particles: ``h(x) = N(y; A D(x), noise + A C A^H)``.

    Attributes:
        potential: (particle,) float64, ``-log h``, up to a shared constant.
        likelihood_score: (particle, ...), gradient of ``log h`` by the denoised image, in the
            coordinates of `Conditioning`.
        variance: Assumed error variance of ``D(x)``: the diagonal of ``C``, one value per band.
    """

    potential: Tensor
    likelihood_score: Tensor
    variance: Sequence[float]


@dataclass(frozen=True, slots=True)
class State:
    """Particles on their way down the noise ladder.

    Attributes:
        c: Particles in the sampler's coordinates (particle, ...).
        score: Score of the prior at the particles, in the same coordinates.
        log_weight: (particle,) float64, up to a shared constant.
        level: Noise level of the targets that the particles follow.
        last_noise: The last injected Gaussian noise, where the sampler uses it.
        likelihood_term: Likelihood at the denoised images; None where the target has it at ``x``.
        mean_jacobian: Mean diagonal of the denoiser's Jacobian, ``tr J / dim``; 0 where it was not
            measured. The prior's reverse kernel from this level a to b has the variance
            ``(b^2 + gap mean_jacobian) gap / a^2``, ``gap = a^2 - b^2``: exact for Gaussian priors.
        shared_ancestry: Share of the pairs of particles that resampling gave a common ancestor.
        denoised_mean: ``E[x0 | x_a, y]``, averaged over the particles of the level before; None
            where it was not computed.
    """

    c: Tensor
    score: Tensor
    log_weight: Tensor
    level: float
    last_noise: LastNoise | None = None
    likelihood_term: LikelihoodTerm | None = None
    mean_jacobian: float = 0.0
    shared_ancestry: float = 0.0
    denoised_mean: Average | None = None

    def kernel(self, level: float) -> float:
        """Variance of the prior's reverse kernel from here to a lower level."""
        return reverse_variance(self.level, level, self.mean_jacobian)


def planned(levels: Sequence[float], infos: Sequence[Info]) -> float | None:
    """The next of the planned levels; None at the end."""
    return levels[len(infos)] if len(infos) < len(levels) else None


class Sampler(Protocol):
    """A posterior sampler: start, one step per level, and the way back to images."""

    Options: ClassVar[type[BaseModel]]
    weighted: ClassVar[bool]

    def __init__(self, options: Any) -> None: ...

    def levels(self, target: Target) -> Sequence[float]:
        """The levels as planned, first one for `init`; repeated last ones collect samples.

        How many rounds collect, the option ``collect`` says where there is one: R-hat splits them.
        """
        ...

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """The level to visit next; None at the end.

        Samplers that follow their plan to the letter return `planned`.

        Args:
            target: The problem.
            state: After the last level; None before the first.
            infos: Of all levels so far.
        """
        ...

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Particles at the first level."""
        ...

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """From the state's level to ``level``."""
        ...

    def images(self, target: Target, state: State) -> Tensor:
        """Particles as images (particle, channel, *space)."""
        ...

    def scores(self, target: Target, state: State) -> Tensor | None:
        """The state's score of the prior as images; None for samplers that follow no score."""
        ...
