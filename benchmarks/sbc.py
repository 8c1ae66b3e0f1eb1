"""Simulation-based calibration (Talts et al., arXiv:1804.06788) on priors known in closed form.

A truth is drawn from the prior and data from the truth; given the data, truth and samples of a
right sampler are exchangeable, so that the rank of the truth among samples is uniform for any
scalar function of the image. Priors:

gaussian   8 pixels, 4 measured mixtures of them
mixture    4 pixels, 5 modes, 2 measured mixtures of them; 2.6 effective modes given the data
images     16x16 complex, 120 pictures of brain slices, Fourier data 4.6x undersampled; 3.4
           effective modes given the data, 1.5 in the median

Particles of a run share ancestors, so that not all of them are ranked: after the rounds of moves
that collect samples, 19 of the particles are picked at random without replacement (of 19 runs with
other seeds, one particle each, with --independent). Intervals are those that a user gets: from all
particles of all collected rounds. Printed per prior and function: p-values of the ranks (chi-square
on 20 bins; Kolmogorov-Smirnov with ranks spread evenly within their bin), and how often the 90 %
interval holds the truth. The verdict is Holm's over all p-values of a prior, at 0.01. ``exact``
as sampler ranks draws of the exact posterior: what a right sampler gives. What particles share
makes intervals of few particles a little too narrow.

    python benchmarks/sbc.py --samples 256 --sampler walmc -s levels=120
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import image_mixture
import numpy as np
import torch
from known import Posterior
from scipy import stats
from torch import Tensor

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.plugins import load_plugins
from tiltkit.posterior.moments import Quantiles
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.protocols import SpectralOperator
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.state import Sampler
from tiltkit.sampling.target import Target

RANKED = 19
LEVEL = 0.01
Functions = dict[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Case:
    """A prior, its measurements, and what is ranked besides norm and log-likelihood."""

    prior: Mixture
    operator: Callable[[torch.Generator], SpectralOperator]
    noise: float
    functions: Functions

    def draw(self, seed: int) -> tuple[Problem, Tensor]:
        """A problem and its truth (1, channel, *space)."""
        g = torch.Generator().manual_seed(seed)
        means = self.prior.means
        component = torch.multinomial(self.prior.weights, 1, generator=g)
        truth = means[component]
        truth = truth + self.prior.variance**0.5 * torch.randn(truth.shape, generator=g)
        operator = self.operator(g)
        y = operator.forward(truth)
        real = torch.view_as_real(y) if y.is_complex() else y
        real += self.noise * torch.randn(real.shape, generator=g)
        problem = Problem(
            prior=self.prior,
            likelihood=GaussianLikelihood(operator, y, self.noise**2),
            shape=tuple(means.shape[1:]),
            to_image=lambda x: x,
            baseline=operator.adjoint(y)[0],
        )
        return problem, truth

    def values(self, problem: Problem, x: Tensor) -> Tensor:
        """All functions of images (n, channel, *space), as (n, function)."""
        columns = [f(x) for f in self.functions.values()]
        columns += [x.flatten(1).norm(dim=1), -problem.likelihood.potential(x)]
        return torch.stack([column.double() for column in columns], 1)

    @property
    def names(self) -> list[str]:
        """Of the functions."""
        return [*self.functions, "norm", "log-likelihood"]


def along(direction: Tensor) -> Callable[[Tensor], Tensor]:
    """Inner product with an image."""
    return lambda x: x.flatten(1) @ direction.flatten()


def coordinates(d: int) -> Functions:
    """First, last, and sum."""
    eye = torch.eye(d)
    return {"first": along(eye[0]), "last": along(eye[-1]), "sum": along(torch.ones(d))}


def matrices(data: int, d: int) -> Callable[[torch.Generator], Dense]:
    """A new random matrix for every problem."""
    return lambda g: Dense(torch.randn(data, d, generator=g) / d**0.5, (d,))


def gaussian() -> Case:
    """One Gaussian."""
    prior = Mixture(torch.linspace(-1, 1, 8)[None], 0.5, torch.ones(1), (0.02, 50.0))
    return Case(prior, matrices(4, 8), 0.3, coordinates(8))


def mixture() -> Case:
    """Five modes of unequal weight, 5 to 12 times as far apart as they are wide."""
    g = torch.Generator().manual_seed(1)
    means = 3 * torch.randn(5, 4, generator=g)
    weights = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3])
    return Case(Mixture(means, 1.0, weights, (0.02, 50.0)), matrices(2, 4), 1.5, coordinates(4))


def images(noise: float = 0.8) -> Case:
    """Pictures of brain slices, half as large as in image_mixture.py."""
    means = torch.nn.functional.avg_pool2d(image_mixture.pictures(), 2).float()
    side = means.shape[-1]
    prior = Mixture(means, 0.05**2, torch.ones(len(means)) / len(means), (0.01, 10.0))
    flat = means.flatten(1)
    directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2]
    middle = torch.zeros(2, side, side)
    middle[0, side // 2, side // 2] = 1
    functions = {
        "first component": along(directions[0]),
        "tenth component": along(directions[9]),
        "middle pixel": along(middle),
    }
    return Case(prior, lambda g: image_mixture.MaskedFourier(mask(side, g)), noise, functions)


def mask(side: int, g: torch.Generator) -> Tensor:
    """Measured points, denser in the middle."""
    frequency = torch.arange(side) - side // 2
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    # The largest of log density + Gumbel noise: draws without replacement.
    gumbel = -torch.rand(side, side, generator=g).log().neg().log()
    chosen = (gumbel - radius / 4.5).flatten().topk(round(side**2 / 4.6)).indices
    measured = torch.zeros(side**2, dtype=torch.bool)
    measured[chosen] = True
    return measured.view(side, side)


CASES = {"gaussian": gaussian, "mixture": mixture, "images": images}


def collected(problem: Problem, sampler: Sampler | None, n: int, seed: int) -> Iterator[Tensor]:
    """Particles of every collected round; exact draws where there is no sampler."""
    if sampler is None:
        exact = Posterior.of(problem.prior, problem.likelihood)
        kind = exact.operator.to_spectral(problem.prior.means).dtype
        exact = replace(exact, means=exact.means.to(kind))
        yield exact.draw(n, torch.Generator().manual_seed(seed))
        return
    target = Target(problem, n, n)
    for state, info in run(target, sampler, ParticleRng([seed], n, target.device)):
        if info.final:
            yield sampler.images(target, state)


def one(
    case: Case, sampler: Sampler | None, n: int, seed: int, *, independent: bool
) -> tuple[Tensor, Tensor]:
    """Ranks of the truth, and whether 90 % intervals hold it; one value per function."""
    problem, truth = case.draw(seed)
    at_truth = case.values(problem, truth)[0]
    quantiles = Quantiles()
    for x in collected(problem, sampler, n, seed):
        values = case.values(problem, x)
        quantiles.add(values)
    low, high = quantiles.at((0.05, 0.95)).values()
    g = torch.Generator().manual_seed(seed)
    ranked = values[torch.randperm(n, generator=g)[:RANKED]]
    if independent:
        for i in range(RANKED):
            *_, x = collected(problem, sampler, n, 1000 * (seed + 1) + i)
            pick = int(torch.randint(n, (1,), generator=g))
            ranked[i] = case.values(problem, x[pick : pick + 1])[0]
    return (ranked < at_truth).sum(0), (low <= at_truth) & (at_truth <= high)


def p_values(ranks: Tensor, rng: np.random.Generator) -> tuple[float, float]:
    """Of a chi-square test on all ranks, and of a Kolmogorov-Smirnov test."""
    counts = np.bincount(ranks.numpy(), minlength=RANKED + 1)
    spread = (ranks.numpy() + rng.uniform(size=len(ranks))) / (RANKED + 1)
    return float(stats.chisquare(counts).pvalue), float(stats.kstest(spread, "uniform").pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values (Holm 1979)."""
    order = p.argsort()
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    result = np.empty_like(p)
    result[order] = adjusted
    return result


def report(name: str, case: Case, ranks: Tensor, covered: Tensor) -> None:
    """Print one line per function, and the verdict."""
    rng = np.random.default_rng(0)
    tests = np.array([p_values(column, rng) for column in ranks.T])
    hits = covered.double()
    error = (hits.var(0) / len(hits)).sqrt()
    for i, function in enumerate(case.names):
        chi2, ks = tests[i]
        print(
            f"{name:9} {function:16} {chi2:8.3f} {ks:8.3f}"
            f"   {hits[:, i].mean():6.1%} +- {error[i]:.1%}"
        )
    # Functions of one problem depend on each other: the error is that of means over problems.
    held = hits.mean(1)
    least = holm(tests.flatten()).min()
    word = "rejected" if least < LEVEL else "not rejected"
    print(
        f"{name:9} {word} at p = {LEVEL} (least adjusted p {least:.3f}); 90 % intervals hold"
        f" {held.mean():.1%} +- {held.std() / math.sqrt(len(held)):.1%}",
        flush=True,
    )


def main() -> None:
    """Print one table per prior."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--priors", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--samples", type=int, default=64, help="particles of a run")
    parser.add_argument("--sampler", default="walmc", help="its name, or exact")
    parser.add_argument("--seed", type=int, default=0, help="of the first problem")
    parser.add_argument("--independent", action="store_true", help="rank among 19 runs: slow")
    parser.add_argument("-s", nargs="*", default=[], metavar="KEY=VALUE", help="sampler options")
    args = parser.parse_args()
    if args.samples < RANKED:
        parser.error(f"--samples must be at least {RANKED}: so many are ranked")
    torch.set_num_threads(1)
    sampler = None
    if args.sampler != "exact":
        options = dict(item.split("=") for item in args.s)
        sampler = load_plugins().create("sampler", args.sampler, options)
        print(f"{args.sampler}: {sampler.options}")
    print(f"prior     function           chi2 p     KS p   90 % interval holds   {args.problems} x")
    for name in args.priors:
        case, start = CASES[name](), time.perf_counter()
        results = [
            one(case, sampler, args.samples, seed, independent=args.independent)
            for seed in range(args.seed, args.seed + args.problems)
        ]
        ranks, covered = (torch.stack(both) for both in zip(*results, strict=True))
        report(name, case, ranks, covered)
        print(f"{name:9} {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
