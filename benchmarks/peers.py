"""What deepinv's posterior samplers need to come as near to the exact posterior as tiltkit's.

The problem and its prior are those of image_mixture.py, so that the exact posterior is known; the
same prior serves all samplers, as score or as denoiser. Each sampler runs with a few settings and
a growing budget of steps. Printed are, over all runs (cases and seeds) together:

gap      squared error of the mean of the samples, over that of the exact posterior mean, in dB;
         expected over truths given the data: 10 log10(1 + |mean - exact|^2 / exact variance).
         64 exact draws have 0.07
worst    the largest gap of one run
spread   standard deviation of the samples over the exact one
TV       error of the mode weights, 0 to 1
calls    network calls per sample: forward calls, plus BACKWARD for each gradient through the
         network (both counted where they happen)
seconds  for all samples of one run

and last, for each sampler, the smallest number of calls from which on a setting has a gap of at
most 0.25 dB, and from which on it has the spread within 5 % as well. (From which on: a few runs
can be right by chance.)

DPS, PiGDM and moment matching run through deepinv itself with all samples side by side, so their
seconds are deepinv's best; DiffPIR and DDRM run through tiltkit's adapters, one sample at a time.
All of it takes about a quarter of an hour. A whole population of weighted particles can follow one
wrong mode, so that two runs at the same budget may differ by 8 dB: look at the worst one.

    python benchmarks/peers.py
    python benchmarks/peers.py --only twisted "deepinv DPS" --cases 0 1 2 3 4 5 6 7
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from image_mixture import make, pictures
from known import Posterior, sample
from tiltkit_baselines.deepinv import Ddrm, DdrmOptions, DiffPir, DiffPirOptions
from tiltkit_baselines.scaled import Denoiser, Scaled

from tiltkit.problem import Problem
from tiltkit.sampling.particles.weighing import MOST_SHARED_ANCESTRY
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target

GAP, SPREAD = 0.25, 0.05
# A gradient through the network in forward calls: a step of DPS costs 2.4 of them. (Counted as 2,
# as for training, the samplers that need it would look worse.)
BACKWARD = 1.4
# Values of the pictures reach from -1.07 to 1.07, and their spread comes on top.
LOW, HIGH = -1.25, 1.25

Run = Callable[[Problem, int, int], tuple[torch.Tensor, float]]  # (problem, n, seed): images, calls


@dataclass(frozen=True)
class Entry:
    """A sampler with one setting; ``run`` makes it ready for a budget."""

    sampler: str
    setting: str
    budgets: tuple[int, ...]
    run: Callable[[int], Run]


class Case(NamedTuple):
    """A problem, its exact posterior, and the seed of the samplers."""

    problem: Problem
    exact: Posterior
    seed: int


class Row(NamedTuple):
    """What came out for one budget; see the top of this file."""

    entry: Entry
    budget: int
    gap: float
    worst: float
    spread: float
    tv: float
    calls: float
    seconds: float

    @property
    def near(self) -> bool:
        """Whether the mean is right."""
        return self.gap <= GAP

    @property
    def right(self) -> bool:
        """Whether mean and spread are right."""
        return self.near and abs(self.spread - 1) <= SPREAD


class _Backward(torch.autograd.Function):
    """Identity that counts the gradients that come through it."""

    generate_vmap_rule = True
    count = 0

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def setup_context(*_: Any) -> None:
        return

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        _Backward.count += 1
        return gradient


class CountedDenoiser(Denoiser):
    """The prior as denoiser; gradients through it are counted, forward calls are by `Target`."""

    def forward(self, x: torch.Tensor, sigma: Any, **_: Any) -> torch.Tensor:
        """See `Denoiser`."""
        return super().forward(_Backward.apply(x), sigma)


class RealData(Scaled):
    """The problem with a real measurement (n, point, 2), as that of deepinv's own MRI.

    Moment matching solves with an operator that mixes the two components; with complex numbers
    deepinv's conjugate gradients take that for a linear one, which gives wrong modes.
    """

    @property
    def y(self) -> torch.Tensor:
        """See `Scaled`."""
        return torch.view_as_real(super().y)

    def physics(self) -> Any:
        """See `Scaled`."""
        from deepinv.physics import LinearPhysics

        inner = super().physics()
        return LinearPhysics(
            A=lambda x, **_: torch.view_as_real(inner.A(x)),
            A_adjoint=lambda y, **_: inner.A_adjoint(torch.view_as_complex(y.contiguous())),
            noise_model=inner.noise_model,
        )


def tiltkit(sampler: Any, options: Any, budget: str, **settings: Any) -> Callable[[int], Run]:
    """A sampler of tiltkit, or an adapter; ``budget`` names the option that sets the steps."""

    def ready(steps: int) -> Run:
        chosen = sampler(options(**{budget: steps}, **settings))
        return lambda problem, n, seed: sample(problem, chosen, n, seed)[:2]

    return ready


def diffusion(make_sampler: Callable[[Scaled, Denoiser, int], Any]) -> Callable[[int], Run]:
    """A PosteriorDiffusion of deepinv, all samples side by side."""

    def run(problem: Problem, n: int, seed: int, steps: int) -> tuple[torch.Tensor, float]:
        target = Target(problem, n, n, dtype=torch.float64)
        scaled = RealData(target, problem.likelihood, LOW, HIGH - LOW)
        _Backward.count = 0
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            sampler = make_sampler(scaled, CountedDenoiser(scaled), steps)
            z = sampler(scaled.y, scaled.physics(), x_init=(n, *problem.shape))
        return scaled.image(z), target.network_calls + BACKWARD * _Backward.count

    return lambda steps: lambda problem, n, seed: run(problem, n, seed, steps)


def guided(fidelity: str, path: str, **settings: Any) -> Callable[[int], Run]:
    """Ancestral sampling guided by one of deepinv's data fidelities.

    ``path`` is vp, deepinv's variance preserving one, or ve, variance exploding with the prior's
    own noise levels: those of tiltkit's samplers.
    """

    def make_sampler(scaled: Scaled, denoiser: Denoiser, steps: int) -> Any:
        from deepinv import sampling

        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        if path == "vp":
            sde = sampling.VariancePreservingDiffusion(alpha=1.0)
        else:  # deepinv's states lie between -1 and 1
            low, high = (2 * s / scaled.width for s in scaled.target.problem.prior.sigma_range)
            sde = sampling.VarianceExplodingDiffusion(sigma_min=low, sigma_max=high, alpha=1.0)
        return sampling.PosteriorDiffusion(
            getattr(sampling, fidelity)(**settings), denoiser, sde,
            sampling.AncestralSolver(timesteps=times),
        )  # fmt: skip

    return diffusion(make_sampler)


def dps(**settings: Any) -> Callable[[int], Run]:
    """DPS, as published."""

    def make_sampler(scaled: Scaled, denoiser: Denoiser, steps: int) -> Any:
        from deepinv.sampling import DPS

        return DPS(denoiser, num_steps=steps + 1, **settings)

    return diffusion(make_sampler)


def entries() -> Iterator[Entry]:
    """All samplers with their settings; weights are the best of those that were tried."""
    yield from ours()
    many = (100, 200, 400, 800)
    for weight in (100.0, 200.0):
        run = dps(guidance="norm", weight=weight)
        yield Entry("deepinv DPS", f"norm, weight {weight:g}", many, run)
    run = guided("DPSDataFidelity", "ve", guidance="norm", weight=200.0)
    yield Entry("deepinv DPS", "norm, weight 200, ve", many, run)
    yield Entry("deepinv DPS", "annealed, weight 1", (50, 200), dps(guidance="annealed"))
    for path, weight in (("vp", 1.0), ("ve", 1.0), ("ve", 2.0)):
        run = guided("MomentMatchingDataFidelity", path, weight=weight)
        yield Entry("deepinv moments", f"weight {weight:g}, {path}", (50, 200), run)
    for weight in (1.0, 4.0):
        run = guided("PiGDMDataFidelity", "ve", weight=weight)
        yield Entry("deepinv PiGDM", f"weight {weight:g}, ve", (50, 200), run)
    lengths = {"low": LOW, "high": HIGH}
    for zeta, weight in ((0.1, 7.0), (1.0, 1.0)):
        run = tiltkit(DiffPir, DiffPirOptions, "steps", zeta=zeta, lambda_=weight, **lengths)
        yield Entry("deepinv DiffPIR", f"zeta {zeta:g}, lambda {weight:g}", (25, 100), run)
    for eta in (0.85, 1.0):
        run = tiltkit(Ddrm, DdrmOptions, "steps", eta=eta, **lengths)
        yield Entry("deepinv DDRM", f"eta {eta:g}", (25, 100), run)


def ours() -> Iterator[Entry]:
    """The samplers of tiltkit; the last particles are the samples."""
    for least, ancestry in ((8, MOST_SHARED_ANCESTRY), (8, 1.0), (4, 1.0)):
        run = tiltkit(
            Twisted,
            TwistedOptions,
            "levels",
            collect=0,
            min_ess=least,
            most_shared_ancestry=ancestry,
        )
        yield Entry(
            "twisted", f"min_ess {least}, most_shared_ancestry {ancestry:g}", (24, 48, 96, 192), run
        )
    for least, moves in ((8, 1), (0, 3)):
        run = tiltkit(Walmc, WalmcOptions, "levels", collect=0, moves=moves, min_ess=least)
        yield Entry("walmc", f"min_ess {least}, moves {moves}", (48, 192), run)


def measured(entry: Entry, budget: int, cases: Sequence[Case], n: int) -> Row:
    """One row of the table."""
    run = entry.run(budget)
    runs = []
    for case in cases:
        start = time.perf_counter()
        x, calls = run(case.problem, n, case.seed)
        seconds = time.perf_counter() - start
        error = float((x.mean(0) - case.exact.mean).square().sum())
        variance, tv = float(x.var(0).sum()), case.exact.mode_error(x)
        runs.append((case.exact.total_variance, error, variance, tv, calls, seconds))
    exact, error, variance, tv, calls, seconds = (sum(v) / len(v) for v in zip(*runs, strict=True))
    worst = max(_gap(run[1], run[0]) for run in runs)
    spread = math.sqrt(variance / exact)
    return Row(entry, budget, _gap(error, exact), worst, spread, tv, calls, seconds)


def _gap(error: float, variance: float) -> float:
    return 10 * math.log10(1 + error / variance)


def sweep(entry: Entry, cases: Sequence[Case], n: int) -> Iterator[Row]:
    """One row per budget, printed as it comes."""
    for budget in entry.budgets:
        row = measured(entry, budget, cases, n)
        print(f"{entry.sampler:16} {entry.setting:26} {budget:5} {row.gap:7.2f} {row.worst:6.2f}"
              f" {row.spread:7.3f} {row.tv:6.3f} {row.calls:7.0f} {row.seconds:8.2f}",
              flush=True)  # fmt: skip
        yield row


def lasting(rows: Sequence[Row], good: Callable[[Row], bool]) -> list[Row]:
    """Good rows whose larger budgets, with the same setting, are all good too."""
    return [
        row
        for row in rows
        if all(good(r) for r in rows if r.entry is row.entry and r.budget >= row.budget)
    ]


def cheapest(rows: list[Row], sampler: str) -> Row | None:
    """That needs the fewest calls, among those of a sampler (or of all of deepinv's)."""
    own = (row for row in rows if row.entry.sampler.startswith(sampler))
    return min(own, key=lambda row: row.calls, default=None)


def summary(rows: list[Row], title: str) -> None:
    """Each sampler's cheapest row, and how many times the best of deepinv's costs more."""
    best = cheapest(rows, "deepinv")
    print(f"\n{title:16}   calls  seconds  deepinv's best / this   how")
    for sampler in dict.fromkeys(entry.sampler for entry in entries()):
        row = cheapest(rows, sampler)
        if row is None:
            print(f"{sampler:16} not reached, or not run")
            continue
        ratio = f"{best.calls / row.calls:22.1f}" if best else f"{'none reached it':>22}"
        print(f"{sampler:16} {row.calls:7.0f} {row.seconds:8.2f} {ratio}"
              f"   {row.entry.setting}; {row.budget} steps")  # fmt: skip


def main() -> None:
    """Print all runs and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, nargs="+", default=[0, 4],
                        help="seeds of problems; of the first eight, a second mode matters in 4"
                        )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the samplers")
    parser.add_argument("--particles", type=int, default=64)
    parser.add_argument("--noise", type=float, default=0.6, help="of the measurement")
    parser.add_argument("--only", nargs="+", metavar="SAMPLER", help="names as in the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start, means, cases = time.perf_counter(), pictures(), []
    for number in args.cases:
        problem, _ = make(means, 0.05, args.noise, number)
        exact = Posterior.of(problem.prior, problem.likelihood)
        cases += [Case(problem, exact, seed) for seed in args.seeds]
        modes = 1 / float(exact.weights.square().sum())
        print(f"case {number}: {modes:.2f} effective modes")
    print(f"{args.particles} samples, {len(args.seeds)} seeds; a gradient is {BACKWARD} calls")
    print("sampler          setting                    steps  gap dB  worst  spread     TV   calls"
          "  seconds")  # fmt: skip
    rows = [
        row
        for entry in entries()
        if not args.only or entry.sampler in args.only
        for row in sweep(entry, cases, args.particles)
    ]
    summary(lasting(rows, lambda row: row.near), f"gap <= {GAP} dB")
    summary(lasting(rows, lambda row: row.right), "and spread 5 %")
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
