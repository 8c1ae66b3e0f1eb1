"""Sparse and heavy-tailed signals of 64 values, beside their exact posteriors.

The prior is a random walk whose steps are Gaussian, Laplace, Bernoulli-Laplace (nine of ten are
zero) or Student-t with 3 or 1 degrees of freedom (`walks.py`: its score is exact). Measured is the
signal blurred (``blur``), at 25 of its 64 places (``missing``), or at 14 of its 33 frequencies
(``fourier``), all with noise. The exact posterior has a closed form for Gaussian steps and is found
by Gibbs sampling for others (`gibbs.py`); it is kept in a folder, see --cache. Printed for each law
and measurement, as means over problems with other signals and places:

excess     error of the mean over that of the exact mean, dB (`exact.py`)
spread     root of the variance of the samples over the exact one
cov90      how often values of exact draws lie in the 90 % intervals
off, warns number of runs with a wrong mean or spread (`exact.Score`), and with a warning

each beside the same figure of as many exact draws.

    python benchmarks/signals.py --laws laplace student-1 --problems 4
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import torch
from exact import (
    Reference,
    Score,
    add_sampler,
    decibel,
    exact_score,
    judge,
    make_sampler,
    run,
    shells,
)  # fmt: skip
from gibbs import gibbs
from numpy.typing import NDArray
from torch import Tensor
from walks import LAWS, Law, Walk

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.problem import Problem

__all__ = ["CACHE", "MEASUREMENTS", "Signal", "make_signal", "reference"]

LENGTH = 64
SHAPE = (1, LENGTH)
# Root of the median mean square of a walk with standardised steps: signals are divided by it.
SCALES = {
    "gaussian": 4.5, "laplace": 6.2, "bernoulli-laplace": 1.8, "student-3": 7.0, "student-1": 45.0,
}  # fmt: skip
# Noise levels of the prior. The largest principal component of a walk is 9 times its scale.
SIGMA_RANGE = (0.005, 40.0)
# Standard deviation of the noise: about 25 dB below the measured signal.
MEASUREMENTS = {"blur": 0.055, "missing": 0.055, "fourier": 0.09}
CACHE = pooch.os_cache("tiltkit") / "benchmarks"
KEPT = 4096
# Chains that disagree by more are made four times as long.
MOST_RHAT = 1.1


@dataclass(frozen=True)
class Signal:
    """A problem and what Gibbs sampling needs.

    Attributes:
        problem: As tiltkit takes it, float32.
        law: Of the steps.
        scale: Signals are walks with standardised steps, divided by it.
        matrix: (data, length).
        y: Measurement (data,).
        noise: Its standard deviation.
    """

    problem: Problem
    law: Law
    scale: float
    matrix: NDArray[np.float64]
    y: NDArray[np.float64]
    noise: float


def main() -> None:
    """Print one row per law and measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--laws", nargs="+", default=list(LAWS), choices=LAWS)
    parser.add_argument("--measurements", nargs="+", default=list(MEASUREMENTS),
                        choices=MEASUREMENTS)  # fmt: skip
    parser.add_argument("--problems", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="seed of the first problem")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for exact draws")
    add_sampler(parser, samples=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    print(f"{args.sampler}, {args.samples} samples, {args.problems} problems; run / exact draws")
    print(f"{'':29}{'excess dB':>13}{'spread':>13}{'cov90':>13}   off warns calls   worst")
    for law in args.laws:
        for measurement in args.measurements:
            pairs = list(scores(law, measurement, args))
            print(row(f"{law:19}{measurement:10}", pairs), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


def scores(
    law: str, measurement: str, args: argparse.Namespace
) -> Iterator[tuple[Score, Score]]:  # fmt: skip
    """A run and as many exact draws, for every problem."""
    for seed in range(args.first, args.first + args.problems):
        signal = make_signal(law, measurement, seed)
        exact = reference(signal, args.cache)
        one = run(signal.problem, make_sampler(args), args.samples, seed)
        yield judge(one, exact), exact_score(exact, args.samples, seed)


def row(label: str, pairs: Sequence[tuple[Score, Score]]) -> str:
    """One line of the table."""
    runs, draws = zip(*pairs, strict=True)
    both = [
        (
            decibel(sum(one.excess for one in kind) / len(kind)),
            sum(one.variance**0.5 for one in kind) / len(kind),
            sum(one.coverage for one in kind) / len(kind),
        )
        for kind in (runs, draws)
    ]
    cells = [f"{a:6.2f} /{b:5.2f}" for a, b in zip(*both, strict=True)]
    off, warned = (
        sum(part) for part in zip(*((s.off, s.says == "warns") for s in runs), strict=True)
    )
    calls = sum(one.calls for one in runs) / len(runs)
    worst = decibel(max(one.excess for one in runs))
    return f"{label}{''.join(cells)} {off:5} {warned:5} {calls:5.0f} {worst:7.2f}"


def make_signal(name: str, measurement: str, seed: int) -> Signal:
    """A signal drawn from the prior, and its measurement."""
    law, scale, noise = LAWS[name], SCALES[name], MEASUREMENTS[measurement]
    key = f"{name} {measurement} {seed}".encode()
    rng = np.random.default_rng(list(hashlib.sha256(key).digest()))
    truth = law.draw((LENGTH,), rng).cumsum() / scale
    matrix = measurement_matrix(measurement, rng)
    y = matrix @ truth + noise * rng.normal(size=len(matrix))
    problem = Problem(
        prior=Walk(law, SIGMA_RANGE, scale=scale),
        likelihood=GaussianLikelihood(
            Dense(torch.from_numpy(matrix).float(), SHAPE),
            torch.from_numpy(y)[None].float(),
            noise**2,
        ),
        shape=SHAPE,
        to_image=lambda x: x,
    )
    return Signal(problem, law, scale, matrix, y, noise)


def measurement_matrix(name: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """(data, length): blur, places or frequencies."""
    places = np.arange(LENGTH)
    if name == "blur":
        weights = np.exp(-0.5 * ((places[:, None] - places) / 2) ** 2)
        blur: NDArray[np.float64] = weights / weights.sum(1).max()
        return blur
    if name == "missing":
        # The last place is measured: beyond it the posterior of Student-t walks has no mean.
        seen = np.sort(rng.choice(LENGTH - 1, 24, replace=False))
        return np.eye(LENGTH)[[*seen, LENGTH - 1]]
    waves = np.fft.rfft(np.eye(LENGTH), axis=0, norm="ortho") * math.sqrt(2)
    waves[0] /= math.sqrt(2)
    high = np.sort(4 + rng.choice(LENGTH // 2 - 4, 10, replace=False))
    chosen = np.array([0, 1, 2, 3, *high])
    return np.concatenate([waves[chosen].real, waves[chosen[1:]].imag])


def reference(signal: Signal, cache: Path | None = CACHE) -> Reference:
    """The exact posterior, from the folder ``cache`` where it is there."""
    gaussian = signal.law.name == "gaussian"
    draws = gaussian_draws(signal) if gaussian else cached_draws(signal, cache)
    # Samplers end at the smallest noise level of the prior, so that it is part of their samples.
    tau = signal.problem.prior.sigma_range[0]
    g = torch.Generator().manual_seed(1)
    draws = draws + tau * torch.randn(draws.shape, generator=g, dtype=draws.dtype)
    return Reference.of_draws(draws, shells(SHAPE))


def gaussian_draws(signal: Signal) -> Tensor:
    """Exact samples (draw, 1, length) for Gaussian steps, by dense algebra."""
    walk = np.tril(np.ones((LENGTH, LENGTH))) / signal.scale
    h = signal.matrix @ walk / signal.noise
    covariance = np.linalg.inv(np.eye(LENGTH) + h.T @ h)
    mean = covariance @ h.T @ (signal.y / signal.noise)
    white = np.random.default_rng(0).normal(size=(KEPT, LENGTH))
    steps = mean + white @ np.linalg.cholesky(covariance).T
    return torch.from_numpy(steps @ walk.T)[:, None]


def cached_draws(signal: Signal, cache: Path | None) -> Tensor:
    """Exact samples (draw, 1, length) by Gibbs sampling; prints where chains disagree."""
    more = {"bernoulli-laplace": 3, "student-1": 2}.get(signal.law.name, 1)
    settings = {"chains": 64, "sweeps": 400 * more, "burn": 200, "thin": 4 * more}
    text = json.dumps([signal.law.name, signal.scale, signal.noise, settings])
    digest = hashlib.sha256(text.encode() + signal.matrix.tobytes() + signal.y.tobytes())
    path = cache / f"{digest.hexdigest()[:32]}.npz" if cache else None
    if path and path.exists():
        return torch.from_numpy(np.load(path)["draws"]).double()[:, None]
    matrix = signal.matrix / signal.scale
    for longer in (1, 4):
        settings["sweeps"], settings["thin"] = 400 * more * longer, 4 * more * longer
        draws, rhat = gibbs(signal.law, matrix, signal.y, signal.noise, **settings)
        if rhat < MOST_RHAT:
            break
    else:
        print(f"Gibbs chains of {signal.law.name} disagree: R-hat {rhat:.2f}", flush=True)
    flat = draws.reshape(-1, LENGTH) / signal.scale
    flat = flat[np.random.default_rng(0).permutation(len(flat))[:KEPT]].astype(np.float32)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, draws=flat)
    return torch.from_numpy(flat).double()[:, None]


if __name__ == "__main__":
    main()
