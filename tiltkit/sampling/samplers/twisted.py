"""Twisted diffusion sampler (`twisted`): likelihood at the denoised image, no back-propagation.

Weighted particles (Wu et al., arXiv:2306.17775, whose twisting function is ``h_a``) on a
variance-exploding path to the last target of annealed Langevin (Parulekar et al.,
arXiv:2508.07631). Targets at noise level a > tau, with the denoiser ``D_a``:

    mu_a ~ p_a(x) h_a(x),   h_a(x) = N(y; A D_a(x), S_a),   S_a = noise_var I + A C_a A^H
    mu_tau ~ p_tau(x) exp(-R(x)),   the exact likelihood, as in `Walmc`

``C_a`` is the assumed error covariance of ``D_a(x)``, between 0 and ``a^2``. The denoised image
decides between modes while they still overlap; with the likelihood at ``x`` itself weights would go
on to depend on noise at low levels. One level, from a to b < a, with ``gap = a^2 - b^2`` and the
prior's reverse kernel ``N(m, v I)``, ``m = x + gap score_a(x)``:

    predict    x' = m + gap g + sqrt(v) xi                         guidance g ~ grad log h_a(x)
    weigh      log w += log [h_b(x') N(x'; m, v I)] - log [h_a(x) N(x'; m + gap g, v I)]
    resample   where the effective sample size is small

For any ``g``, integrating out ``x`` leaves ``h_b(x') int p_a(x) N(x'; m(x), v I) dx``. This is
``mu_b`` as far as the kernel carries ``p_a`` to ``p_b``. How ``g``, ``C_a`` and ``v`` are found:
`tiltkit.sampling.samplers.guidance`.

Reported per level:

* The residual ratio: the squared residual of ``D_a(x)`` over its expected value. If the prior is
  right, the covariance of the residual is ``noise_var I + a^2 A J A^H``. A ratio above 1 shows
  images unlike those of the prior.
* ``E[x0 | x_a, y] = D_a(x) + a^2 g``: Tweedie's formula for ``p_a h_a``, for `PosteriorMean`. Its
  mean over few particles has a smaller variance than that of their samples (Rao-Blackwell).

Particles are images above ``tau``. At ``tau`` they are in the coordinates of `Conditioning`, as in
`Walmc`, whose moves collect the samples.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.jacobian import joined
from tiltkit.sampling.particles.ladder import bounds
from tiltkit.sampling.particles.weighing import weigh
from tiltkit.sampling.samplers.guidance import denoised_likelihood, predict, predict_first
from tiltkit.sampling.samplers.options import LadderOptions, WeightOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.settle import level_or_settling
from tiltkit.sampling.state import State, planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.posterior.level import Info
    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.samplers.guidance import Prediction
    from tiltkit.sampling.target import Target

__all__ = ["Twisted", "TwistedOptions"]


class TwistedOptions(WeightOptions):
    """Options of `Twisted`; noise levels are in the prior's units."""

    renamed: ClassVar[dict[str, str]] = WeightOptions.renamed | {"probe": "difference_step"}
    removed: ClassVar[dict[str, tuple[Any, str]]] = WeightOptions.removed | {
        "resample_below": (1.0, "other values changed results within scatter only")
    }

    step: float = Field(
        0.5, gt=0, le=5, description="length of a collected Langevin move, in relaxation times"
    )
    rho: float = Field(20.0, ge=1, le=1000, description="exponent of the ladder: larger makes the "
                       "ratio of neighbouring levels more constant")  # fmt: skip
    difference_step: float = Field(0.3, gt=0, le=10, description="length of the finite difference "
                                   "for the guidance, in posterior standard deviations of the "
                                   "denoised image")  # fmt: skip


class Twisted:
    """The sampler. It costs two network calls per level and one per collected round."""

    Options = TwistedOptions
    weighted: ClassVar[bool] = True
    presets = Walmc.presets

    def __init__(self, options: TwistedOptions) -> None:
        self.options = options
        shared = options.model_dump(include=set(LadderOptions.model_fields))
        self._langevin = Walmc(WalmcOptions.model_validate(shared))

    def levels(self, target: Target) -> list[float]:
        """The ladder; its last level is repeated to collect samples.

        Raises:
            UsageError: The likelihood is not Gaussian, or a level is outside the prior's range.
        """
        target.require_gaussian()
        return self._langevin.levels(target)

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`."""
        level = planned(self.levels(target), infos)
        return level_or_settling(level, target, self, state, infos, self.options.settle)

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Samples of the prior at the first level, weighted by ``h``."""
        prediction = predict_first(target, level, rng)
        # State before the first level: equal weights.
        log_weight = torch.zeros(target.n, dtype=torch.float64)
        state = State(prediction.c, prediction.score, log_weight, level)
        return self._weigh_denoised(target, prediction, level, state, rng)

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """From noise level a to b < a: predict, weigh, resample.

        ``b == a`` is a round of moves at the last level; its particles are samples.
        """
        if level == state.level:
            return self._langevin.step(target, state, level, rng)
        _, last = bounds(target.problem.prior.sigma_range, self.options.sigma_max, self.options.tau)
        if level == last:
            return self._last_step(target, state, level, rng)
        prediction = predict(target, state, level, rng, self.options.difference_step)
        return self._weigh_denoised(target, prediction, level, state, rng)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return state.c if state.likelihood_term else target.images(state.c)

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return state.score if state.likelihood_term else target.images(state.score)

    def _weigh_denoised(
        self, target: Target, prediction: Prediction, level: float, before: State, rng: ParticleRng
    ) -> tuple[State, Info]:
        """Weights ``h_b(x') N(x'; m, v I) / (h_a(x) N(x'; m + gap g, v I))``, and resampling."""
        term, ratio = denoised_likelihood(target, prediction, level)
        # All that the host needs of this level, in one copy.
        increment = prediction.log_ratio - term.potential
        sums = prediction.jacobian.sums
        on_host = torch.cat([increment, ratio, sums.flatten()]).cpu()
        increment, ratio, rest = torch.split(on_host, [target.n, target.n, sums.numel()])
        mean_jacobian = prediction.jacobian.mean_of(rest.view(sums.shape).numpy())
        state = replace(
            before, c=prediction.c, score=prediction.score, level=level, likelihood_term=term,
            mean_jacobian=mean_jacobian, denoised_mean=prediction.denoised_mean,
        )  # fmt: skip
        state, info = self._weigh(state, increment, rng)
        dof = mean_jacobian * prediction.c[0].numel()
        residual_ratio = float(ratio.numpy().mean())
        info = replace(info, residual_ratio=residual_ratio, dof=dof, dof_fraction=mean_jacobian)
        return state, info

    def _last_step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """The step to the last target ``p_tau exp(-R)``, with the likelihood at ``x`` itself.

        ``x' ~ N(m, v I) exp(-R) / Z(m)`` as in `Walmc`; the weight is ``Z(m) / h_a(x)``.
        """
        term, gap = state.likelihood_term, state.level**2 - level**2
        assert term is not None  # noqa: S101  (states above tau have one)
        step = Step(state.kernel_variance(level), 0.0)
        increment = term.potential.clone()  # -log h_a(x)
        parts = []
        for rows in target.chunks():
            x, score = state.c[rows], state.score[rows]
            m = target.conditioning.coordinates(torch.add(x, score, alpha=gap))
            predicted, noise, log_z = target.conditioning.predict(m, step, rng, rows)
            c, last_noise = target.constrain(predicted, noise)
            increment[rows] += log_z
            parts.append((c, target.score_at(c, level), (last_noise or noise).xi))
        c, score, xi = (joined(three) for three in zip(*parts, strict=True))
        new = State(
            c, score, state.log_weight, level, replace(noise, xi=xi),
            shared_ancestry=state.shared_ancestry, started_over=state.started_over,
        )  # fmt: skip
        return self._weigh(new, increment, rng)

    def _weigh(self, state: State, increment: Tensor, rng: ParticleRng) -> tuple[State, Info]:
        o = self.options
        return weigh(
            state, increment, rng, min_ess=o.min_ess, resample_below=1.0,
            most_shared_ancestry=o.most_shared_ancestry,
        )  # fmt: skip
