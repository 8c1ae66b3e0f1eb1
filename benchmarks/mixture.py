"""The 25-mode Gaussian mixture (protocol of MCGDiff, Cardoso et al., arXiv:2308.07983).

Prints, for every dimension and number of measurements, the sliced Wasserstein-2 distance of each
sampler's particles to exact posterior samples, and that of two exact sample sets.

    python benchmarks/mixture.py --cells 8,1 8,4 80,1 --problems 8
    python benchmarks/mixture.py --samplers almc pula ddrm diffpir --problems 3 --particles 200

deepinv's samplers run one particle after the other: give them few particles. Fewer particles make
the distance of two exact sets larger, so compare ratios.
"""

from __future__ import annotations

import argparse
import functools
import time
from itertools import combinations, product
from typing import Any

import torch
from known import Posterior, sample, sliced_wasserstein
from tiltkit_baselines.deepinv import Ddrm, DiffPir, Dps
from tiltkit_baselines.pula import Pula

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.samplers.almc import Almc
from tiltkit.sampling.samplers.twisted import Twisted
from tiltkit.sampling.samplers.walmc import Walmc

WEIGHTED = {"levels": 96, "collect": 1, "min_ess": 0.0}
# Images of deepinv lie between 0 and 1: these hold all values of the prior.
RANGE = {"low": -22.0, "high": 22.0}
SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "walmc": (Walmc, WEIGHTED),
    "twisted": (Twisted, WEIGHTED),
    "almc": (Almc, {"T": 3.0, "warm_steps": 300, "reports": 1000, "collect": 0}),
    "pula": (Pula, {"levels": 390, "collect": 1}),
    "ddrm": (Ddrm, RANGE),
    "diffpir": (DiffPir, RANGE),
    "dps": (Dps, RANGE),
}


def make(d: int, data: int, seed: int) -> Problem:
    """One random problem: prior weights, matrix, noise level, truth and measurement."""
    g = torch.Generator().manual_seed(1000 * d + 100 * data + seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def uniform(n: int) -> torch.Tensor:
        return torch.rand(n, generator=g, dtype=torch.float64)

    grid = torch.tensor(list(product(range(-2, 3), repeat=2)), dtype=torch.float64)
    means = (8 * grid).repeat(1, d // 2)
    weights = normal(25).square()  # chi-squared with one degree of freedom
    weights /= weights.sum()
    u, _ = torch.linalg.qr(normal(data, data))
    v, _ = torch.linalg.qr(normal(d, data))
    s = uniform(data).sort(descending=True).values
    matrix = u @ (s[:, None] * v.T)
    noise = float(uniform(1) * s.max())
    truth = means[torch.multinomial(weights, 1, generator=g)] + normal(1, d)
    y = truth @ matrix.T + noise * normal(1, data)
    return Problem(
        # Modes reach 16 sqrt(d) from the middle: at five times that all is but Gaussian.
        prior=Mixture(means, 1.0, weights, (0.02, 5 * 16 * d**0.5)),
        likelihood=GaussianLikelihood(Dense(matrix, (d,)), y, noise**2),
        shape=(d,),
        to_image=lambda x: x,
        baseline=torch.zeros(d),
    )


def row(d: int, data: int, problems: int, samplers: dict, n: int) -> list[str]:
    """Mean distances of all problems of one cell."""
    distances: dict[str, list[float]] = {name: [] for name in ("exact", *samplers)}
    calls = dict.fromkeys(samplers, 0.0)
    ess: dict[str, list[float]] = {name: [] for name in samplers}
    for seed in range(problems):
        problem = make(d, data, seed)
        posterior = Posterior.of(problem.prior, problem.likelihood)
        g = torch.Generator().manual_seed(seed)
        exact = [posterior.draw(n, g) for _ in range(4)]
        distances["exact"] += [sliced_wasserstein(a, b) for a, b in combinations(exact, 2)]
        for name, sampler in samplers.items():
            x, calls[name], infos = sample(problem, sampler(), n, seed)
            distances[name] += [sliced_wasserstein(x, reference) for reference in exact]
            ess[name].append(min(info.ess for info in infos) / n)
    mean = {name: sum(values) / len(values) for name, values in distances.items()}
    cells = [f"{d:4d} {data:4d} {mean['exact']:7.3f}"]
    for name in samplers:
        cells.append(
            f"{mean[name]:7.3f} {mean[name] / mean['exact']:6.2f} {calls[name]:6.0f}"
            f" {min(ess[name]):5.2f}"
        )
    return cells


def main() -> None:
    """Print one line per cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=["8,1", "8,4", "80,1"], help="d,dim y")
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--samplers", nargs="+", default=["walmc", "twisted"], choices=SAMPLERS)
    parser.add_argument("-s", nargs="*", default=[], metavar="KEY=VALUE", help="walmc options")
    parser.add_argument("-t", nargs="*", default=[], metavar="KEY=VALUE", help="twisted options")
    args = parser.parse_args()
    torch.set_num_threads(1)
    own = {
        "walmc": dict(item.split("=") for item in args.s),
        "twisted": dict(item.split("=") for item in args.t),
    }
    samplers = {}
    for name in args.samplers:
        kind, options = SAMPLERS[name]
        chosen = kind.Options.model_validate(options | own.get(name, {}))
        samplers[name] = functools.partial(kind, chosen)
    heads = "".join(f" | {name:>7}  ratio  calls   ess" for name in samplers)
    print(f"   d dim y  exact{heads} | seconds", flush=True)
    for cell in args.cells:
        d, data = map(int, cell.split(","))
        start = time.perf_counter()
        cells = row(d, data, args.problems, samplers, args.particles)
        print(" | ".join(cells), f"| {time.perf_counter() - start:7.1f}", flush=True)


if __name__ == "__main__":
    main()
