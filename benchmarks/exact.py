"""Runs beside exact posteriors: error of the mean, spread by band, coverage, warnings.

The excess error of a mean is the factor by which its squared distance to the truth is larger than
that of the exact mean, averaged over truths that the data allow, in dB:
``10 log10(1 + |mean - exact mean|^2 / exact variance)``. Exact draws have ``10 log10(1 + 1/n)``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from against_truth import last, setting
from torch import Tensor

from tiltkit.operators.hartley import frequencies
from tiltkit.plugins import load_plugins
from tiltkit.posterior.moments import Quantiles
from tiltkit.problem import Problem
from tiltkit.recon.recipe import DEFAULT_SAMPLER
from tiltkit.recon.solve import solve
from tiltkit.sampling.state import Sampler

__all__ = [
    "LEAST", "MOST", "SAYS", "SHELLS", "Reference", "Run", "Score", "add_sampler", "decibel",
    "exact_run", "exact_score", "judge", "make_sampler", "run", "shells",
]  # fmt: skip

# Edges of bands of spatial frequency, cycles per image.
SHELLS = (0.0, 1.5, 3.0, 6.0, 12.0)
# Factors that the variance of a band may be off, and excess of the mean's error in dB.
LEAST, MOST, DECIBEL = 0.8, 1.25, 1.0
# Statements of a run: both halves of the verdict ok; the local one; none tested; a warning.
SAYS = ("ok", "local ok", "untested", "warns")
# Quantiles of exact draws beyond which a figure is not a matter of chance.
CHANCE = 0.001

Power = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reference:
    """The exact posterior of a problem.

    Attributes:
        mean: (*shape).
        variance: Sum of the variances of all values.
        draws: Exact samples (draw, *shape).
        power: From deviations (n, *shape) to their squares summed over bands (n, band).
        bands: Exact mean of `power` (band,).
    """

    mean: Tensor
    variance: float
    draws: Tensor
    power: Power
    bands: Tensor

    @classmethod
    def of_draws(cls, draws: Tensor, power: Power) -> Reference:
        """All figures from many draws."""
        mean = draws.mean(0)
        deviations = draws - mean
        return cls(mean, float(draws.var(0).sum()), draws, power, power(deviations).mean(0))


@dataclass(frozen=True)
class Run:
    """A posterior as a user gets it: images are (*shape), samples (n, *shape).

    Attributes:
        mean: Posterior mean.
        deviation: Posterior standard deviation.
        low: Lower end of 90 % intervals.
        high: Upper end.
        samples: Samples.
        calls: Network calls per sample.
        codes: Codes of the warnings.
        local: Local half of the verdict: ``ok``, ``failed`` or ``not tested``.
        shares: Its other half, about shares of separate explanations.
        seconds: Computing time.
    """

    mean: Tensor
    deviation: Tensor
    low: Tensor
    high: Tensor
    samples: Tensor
    calls: float = 0.0
    codes: tuple[str, ...] = ()
    local: str = "not tested"
    shares: str = "not tested"
    seconds: float = 0.0

    @property
    def says(self) -> str:
        """Statement of the run in one of the words of `SAYS`."""
        if self.codes:
            return "warns"
        if self.local == "ok":
            return "ok" if self.shares == "ok" else "local ok"
        return "untested"


@dataclass(frozen=True)
class Score:
    """A run judged by a reference.

    Attributes:
        excess: ``|mean - exact mean|^2 / exact variance``.
        variance: Variance of all rounds over the exact one.
        bands: Variance of the samples over the exact one, by band.
        scatter: Standard deviation of `bands` among sets of as many exact draws.
        coverage: Share of values of exact draws inside the 90 % intervals.
        calls: Network calls per sample.
        mean_off: The error of the mean is off by more than `DECIBEL`, on top of the scatter.
        bands_off: The variance of a band is outside of `LEAST` and `MOST`, on top of the scatter.
        says: See `Run.says`.
        codes: Codes of the run's warnings.
        seconds: Computing time.
    """

    excess: float
    variance: float
    bands: tuple[float, ...]
    scatter: tuple[float, ...]
    coverage: float
    calls: float
    mean_off: bool
    bands_off: bool
    says: str
    codes: tuple[str, ...]
    seconds: float

    @property
    def off(self) -> bool:
        """Mean or spread are wrong, by more than chance explains."""
        return self.mean_off or self.bands_off


def shells(shape: Sequence[int], edges: Sequence[float] = SHELLS) -> Power:
    """Power by bands of spatial frequency of signals or images (n, channel, *space)."""
    space = tuple(shape[1:])
    radius = max(space) * frequencies(space)
    label = torch.bucketize(radius, torch.tensor(edges[1:]), right=True)
    dims = tuple(range(2, 2 + len(space)))

    def power(x: Tensor) -> Tensor:
        squares = torch.fft.fftn(x, dim=dims, norm="ortho").abs().square().sum(1).double()
        sums = squares.new_zeros(len(x), len(edges))
        return sums.index_add_(1, label.flatten(), squares.flatten(1))

    return power


def add_sampler(parser: argparse.ArgumentParser, samples: int) -> None:
    """Options that name a sampler."""
    parser.add_argument("--sampler", default=DEFAULT_SAMPLER)
    parser.add_argument("--quality", default="standard")
    parser.add_argument("--samples", type=int, default=samples)
    parser.add_argument("-s", dest="set", type=setting, action="append", default=[],
                        metavar="KEY=VALUE", help="option of the sampler")  # fmt: skip


def make_sampler(args: argparse.Namespace) -> Sampler:
    """The sampler of `add_sampler`, with the preset of its quality."""
    host = load_plugins()
    presets = getattr(host.load("sampler", args.sampler), "presets", {})
    options = dict(presets.get(args.quality, {})) | dict(args.set)
    sampler: Sampler = host.create("sampler", args.sampler, options)
    return sampler


def run(problem: Problem, sampler: Sampler, n: int, seed: int) -> Run:
    """Sample as ``tiltkit run`` does; ``to_image`` of the problem must be the identity."""
    cpu = torch.device("cpu")
    dtype = problem.likelihood.y.real.dtype  # type: ignore[attr-defined]
    outcome = last(solve([problem], sampler, seed=(seed, 0), n=n, devices=[cpu], dtype=dtype))
    images = (outcome.mean, outcome.std, outcome.quantiles[0.05], outcome.quantiles[0.95])
    d = outcome.diagnostics
    return Run(
        *(torch.from_numpy(image) for image in (*images, outcome.samples)),
        calls=float(d["network_calls"]),
        codes=tuple(one.code for one in d["warnings"]),
        local=d["local"],
        shares=d["shares"],
        seconds=float(d["seconds"]),
    )


def exact_run(draws: Tensor) -> Run:
    """What a run would give whose samples are ``draws``."""
    quantiles = Quantiles()
    quantiles.add(draws)
    low, high = quantiles.at((0.05, 0.95)).values()
    return Run(draws.mean(0), draws.std(0), low, high, draws)


def exact_score(exact: Reference, n: int, seed: int) -> Score:
    """Figures of ``n`` exact draws, compared with all others."""
    order = torch.randperm(len(exact.draws), generator=torch.Generator().manual_seed(seed))
    own, others = exact.draws[order[:n]], exact.draws[order[n:]]
    return judge(exact_run(own), replace(exact, draws=others))


def judge(one: Run, exact: Reference) -> Score:
    """Compare a run with the exact posterior."""
    n = len(one.samples)
    inside = (one.low <= exact.draws) & (exact.draws <= one.high)
    excess = float((one.mean.double() - exact.mean).square().sum()) / exact.variance
    bands = _variances(one.samples, exact)
    chance = _chance(exact, n)
    return Score(
        excess=excess,
        variance=float(one.deviation.double().square().sum()) / exact.variance,
        bands=tuple(bands.tolist()),
        scatter=tuple(chance.scatter.tolist()),
        coverage=float(inside.double().mean()),
        calls=one.calls,
        mean_off=decibel(excess) > DECIBEL + chance.excess,
        bands_off=bool(((bands < LEAST * chance.low) | (bands > MOST * chance.high)).any()),
        says=one.says,
        codes=one.codes,
        seconds=one.seconds,
    )


def decibel(excess: float) -> float:
    """Excess error in dB."""
    return 10 * math.log10(1 + excess)


def _variances(samples: Tensor, exact: Reference) -> Tensor:
    """Variance of samples over the exact one, by band."""
    total = exact.power(samples - samples.mean(0)).sum(0)
    return total / (len(samples) - 1) / exact.bands


@dataclass(frozen=True)
class _Chance:
    """Variance of exact draws by band: standard deviation, low and high; bound of excess in dB."""

    scatter: Tensor
    low: Tensor
    high: Tensor
    excess: float


def _chance(exact: Reference, n: int, sets: int = 2000) -> _Chance:
    """Bounds for sets of ``n`` exact draws.

    The sets are drawn from the pool where it is large; else bands are taken as Gaussian.
    """
    power = exact.power(exact.draws - exact.mean)
    if len(power) < 20 * n:
        # Relative variance of the power of one draw, of which n draws have the n-th part.
        deviation = (power.var(0) / power.mean(0).square() / (n - 1)).sqrt()
        reach = 3.1 * deviation
        return _Chance(deviation, (1 - reach).clamp_min(0.05), 1 + reach, decibel(2 / n))
    g = torch.Generator().manual_seed(0)
    deviations = (exact.draws - exact.mean).flatten(1)
    ratios, excess = [], []
    for _ in range(sets):
        rows = torch.randint(len(power), (n,), generator=g)
        middle = deviations[rows].mean(0)
        ratios.append(power[rows].sum(0) - n * exact.power(middle.view_as(exact.mean)[None])[0])
        excess.append(float(middle.double().square().sum()) / exact.variance)
    ratio = torch.stack(ratios) / (n - 1) / exact.bands
    low, high = (ratio.quantile(q, dim=0) for q in (CHANCE, 1 - CHANCE))
    return _Chance(
        ratio.std(0), low, high, decibel(float(torch.tensor(excess).quantile(1 - CHANCE)))
    )
