"""The preconditioner of parallel-beam scans: it never changes an answer, only its price."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiltkit_ct.parallel import ParallelBeam
from torch import Tensor

from tiltkit.likelihoods import gaussian
from tiltkit.operators.cg import conjugate_gradient
from tiltkit.operators.compose import Weighted
from tiltkit.operators.hartley import hartley
from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.gaussian.iterative import IterativeConditioning
from tiltkit.sampling.particles.rng import ParticleRng

N, N_ANGLES = 48, 16
HALF = torch.arange(N_ANGLES, dtype=torch.float64) * math.pi / N_ANGLES
SCANS = {
    "half circle": (HALF, {}),
    "odd, shuffled, some from behind": (
        torch.cat([HALF[1::2] + math.pi, HALF[::2].flip(0)]),
        {"n_columns": 51},
    ),
    "full circle": (2 * HALF, {"axis": 27.0}),
    "axis off the middle": (HALF, {"n_columns": 46, "axis": 19.3}),
    "golden angle": (HALF * N_ANGLES * (math.sqrt(5) - 1) / 2, {}),
    "limited angle": (0.7 * HALF, {}),
}
ALL = pytest.mark.parametrize("scan", SCANS)


def make(scan: str) -> ParallelBeam:
    angles, geometry = SCANS[scan]
    return ParallelBeam(angles, (N, N), **{"n_columns": N, **geometry})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights_of(operator: ParallelBeam) -> Tensor:
    """As of counts behind something thick in the middle."""
    middle = (torch.arange(operator.n_columns).double() - operator.axis) / (N / 3)
    return (1.5 * (-1.5 * (-middle.square()).exp()).exp()).expand(1, N_ANGLES, -1)


@ALL
def test_the_preconditioner_is_self_adjoint_and_positive(scan: str) -> None:
    operator = make(scan)
    variance = 0.01 + noise(1, N_ANGLES, operator.n_columns).square()
    inverse = operator.data_preconditioner(variance, 0.3)
    assert inverse is not None
    a, b = noise(2, 8, N_ANGLES, operator.n_columns, seed=1)
    torch.testing.assert_close((inverse(a) * b).sum(), (a * inverse(b)).sum())
    assert ((inverse(a) * a).flatten(1).sum(1) > 0).all()


@ALL
@pytest.mark.parametrize(("c", "saved"), [(100.0, 4), (10.0, 3), (1.0, 2)])
def test_it_saves_iterations_and_keeps_the_solution(scan: str, c: float, saved: int) -> None:
    operator = make(scan)
    weighted = Weighted(operator, weights_of(operator))
    r = noise(2, N_ANGLES, operator.n_columns) + c**0.5 * weighted.forward(noise(2, 1, N, N))

    def normal(u: Tensor) -> Tensor:
        return weighted.forward(weighted.adjoint(u))

    inverse = weighted.data_preconditioner(torch.ones_like(r[:1]), c)
    assert inverse is not None
    limits: dict[str, Any] = {"rtol": 1e-12, "max_iter": 3000, "energy": 3e-3 * r[0].numel()}
    u, warm = conjugate_gradient(normal, r, 1.0, c, precondition=inverse, **limits)
    _, cold = conjugate_gradient(normal, r, 1.0, c, **limits)
    exact, _ = conjugate_gradient(normal, r, 1.0, c, rtol=1e-9, max_iter=3000)
    assert saved * warm < cold
    error, size = weighted.adjoint(u - exact), weighted.adjoint(exact)
    assert error.norm() < 0.15 * size.norm()


@ALL
def test_it_helps_where_coarse_detail_varies_more_than_fine(scan: str) -> None:
    operator = make(scan)
    f = torch.fft.fftfreq(N, dtype=torch.float64)
    c = 0.001 / (0.01 + f[:, None].square() + f.square()).square()

    def normal(u: Tensor) -> Tensor:
        x = operator.adjoint(u)
        return operator.forward(hartley(c * hartley(x, (-2, -1)), (-2, -1)))

    r = operator.forward(noise(2, 1, N, N)) + noise(2, N_ANGLES, operator.n_columns)
    inverse = operator.data_preconditioner(torch.ones_like(r[:1]), c)
    limits: dict[str, Any] = {"rtol": 1e-12, "max_iter": 3000, "energy": 3e-3 * r[0].numel()}
    _, warm = conjugate_gradient(normal, r, 1.0, 1.0, precondition=inverse, **limits)
    _, cold = conjugate_gradient(normal, r, 1.0, 1.0, **limits)
    assert 2 * warm < cold


def test_draws_follow_the_exact_gaussian_posterior() -> None:
    """A dense problem of 64 pixels and unequal noise: mean, spread and correlations."""
    n, n_draws, v, s = 8, 20_000, 0.5, 0.3
    angles = torch.arange(6, dtype=torch.float64) * math.pi / 6
    operator = ParallelBeam(angles, (n, n), n)
    variance = 0.02 * (1 + 5 * torch.linspace(-1, 1, n, dtype=torch.float64).square())
    y = noise(1, 6, n)
    conditioning = IterativeConditioning(gaussian(operator, y, variance), (1, n, n), torch.float64)
    rng = ParticleRng([0], n_draws, torch.device("cpu"))
    m = noise(1, 1, n, n, seed=1)
    x, _, _ = conditioning.predict(
        m.expand(n_draws, -1, -1, -1), Step(v, s), rng, slice(0, n_draws)
    )
    unit = torch.eye(n * n, dtype=torch.float64).view(-1, 1, n, n)
    a = operator.forward(unit).flatten(1).T
    spread = variance.repeat(6).diag() + s**2 * a @ a.T
    gain = v * a.T @ torch.linalg.inv(v * a @ a.T + spread)
    mean = m.flatten() + gain @ (y.flatten() - a @ m.flatten())
    covariance = v * torch.eye(n * n, dtype=torch.float64) - v * gain @ a
    std = covariance.diagonal().sqrt()
    assert ((x.flatten(1).mean(0) - mean) / std).abs().max() < 5 / n_draws**0.5
    error = (x.flatten(1).T.cov() - covariance) / torch.outer(std, std)
    assert error.abs().max() < 5 * (2 / n_draws) ** 0.5
