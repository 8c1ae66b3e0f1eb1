"""Samples of small problems with a posterior in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target
from tiltkit.testing.known import Known


def sample(
    known: Known,
    *,
    n: int = 2000,
    seed: int = 0,
    chunk: int | None = None,
    dtype: torch.dtype = torch.float64,
    **options: float,
) -> Tensor:
    """Samples of `Walmc` as a matrix (n, pixel)."""
    defaults = {"levels": 60, "start_moves": 10, "collect": 1, "min_ess": 0.0}
    sampler = Walmc(WalmcOptions.model_validate(defaults | options))
    target = Target(known.problem, n, chunk or n, dtype=dtype)
    *_, (state, _) = run(target, sampler, ParticleRng([seed], n, target.device))
    return sampler.images(target, state)
