"""Verdicts of posterior SBC on exact samplers with a wrong spread: false alarms and power.

White Gaussian images with white noise: the posterior is known, so that a sampler can draw from it
with a spread that is a given multiple of the right one. Printed per spread: shares of calibrations
that failed, passed and could not tell, and the mean coverage of the intervals nearest to 90 %.

    python benchmarks/calibration.py --calibrations 100
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from tiltkit.calibration.draw import measured, ranked, with_both, with_other
from tiltkit.calibration.exchange import exchange_test
from tiltkit.calibration.regions import ALL, Regions
from tiltkit.calibration.verdict import Verdict, judge
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.posterior.outcome import QUANTILES, Outcome
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem

ROWS = (ALL, "image")


def make_problem(side: int, noise: float, seed: int) -> Problem:
    """A white image, measured everywhere."""
    g = torch.Generator().manual_seed(seed)
    shape = (1, 1, side, side)
    y = torch.randn(shape, generator=g) + noise * torch.randn(shape, generator=g)
    prior = Mixture(torch.zeros(shape), 1.0, torch.ones(1), (0.01, 10.0))
    likelihood = GaussianLikelihood(Pointwise(torch.ones(shape[1:])), y, noise**2)
    return Problem(prior, likelihood, shape[1:])


def draw(problem: Problem, spread: float, n: int, seed: int) -> Outcome:
    """Samples of the posterior, ``spread`` times as wide as it is."""
    likelihood = problem.likelihood
    precision = 1 + 1 / likelihood.noise_var
    white = torch.randn((n, *problem.shape), generator=torch.Generator().manual_seed(seed))
    x: Tensor = likelihood.y / likelihood.noise_var / precision + spread * white / precision**0.5
    images = x[:, 0].numpy()
    quantiles = {q: np.quantile(images, q, axis=0) for q in QUANTILES}
    return Outcome(
        images.mean(0), images.std(0, ddof=1), quantiles, images, images[0], None, {}, x.numpy()
    )


def calibrate(problem: Problem, spread: float, n: int, draws: int, seed: int) -> Verdict:
    """One calibration."""
    first = draw(problem, spread, max(n, draws), 10**6 + seed)
    found = []
    for k in range(draws):
        x = torch.from_numpy(first.particles[k : k + 1])
        y = measured(problem, x, seed=seed, number=k)
        given = draw(with_both(problem, y), spread, n, 2 * 10**6 + 1000 * seed + k)
        one = ranked(
            with_other(problem, y), x, given, first.samples.var(0, ddof=1),
            seed=seed, number=k, draws=draws,
            divide=lambda mean: Regions(("image",), np.zeros(mean.shape, int)),
        )  # fmt: skip
        found.append(one)
    curves, p = exchange_test([one.ranks for one in found], ROWS, seed)
    gains = np.mean([one.gain for one in found], axis=0).tolist()
    return judge(curves, p, n, dict(zip(ROWS, gains, strict=True)), draws)


def main() -> None:
    """Print one line per spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calibrations", type=int, default=20, help="per spread")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--noise", type=float, default=0.3)
    parser.add_argument(
        "--spreads", type=float, nargs="+", default=[0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25]
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("spread   failed   passed   not tested   coverage")
    for spread in args.spreads:
        verdicts = [
            calibrate(
                make_problem(args.side, args.noise, seed), spread, args.samples, args.draws, seed
            )
            for seed in range(args.calibrations)
        ]
        counts = Counter(one.status for one in verdicts)
        shares = [counts[name] / len(verdicts) for name in ("failed", "passed", "not tested")]
        coverage = np.mean([one.spreads[0].coverage for one in verdicts])
        print(
            f"{spread:6.2f} {shares[0]:8.0%} {shares[1]:8.0%} {shares[2]:12.0%}"
            f"   {coverage:.1%} of {verdicts[0].spreads[0].nominal:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
