"""Twisted diffusion with potentials at the denoised particle, and no back-propagation.

Weighted particles on a variance-exploding path (twisted diffusion sampler: Wu et al.,
arXiv:2306.17775) towards the last target of annealed Langevin (Parulekar et al.,
arXiv:2508.07631). Targets at noise level a > tau, with the denoiser ``D``:

    mu_a ~ p_a(x) h_a(x),   h_a(x) = N(y; A D_a(x), noise + A C_a A^H),   0 <= C_a <= a^2
    mu_tau ~ p_tau(x) exp(-R(x)),  the last one, that of `Walmc`

The data see the particle through all that the prior knows, so that ``h_a`` decides between modes
while they still overlap. Below, where ``R_s(x)`` would go on to weigh noise, weights stay flat.
From a to b, with ``gap = a^2 - b^2`` and the prior's reverse kernel ``N(m, v I)``,
``m = x + gap score_a(x)``:

    x' = m + gap g + sqrt(v) xi,   log w += log [h_b(x') N(x'; m, v I)]
                                          - log [h_a(x) N(x'; m + gap g, v I)]

Whatever ``g`` is, integrating out ``x`` leaves ``h_b(x') int p_a(x) N(x'; m(x), v I) dx``, which
is ``mu_b`` as far as the kernel carries ``p_a`` to ``p_b``. How ``g`` is found, and ``C_a`` and
``v`` from averages over all particles of the level before: `tiltkit.sampling.samplers.guidance`.

Given the data, a particle is exchangeable with the truth plus noise, if the prior is right: the
residual of ``D_a(x)`` then has the covariance ``noise + a^2 A J A^H``. How much larger it is, with
the mean diagonal of ``J`` in each band, is reported per level: it tells images that the prior does
not know, and is too sure of. Where it is too large, a run without a ``tau`` of the user's ends at
twice the smallest level that the prior knows: early stopping, which the theory of annealed Langevin
has anyway, keeps noise in the samples where the prior would take out more than it knows.

On the ladder particles are images, so that the tilt's coordinates are visited once per level; at
``tau`` they are in these coordinates, as `Walmc` has them.

What a particle leaves to expect, given the data, is ``D_a(x) + a^2 J u``, Tweedie's formula for
``p_a h_a`` where ``g`` is exact. Its mean over particles, which are few, has less chance in it than
that of their samples, and is handed on for `PosteriorMean`.

Cost: two network calls per level (``J u`` before a step, the score after it) and one per collected
round, which is a Langevin move of `Walmc` at ``tau``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field

from tiltkit.posterior.level import reliable_residual_ratio
from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.particles.ladder import adaptive_level, bounds
from tiltkit.sampling.particles.weighing import (
    resampled,
    weigh,
)
from tiltkit.sampling.samplers.guidance import (
    from_prior,
    likelihood_term_at,
    predict,
    require_likelihood_term,
)
from tiltkit.sampling.samplers.options import LadderOptions, WeightOptions
from tiltkit.sampling.samplers.start import images_of, refuse_corrections, score_at
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.state import State, planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.posterior.level import Info
    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.samplers.guidance import Prediction
    from tiltkit.sampling.target import Target

__all__ = ["Twisted", "TwistedOptions"]


# Last level of a run whose prior is too sure, over the smallest that it knows: wider intervals for
# a slightly blurred mean. Chosen by hand.
EARLY = 2.0
# Misfit from which on a run does so: less than what is worth a warning.
TOO_SURE = 1.2


class TwistedOptions(WeightOptions):
    """Settings of `Twisted`."""

    renamed: ClassVar[dict[str, str]] = WeightOptions.renamed | {"probe": "difference_step"}

    step: float = Field(
        0.5, gt=0, le=5, description="length of a collected move, in relaxation times"
    )
    rho: float = Field(
        20.0, ge=1, le=1000, description="shape of the ladder: larger gives a more constant ratio"
    )
    difference_step: float = Field(
        0.3, gt=0, le=10, description="length of the finite difference, in posterior standard"
        " deviations of the denoised image"
    )  # fmt: skip
    resample_below: float = Field(
        1.0, gt=0, le=1, description="resample when the ESS falls below this share"
    )


class Twisted:
    """The sampler."""

    Options = TwistedOptions
    weighted: ClassVar[bool] = True
    presets = Walmc.presets

    def __init__(self, options: TwistedOptions) -> None:
        self.options = options
        # The ladder and its last level are those of annealed Langevin.
        shared = options.model_dump(include=set(LadderOptions.model_fields) - {"adapt"})
        self._langevin = Walmc(WalmcOptions.model_validate(shared))

    def levels(self, target: Target) -> list[float]:
        """The ladder; its last level repeated to collect samples."""
        refuse_corrections(target)
        return self._langevin.levels(target)

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """As planned, or so that all levels make the weights about equally uneven.

        The level ahead is taken to be as uneven as the one before. Where the data show that the
        prior is too sure, the last level is a higher one.
        """
        early = self._early_stop(target)
        if state is not None and state.level == early:
            return early if sum(info.final for info in infos) < self.options.collect else None
        ahead = self._ahead(target, infos)
        if state is None or ahead is None or early is None or not ahead < early < state.level:
            return ahead
        return early if (reliable_residual_ratio(infos) or 0.0) > TOO_SURE else ahead

    def _early_stop(self, target: Target) -> float | None:
        """The last level of a run that is surprised by its data; None where the user chose one."""
        low, high = target.problem.prior.sigma_range
        first, _ = bounds((low, high), self.options.sigma_max, self.options.tau)
        early = EARLY * low
        return early if self.options.tau is None and early < first else None

    def _ahead(self, target: Target, infos: Sequence[Info]) -> float | None:
        """The next level, if nothing is wrong."""
        levels, rho = self.levels(target), self.options.rho
        plan = levels[: self.options.levels]
        if len(infos) < 2 or not self.options.adapt or len(infos) >= len(plan):
            return planned(levels, infos)
        path = [info.noise_level for info in infos]
        done, step = (u ** (1 / rho) for u in path[-2:])
        length = done - step

        def ahead(level: float) -> float:
            share: float = (step - level ** (1 / rho)) / length
            return infos[-1].kl * share**2

        return adaptive_level(path, [info.kl for info in infos], ahead, plan, rho)

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Draw from the prior, all but Gaussian at the first level, and weigh."""
        prediction = from_prior(target, level, rng)
        nothing = State(prediction.c, prediction.score, prediction.log_ratio, level)
        return self._weigh_prediction(target, prediction, level, nothing, rng)

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """From noise level a to b < a: guided prediction, weights, resampling.

        ``b == a`` is a round of moves at the last level; its particles are samples.
        """
        if level == state.level:
            ended = self._langevin.options.model_copy(update={"tau": level})
            return Walmc(ended).step(target, state, level, rng)
        _, last = bounds(target.problem.prior.sigma_range, self.options.sigma_max, self.options.tau)
        if level in (last, self._early_stop(target)):
            return self._arrive(target, state, level, rng)
        prediction = predict(target, state, level, rng, self.options.difference_step)
        return self._weigh_prediction(target, prediction, level, state, rng)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return state.c if state.likelihood_term else images_of(target, state.c)

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return state.score if state.likelihood_term else images_of(target, state.score)

    def _weigh_prediction(
        self, target: Target, prediction: Prediction, level: float, before: State, rng: ParticleRng
    ) -> tuple[State, Info]:
        """Weigh particles by the data as seen from the denoised ones; resample."""
        likelihood_term, residual_ratio = likelihood_term_at(target, prediction, level)
        new = replace(
            before, c=prediction.c, score=prediction.score, level=level,
            likelihood_term=likelihood_term, mean_jacobian=prediction.mean_jacobian,
            denoised_mean=prediction.denoised_mean,
        )  # fmt: skip
        new, info = self._weighed(new, prediction.log_ratio - likelihood_term.potential, rng)
        share = prediction.mean_jacobian
        dof = share * prediction.c[0].numel()
        return new, replace(info, residual_ratio=residual_ratio, dof=dof, dof_fraction=share)

    def _arrive(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """The last step, to the target with the data seen from the particle itself.

        Twisted by that target as in `Walmc`: a draw from ``N(m, v I) exp(-R)``, whose normaliser
        over the old ``h`` is the weight.
        """
        likelihood_term = require_likelihood_term(state)
        gap = state.level**2 - level**2
        step = Step(state.kernel(level), 0.0)
        increment = likelihood_term.potential.clone()
        parts = []
        for rows in target.chunks():
            m = target.conditioning.coordinates(
                torch.add(state.c[rows], state.score[rows], alpha=gap)
            )
            predicted, noise, log_z = target.conditioning.predict(m, step, rng, rows)
            c, last_noise = target.constrained(predicted, noise)
            increment[rows] += log_z
            parts.append((c, score_at(target, c, level), (last_noise or noise).xi))
        c, score, xi = (torch.cat(three) for three in zip(*parts, strict=True))
        noise = replace(noise, xi=xi)
        new = State(c, score, state.log_weight, level, noise, shared_ancestry=state.shared_ancestry)
        return self._weighed(new, increment, rng)

    def _weighed(self, state: State, increment: Tensor, rng: ParticleRng) -> tuple[State, Info]:
        """New weights; equal ones after resampling."""
        o = self.options
        log_weight, info = weigh(
            state.level, increment, state.log_weight, shared_ancestry=state.shared_ancestry,
            min_ess=o.min_ess, resample_below=o.resample_below,
            most_shared_ancestry=o.most_shared_ancestry,
        )  # fmt: skip
        state = replace(state, log_weight=log_weight)
        return (resampled(state, rng) if info.resampled else state), info
