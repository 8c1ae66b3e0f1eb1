"""Operations of a level beside those of the network, each about one launch on a GPU."""

from __future__ import annotations

import pytest
import torch
from tiltkit_mri.operators import CartesianSense
from torch.utils._python_dispatch import TorchDispatchMode

from tiltkit.hookspecs import PriorEntry
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.priors.denoiser import NetworkOptions, network_prior
from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.moments import Moments, MomentsOptions
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target

N, SIDE, COILS = 16, 64, 4
WEIGHTS = "tiltkit_mri:data/prior_brain.safetensors"
# They allocate memory or read it, and compute nothing.
FREE = {
    "empty", "empty_like", "new_empty", "lift_fresh", "detach_", "item", "is_nonzero",
    "resolve_conj", "resolve_neg",
}  # fmt: skip


def tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


class Operations(TorchDispatchMode):
    """Counts operations that write memory: views and allocations are none.

    Attributes:
        count: Operations so far.
        reads: Single numbers read by the host, for which a GPU would be waited for.
    """

    def __init__(self):
        super().__init__()
        self.count = self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        given = {t.untyped_storage().data_ptr() for t in tensors([*args, *(kwargs or {}).values()])}
        new = any(t.untyped_storage().data_ptr() not in given for t in tensors([out]))
        self.count += (new or func._schema.is_mutable) and name not in FREE
        self.reads += name in ("item", "is_nonzero", "_local_scalar_dense")
        return out


@pytest.fixture(scope="module")
def problem():
    """Four coils, every third column; the network of ``mri.brain``."""
    g = torch.Generator().manual_seed(0)
    maps = torch.view_as_complex(torch.randn(COILS, SIDE, SIDE, 2, generator=g)) / COILS**0.5
    operator = CartesianSense(maps, torch.arange(SIDE) % 3 == 0)
    y = operator.forward(0.3 * torch.randn(1, 2, SIDE, SIDE, generator=g))
    entry = PriorEntry(name="", target="", summary="", channels=2, weights=WEIGHTS)
    prior = network_prior(NetworkOptions(precision="float32"), entry)
    return Problem(
        prior, GaussianLikelihood(operator, y, 0.05**2), (2, SIDE, SIDE), lambda x: x.norm(dim=1),
        phase=lambda x: torch.atan2(x[1], x[0]),
    )  # fmt: skip


# Measured limits; the aim is 1.3 everywhere. Of those of moments 0.02 keep steps in bounds where
# the network's Jacobian is negative.
@pytest.mark.parametrize(
    ("sampler", "calls", "limit", "reads"),
    [
        (Moments(MomentsOptions(levels=8, collect=0)), 3, 1.58, 4),
        (Twisted(TwistedOptions(levels=8, collect=0)), 2, 1.32, 2),
        (Walmc(WalmcOptions(levels=8, start_moves=1, collect=0)), 2, 1.3, 2),
    ],
    ids=["moments", "twisted", "walmc"],
)
def test_a_level_costs_few_operations_beside_those_of_the_network(
    problem, sampler, calls, limit, reads, monkeypatch
):
    monkeypatch.setattr("tiltkit.operators.inner.by_rows", lambda _device: False)  # as on a GPU
    monkeypatch.setattr("tiltkit.sampling.particles.rng.CPU_BLOCK", 2**40)
    x = torch.zeros(N, 2, SIDE, SIDE)
    with torch.inference_mode(), Operations() as network:
        problem.prior.score(x, 1.0)
    target = Target(problem, N, N)
    levels = run(target, sampler, ParticleRng([0], N, target.device))
    for _ in range(3):  # what is made on first use
        next(levels)
    before = target.network_calls
    with Operations() as level:
        next(levels)
    assert target.network_calls - before == calls
    assert level.count <= limit * calls * network.count
    assert level.reads <= reads
