"""The two-dimensional experiment of ALMC: several vertical bars, of which a height is measured.

Parulekar et al., arXiv:2508.07631. The prior is a Gaussian mixture that looks like vertical bars;
the measurement is the vertical coordinate plus noise. The posterior keeps what each bar has at
that height: several modes, whose weights the sampler must find. Densities and scores of the whole
path ``mu_t`` are known, so that KL and Fisher divergence are measured and not bounded. The paper
does not state all its numbers; bars, noise and step size here are our choice.

    python examples/vertical_bars.py --out vertical_bars.png
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.almc import Almc, AlmcOptions
from tiltkit.sampling.target import Target

Grid = NDArray[np.float64]

# Bars: horizontal place, lower end, upper end, share of the prior.
BARS = ((-3.0, -2.0, 0.4, 0.30), (-1.5, -2.0, 2.0, 0.15), (0.0, 0.6, 2.0, 0.10),
        (1.5, -2.0, 2.0, 0.15), (3.0, -0.4, 2.0, 0.30))  # fmt: skip
WIDTH = 0.12  # standard deviation across a bar
HEIGHT, NOISE = 1.0, 0.4  # what was measured, and its noise
TAU, T, DELTA = 0.002, 2.0, 0.004  # ends of the path, and the step size
SMOOTH = 0.1  # bandwidth of the estimates from samples
EDGE, CELL = 5.0, 0.05
AXIS = np.arange(-EDGE, EDGE, CELL) + CELL / 2


@dataclass(frozen=True)
class Case:
    """A run, and how far its samples are from where they should be."""

    name: str
    samples: Grid
    calls: float
    kl: float
    fisher: float
    path: tuple[tuple[float, Grid, float], ...] = ()


def bars_prior() -> Mixture:
    """The prior: Gaussians along each bar, closer together than they are wide."""
    means, weights = [], []
    for x, low, high, share in BARS:
        heights = np.arange(low, high + 1e-9, WIDTH)
        means += [(x, h) for h in heights]
        weights += [share / len(heights)] * len(heights)
    centres, shares = (torch.tensor(v, dtype=torch.float64) for v in (means, weights))
    return Mixture(centres, WIDTH**2, shares, (1e-4, 100.0))


def bars_problem() -> Problem:
    """The prior with the measurement of a height."""
    operator = Dense(torch.tensor([[0.0, 1.0]], dtype=torch.float64), (2,))
    y = torch.tensor([[HEIGHT]], dtype=torch.float64)
    likelihood = GaussianLikelihood(operator, y, NOISE**2)
    return Problem(bars_prior(), likelihood, (2,), lambda x: x, torch.zeros(2))


def posterior(t: float, smooth: float = 0.0) -> tuple[Grid, Grid, Grid]:
    """Weights, means (component, 2) and variances (2,) of ``mu_t ~ p_t exp(-R)``, smoothed."""
    prior = bars_prior()
    means = math.exp(-t) * prior.means.numpy()
    variance = math.exp(-2 * t) * prior.variance - math.expm1(-2 * t)
    log_w = np.log(prior.weights.numpy())
    log_w = log_w - (HEIGHT - means[:, 1]) ** 2 / (2 * (NOISE**2 + variance))
    gain = variance / (variance + NOISE**2)
    means = np.stack([means[:, 0], means[:, 1] + gain * (HEIGHT - means[:, 1])], 1)
    w = np.exp(log_w - log_w.max())
    return w / w.sum(), means, np.array([variance, variance * (1 - gain)]) + smooth**2


def density(t: float, smooth: float = 0.0) -> Grid:
    """``mu_t`` on the grid (horizontal, vertical), probability per cell."""
    w, means, variance = posterior(t, smooth)
    across, along = (
        np.exp(-((AXIS[:, None] - means[:, i]) ** 2) / (2 * variance[i])) for i in range(2)
    )
    total = np.einsum("xk,yk,k->xy", across, along, w)
    grid: Grid = total / total.sum()
    return grid


def exact(t: float, n: int, seed: int) -> Grid:
    """Independent samples of ``mu_t``."""
    rng = np.random.default_rng(seed)
    w, means, variance = posterior(t)
    return means[rng.choice(len(w), n, p=w)] + rng.standard_normal((n, 2)) * np.sqrt(variance)


def smoothed(samples: Grid) -> Grid:
    """Kernel density estimate of samples on the grid, probability per cell."""
    edges = np.append(AXIS - CELL / 2, EDGE)
    counts, _, _ = np.histogram2d(samples[:, 0], samples[:, 1], bins=(edges, edges))
    grid: Grid = gaussian_filter(counts / len(samples), SMOOTH / CELL, mode="constant", truncate=6)
    return grid


def kl(samples: Grid, t: float) -> float:
    """KL divergence of the law of samples from ``mu_t``, both smoothed; in nats."""
    law, wanted = smoothed(samples), density(t, SMOOTH)
    where = law > 0
    return float((law[where] * np.log(law[where] / np.maximum(wanted[where], 1e-300))).sum())


def fisher(samples: Grid, t: float) -> float:
    """Fisher divergence of the law of samples from ``mu_t``, both smoothed."""
    law, wanted = smoothed(samples), density(t, SMOOTH)
    where = law > 1e-3 * law.max()  # beyond, the estimate is a few single samples
    log_ratio = np.log(np.maximum(law, 1e-300)) - np.log(np.maximum(wanted, 1e-300))
    slope = sum(np.square(g) for g in np.gradient(log_ratio, CELL))
    return float((law * slope)[where].sum() / law[where].sum())


def almc(name: str, n: int, kappa: float, *, warm: int = 400, start: float = T) -> Case:
    """A run of the published sampler."""
    target = Target(bars_problem(), n, n, dtype=torch.float64)
    options = AlmcOptions(
        T=start, tau=TAU, kappa=kappa, delta=DELTA, warm_steps=warm, reports=10, collect=0
    )
    sampler, path = Almc(options), []
    for state, _ in run(target, sampler, ParticleRng([0], n, target.device)):
        x = sampler.images(target, state).numpy()
        path.append((state.level, x, kl(x, state.level)))
    return judged(name, x, target.network_calls, tuple(path))


def one_bar(name: str, n: int, steps: int = 400) -> Case:
    """Langevin on ``mu_tau`` itself, from one of the bars: the local law alone."""
    prior, rng = bars_problem().prior, np.random.default_rng(1)
    likelihood = bars_problem().likelihood
    x = torch.tensor(np.array([1.5, HEIGHT]) + 0.1 * rng.standard_normal((n, 2)))
    scale, sigma = math.exp(TAU), math.sqrt(math.expm1(2 * TAU))
    for _ in range(steps):
        drift = scale * prior.score(scale * x, sigma) - likelihood.gradient(x)
        x = x + DELTA * drift + math.sqrt(2 * DELTA) * torch.tensor(rng.standard_normal((n, 2)))
    return judged(name, x.numpy(), float(steps))


def judged(
    name: str, samples: Grid, calls: float, path: tuple[tuple[float, Grid, float], ...] = ()
) -> Case:
    """A case with its two distances: KL to ``mu_tau``, Fisher divergence to ``mu_0``."""
    return Case(name, samples, calls, kl(samples, TAU), fisher(samples, 0.0), path)


def experiment(n: int, kappa: float) -> list[Case]:
    """All runs."""
    return [
        judged("exact samples of mu_tau", exact(TAU, n, 0), 0.0),
        almc(f"ALMC, kappa {kappa:g}", n, kappa),
        almc(f"ALMC, kappa {kappa / 10:g}", n, kappa / 10),
        almc(f"ALMC, kappa {kappa / 200:g}", n, kappa / 200),
        almc("no warm start, same path", n, kappa, warm=0),
        almc(f"no warm start, kappa {kappa / 200:g}", n, kappa / 200, warm=0),
        almc("no path: from N(0, I) to tau", n, 400 * DELTA / TAU, warm=0, start=2 * TAU),
        one_bar("Langevin in one bar", n),
    ]


def table(cases: Sequence[Case]) -> str:
    """The figures as text."""
    lines = [f"{'':30s} {'net calls':>9s} {'KL to mu_tau':>13s} {'Fisher to mu_0':>15s}"]
    lines += [f"{c.name:30s} {c.calls:9.0f} {c.kl:13.4f} {c.fisher:15.3f}" for c in cases]
    return "\n".join(lines)


def draw_figure(cases: Sequence[Case], out: Path) -> None:
    """The path of the good run above; how each run ends below, and the distance on the way."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(13, 6.2), layout="constrained")
    good = cases[1]
    for axis, i in zip(axes[0], (0, 6, 9, -1), strict=True):
        t, x, _ = good.path[i]
        label = "after the warm start" if i == 0 else "on the path" if i > 0 else "the end"
        _panel(axis, x, t, f"{label}: t = {t:.2g}")
    for axis, case in zip(axes[1], (cases[3], cases[6], cases[7]), strict=False):
        _panel(axis, case.samples, TAU, f"{case.name}\nKL {case.kl:.2g}, Fisher {case.fisher:.2g}")
    axis = axes[1, 3]
    for case in cases[1:6]:
        times = [t for t, _, _ in case.path]
        axis.plot(times, [d for _, _, d in case.path], "o-", ms=3, lw=1.2, label=case.name)
    axis.axhline(cases[0].kl, color="0.6", lw=1, ls="--", label="exact samples")
    axis.set(xscale="log", yscale="log", xlabel="time t of the path", title="KL to mu_t on the way")
    axis.invert_xaxis()
    axis.set_ylim(top=100)
    axis.legend(fontsize=6.5, frameon=False, ncols=2, loc="upper center")
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _panel(axis: object, samples: Grid, t: float, title: str) -> None:
    wanted = density(t)
    axis.plot(*samples[:2000].T, ".", ms=1.5, color="#1f6fb4", alpha=0.4, rasterized=True)
    levels = wanted.max() * np.array([0.02, 0.1, 0.4])
    axis.contour(AXIS, AXIS, wanted.T, levels=levels, colors="#c8561b", linewidths=0.8)
    axis.axhline(HEIGHT, color="0.7", lw=0.8, zorder=0)
    axis.set(xlim=(-4.5, 4.5), ylim=(-2.6, 3.2), aspect="equal")
    axis.set_title(title, fontsize=10)


def main(arguments: Sequence[str] | None = None) -> list[Case]:
    """Run, print and draw."""
    parser = argparse.ArgumentParser(description="ALMC on vertical bars.")
    parser.add_argument("--out", type=Path, default=Path("vertical_bars.png"))
    parser.add_argument("-n", type=int, default=3000, help="samples")
    parser.add_argument("--kappa", type=float, default=10.0, help="slowness of the path")
    given = parser.parse_args(arguments)
    cases = experiment(given.n, given.kappa)
    print(table(cases))  # noqa: T201
    draw_figure(cases, given.out)
    print(f"figure: {given.out}")  # noqa: T201
    return cases


if __name__ == "__main__":
    main()
