"""A prior made of real brain slices whose posterior is known exactly.

The prior is a mixture of narrow Gaussians around 120 pictures (32x32, complex) cut from
datasets/colin27.npz; measured is its Fourier transform, 4.6x undersampled, with noise 0.6 per
component: enough that in one of the eight cases a second mode matters (1.2 effective modes), and
little enough that 64 exact draws have the right mode weights to 0.01. Prints, as means over the
cases:

gap     squared error of the sampler's mean over that of the exact posterior mean, in dB
spread  standard deviation of the samples over the exact one
TV      error of the mode weights
cov90   how often the 90 % intervals of the real components hold the truth

    python benchmarks/image_mixture.py
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from known import Posterior, sample
from skimage.transform import resize

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.samplers.almc import Almc, AlmcOptions
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "plugins" / "tiltkit-mri"))

from tiltkit_mri.operators import MaskedFourier  # noqa: E402

SIDE, PICTURES = 32, 120


def pictures(seed: int = 0) -> torch.Tensor:
    """Random views of the slices with smooth phases, (picture, 2, side, side), float64."""
    rng = np.random.default_rng(seed)
    slices = np.load(ROOT / "datasets" / "colin27.npz")["image"] / 160.0
    views = []
    for i in range(PICTURES):
        image = slices[i % len(slices)]
        side = int(rng.uniform(130, 181))
        y, x = (int(rng.integers(0, n - side + 1)) for n in image.shape)
        view = resize(image[y : y + side, x : x + side], (SIDE, SIDE), anti_aliasing=True)
        view = view[:, :: rng.choice([-1, 1])] * rng.uniform(0.8, 1.1)
        slow = resize(rng.normal(0, 0.7, (3, 3)), (SIDE, SIDE), order=3)
        view = view * np.exp(1j * (slow + rng.uniform(-np.pi, np.pi)))
        views.append(np.stack([view.real, view.imag]))
    return torch.from_numpy(np.stack(views))


def make(
    means: torch.Tensor, spread: float, noise: float, seed: int
) -> tuple[Problem, torch.Tensor]:
    """One case: a truth from the prior, a random mask denser in the middle, a measurement."""
    g = torch.Generator().manual_seed(seed)
    frequency = torch.arange(SIDE) - SIDE // 2
    radius = (frequency[:, None].square() + frequency.square()).double().sqrt()
    # The largest of log density + Gumbel noise: draws without replacement.
    gumbel = -torch.rand(SIDE, SIDE, generator=g, dtype=torch.float64).log().neg().log()
    order = gumbel - radius / 9
    mask = torch.zeros(SIDE * SIDE, dtype=torch.bool)
    mask[order.flatten().topk(round(SIDE**2 / 4.6)).indices] = True
    operator = MaskedFourier(mask.view(SIDE, SIDE))
    component = torch.randint(len(means), (1,), generator=g)
    truth = means[component] + spread * torch.randn(1, 2, SIDE, SIDE, generator=g).double()
    y = operator.forward(truth)
    y = y + noise * torch.view_as_complex(torch.randn(*y.shape, 2, generator=g).double())
    weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64)
    problem = Problem(
        prior=Mixture(means, spread**2, weights, (0.01, 10.0)),
        likelihood=GaussianLikelihood(operator, y, noise**2),
        shape=(2, SIDE, SIDE),
        to_image=lambda x: x,
        baseline=operator.adjoint(y)[0],
    )
    return problem, truth[0]


def judge(x: torch.Tensor, posterior: Posterior, truth: torch.Tensor) -> tuple[float, ...]:
    """Squared errors of the sampler's and the exact mean; spread; mode error; coverage."""
    error = float((x.mean(0) - truth).square().sum())
    best = float((posterior.mean - truth).square().sum())
    spread = math.sqrt(float(x.var(0).sum()) / posterior.total_variance)
    ordered, last = x.sort(dim=0).values, len(x) + 1
    low, high = (torch.lerp(ordered[math.floor(p) - 1], ordered[math.ceil(p) - 1], p % 1)
                 for p in (0.05 * last, 0.95 * last))  # fmt: skip
    covered = float(((low <= truth) & (truth <= high)).double().mean())
    return error, best, spread, posterior.mode_error(x), covered


def main() -> None:
    """Print one line per sampler."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1, help="runs per case, other seeds")
    parser.add_argument("--particles", type=int, default=64)
    parser.add_argument("--spread", type=float, default=0.05, help="of each mode, per component")
    parser.add_argument("--noise", type=float, default=0.6, help="of the measurement")
    parser.add_argument("--no-almc", action="store_true", help="leave out the published sampler")
    parser.add_argument("-s", nargs="*", default=[], metavar="KEY=VALUE", help="walmc options")
    parser.add_argument("-t", nargs="*", default=[], metavar="KEY=VALUE", help="twisted options")
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = {"levels": 48, "collect": 1, "min_ess": 0.0}
    walmc = options | dict(item.split("=") for item in args.s)
    twisted = options | dict(item.split("=") for item in args.t)
    samplers = {
        "walmc": Walmc(WalmcOptions.model_validate(walmc)),
        "twisted": Twisted(TwistedOptions.model_validate(twisted)),
    }
    if not args.no_almc:
        samplers["almc"] = Almc(AlmcOptions(T=2.0, tau=0.0002, delta=1e-3, kappa=0.1, collect=0))
    means = pictures()
    rows: dict[str, list[tuple[float, ...]]] = {}
    calls = {"exact": 0.0}
    modes, start = [], time.perf_counter()
    for case in range(args.cases):
        problem, truth = make(means, args.spread, args.noise, case)
        posterior = Posterior.of(problem.prior, problem.likelihood)
        modes.append(float(1 / posterior.weights.square().sum()))
        for seed in range(args.repeats):
            g = torch.Generator().manual_seed(seed)
            draws = posterior.draw(args.particles, g)
            rows.setdefault("exact", []).append(judge(draws, posterior, truth))
            for name, sampler in samplers.items():
                x, calls[name], _ = sample(problem, sampler, args.particles, seed)
                rows.setdefault(name, []).append(judge(x, posterior, truth))
    print(f"{args.particles} particles; effective modes", " ".join(f"{m:.1f}" for m in modes))
    print("sampler    gap dB  spread     TV  cov90  calls")
    for name, row in rows.items():
        error, best, spread, tv, covered = (sum(v) / len(row) for v in zip(*row, strict=True))
        gap = 10 * math.log10(error / best)
        print(f"{name:8} {gap:8.2f} {spread:7.3f} {tv:6.3f} {covered:6.2f} {calls[name]:6.0f}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
