"""Are posteriors of few counts sampled right? Pixels with exact answers.

256 independent pixels, each with the same count and a Gaussian prior: the posterior of a pixel
follows by integration, and so many pixels leave no use to the weights of a few particles. Printed
are the error of the mean in standard deviations of the posterior and the variance over the exact
one; 0 and 1 are right, and both are known to about 0.02.

    python benchmarks/counts.py
"""

from __future__ import annotations

import argparse

import torch

from tiltkit import load_plugins
from tiltkit.likelihoods import PoissonLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.state import Sampler
from tiltkit.sampling.target import Target

PIXELS, TAU = 256, 0.01
# Mean and variance of the prior, count, background.
CASES = (
    (2.0, 1.0, 0, 0.2), (5.0, 9.0, 0, 0.2), (2.0, 1.0, 1, 0.0), (5.0, 9.0, 3, 0.0),
    (20.0, 25.0, 10, 0.0), (20.0, 25.0, 20, 0.0),
)  # fmt: skip


def poisson(pixels: int, count: int, background: float) -> PoissonLikelihood:
    """The same count in every pixel."""
    y = torch.full((1, pixels), float(count), dtype=torch.float64)
    operator = Pointwise(torch.ones(pixels, dtype=torch.float64))
    return PoissonLikelihood(operator, y, 1.0, background)


def integrated(mean: float, variance: float, count: int, background: float) -> tuple[float, float]:
    """Mean and variance of the posterior of a pixel under the prior noised by tau."""
    x = torch.linspace(-20, 80, 100_001, dtype=torch.float64)
    log_prior = -(x - mean).square() / (2 * (variance + TAU**2))
    potential = poisson(1, count, background).potential(x[:, None])
    weights = torch.softmax(log_prior - potential, 0)
    first = weights @ x
    return float(first), float(weights @ (x - first).square())


def sampled(
    sampler: Sampler, n: int, mean: float, variance: float, count: int, background: float
) -> tuple[torch.Tensor, float]:
    """Samples (n, pixel) and network calls."""
    means = torch.full((1, PIXELS), mean, dtype=torch.float64)
    weights = torch.ones(1, dtype=torch.float64)
    prior = Mixture(means, variance, weights, (TAU, 20 * variance**0.5))
    target = Target(
        Problem(prior, poisson(PIXELS, count, background), (PIXELS,)), n, n, dtype=torch.float64
    )
    *_, (state, _) = run(target, sampler, ParticleRng([0], n, target.device))
    return sampler.images(target, state), target.network_calls


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sampler", default="moments")
    parser.add_argument("--samples", type=int, default=32)
    given = parser.parse_args()
    sampler = load_plugins().create("sampler", given.sampler, {})
    print("prior mean, variance; count, background: error of the mean, variance over exact; calls")
    for case in CASES:
        x, calls = sampled(sampler, given.samples, *case)
        exact, variance = integrated(*case)
        error = (float(x.mean()) - exact) / variance**0.5
        print(
            f"{case[0]:4g} {case[1]:4g}; {case[2]:3d} {case[3]:4g}: {error:+.3f}"
            f" {float(x.var()) / variance:.3f}; {calls:.0f}"
        )


if __name__ == "__main__":
    main()
