"""All problems with exact answers in one table, and how often runs are wrong without saying so.

gaussian   priors of pixels and of images, `gaussians.py`: by size, number of samples, kind, noise
images     mixture of 120 brain images, `image_mixture.py`: by noise; two modes matter in some cases
signals    random walks of 64 values, `signals.py`: by law of the steps and measurement

A row is a setting, with means over its runs. ``calls`` are network calls, ``excess`` is the error
of the mean over that of the exact mean in dB, ``spread`` the root of the variance over the exact
one, ``cov90`` how often exact draws lie in the 90 % intervals; after each slash is the same figure
of as many exact draws. The last columns are variances over the exact ones by bands of spatial
frequency from coarse to fine (of white priors: measured pixels, others).

Honesty: a run is *off* if its mean is off by more than 1 dB, or a band's variance is outside of 0.8
to 1.25, each by more than 99.9 % of sets of exact draws are. It also is where the mean over all
runs of its setting (of its problem, for images and signals) is outside by two standard errors. It
is *right* if it is not off and that mean is inside; else it is *unclear*, and not counted. A run
says ``ok``, or that the *local* half of its verdict is ok and shares are not tested, or that
nothing was tested, or it warns. Of Gaussian posteriors, which have no separate parts, the local
half is the whole.

    python benchmarks/faithful.py [--full] [--csv FILE]

With --csv every finished run is a row of FILE; runs that are there already are not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from itertools import groupby, product
from pathlib import Path

import image_mixture
import signals
import torch
from exact import (
    LEAST,
    MOST,
    SAYS,
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
from gaussians import GaussianCase
from known import Posterior

from tiltkit.problem import Problem

GROUPS = ("gaussian", "images", "signals")
KINDS = ("white", "1 coil", "4 coils")
NOISES = (0.02, 0.1, 0.3)
# Noise of the image mixture: one mode in most cases, two in some, several in many.
MIXTURE_NOISES = (0.6, 1.0)
POOL = 2048


@dataclass(frozen=True)
class Job:
    """One run of the table.

    Attributes:
        group: One of `GROUPS`.
        setting: Label of its row.
        case: Problems that may differ in how hard they are; empty where all are alike.
        n: Number of samples.
        seed: Of the problem and of the sampler.
        make: The problem and its exact posterior.
    """

    group: str
    setting: str
    case: str
    n: int
    seed: int
    make: Callable[[], tuple[Problem, Reference]]


@dataclass(frozen=True)
class Record:
    """A finished job.

    Attributes:
        group: See `Job`.
        setting: See `Job`.
        case: See `Job`.
        n: Number of samples.
        seed: See `Job`.
        sampler: Its name and options.
        score: The run.
        exact: As many exact draws.
    """

    group: str
    setting: str
    case: str
    n: int
    seed: int
    sampler: str
    score: Score
    exact: Score

    @property
    def key(self) -> tuple[str, ...]:
        """What tells jobs apart."""
        return (self.group, self.setting, self.case, str(self.n), str(self.seed), self.sampler)


def main() -> None:
    """Run what is asked for, and print the table."""
    args = arguments()
    torch.set_num_threads(1)
    start = time.perf_counter()
    name = " ".join([args.sampler, args.quality, *("=".join(pair) for pair in args.set)])
    done = read(args.csv)
    records: list[Record] = []
    said = "/".join(SAYS)
    print(f"{'':35}calls excess/exact worst  spread     cov90   {said}, variance by band")
    for setting, together in groupby(jobs(args), lambda job: job.setting):
        for job in together:
            key = (job.group, job.setting, job.case, str(job.n), str(job.seed), name)
            record = done.get(key) or finish(job, name, args)
            if args.csv and key not in done:
                append(args.csv, record)
            records.append(record)
        print(row([one for one in records if one.setting == setting]), flush=True)
    print()
    honesty(records)
    print(f"{name}: {len(records)} runs, {time.perf_counter() - start:.0f} s")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_sampler(parser, samples=0)
    parser.set_defaults(samples=None)
    parser.add_argument("--only", nargs="+", default=list(GROUPS), choices=GROUPS)
    parser.add_argument("--seeds", type=int, help="runs of each setting")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32], help="of Gaussian images")
    parser.add_argument("--full", action="store_true", help="all settings, more seeds")
    parser.add_argument("--csv", type=Path, help="file for finished runs")
    parser.add_argument("--cache", type=Path, default=signals.CACHE, help="folder for exact draws")
    return parser.parse_args()


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """All runs, in the order of the table."""
    if "gaussian" in args.only:
        yield from gaussian_jobs(args)
    if "images" in args.only:
        yield from image_jobs(args)
    if "signals" in args.only:
        yield from signal_jobs(args)


def gaussian_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Gaussian priors: sizes, numbers of samples, kinds and noises."""
    numbers = [args.samples] if args.samples else [8, 16] if args.full else [16]
    seeds = args.seeds or (8 if args.full else 2)
    for side, n, kind, noise in product(args.sizes, numbers, KINDS, NOISES):
        case = gaussian_case(kind, side, noise, args.cache)
        for seed in range(seeds):
            label = f"{kind} {side}x{side} noise {noise:g} n={n}"
            yield Job("gaussian", label, "", n, seed, partial(case.problem, seed))


@cache
def gaussian_case(kind: str, side: int, noise: float, folder: Path | None) -> GaussianCase:
    """Problems of one kind, whose exact samples are made once."""
    return GaussianCase(kind, side, noise, draws=256 if side <= 64 else 64, cache=folder)


def image_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Cases of the image mixture."""
    n = args.samples or 64
    cases, seeds = (8, args.seeds or 3) if args.full else (3, args.seeds or 1)
    for noise, case, seed in product(MIXTURE_NOISES, range(cases), range(seeds)):
        label = f"images noise {noise:g} n={n}"
        yield Job("images", label, str(case), n, seed, partial(image_problem, noise, case))


@cache
def pictures() -> torch.Tensor:
    """Means of the mixture."""
    return image_mixture.pictures()


def image_problem(noise: float, case: int) -> tuple[Problem, Reference]:
    """A case of the image mixture and its exact posterior."""
    problem, _ = image_mixture.make(pictures(), 0.05, noise, case)
    posterior = Posterior.of(problem.prior, problem.likelihood)
    draws = posterior.draw(POOL, torch.Generator().manual_seed(1))
    power = shells(problem.shape)
    mean = posterior.mean
    bands = power((draws - mean).float()).mean(0)
    return problem, Reference(mean, posterior.total_variance, draws, power, bands)


def signal_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Random walks: one problem for each law, or several for each law and measurement."""
    n = args.samples or 64
    pairs = list(product(signals.LAWS, signals.MEASUREMENTS))
    if not args.full:
        pairs = [pair for i, pair in enumerate(pairs) if i // 3 % 3 == i % 3]
    seeds = args.seeds or (4 if args.full else 1)
    for (law, measurement), seed in product(pairs, range(seeds)):
        make = partial(signal_problem, law, measurement, seed, args.cache)
        yield Job("signals", f"{law} {measurement} n={n}", str(seed), n, seed, make)


def signal_problem(
    law: str, measurement: str, seed: int, cache: Path
) -> tuple[Problem, Reference]:  # fmt: skip
    """A random walk and its exact posterior."""
    signal = signals.make_signal(law, measurement, seed)
    return signal.problem, signals.reference(signal, cache)


def finish(job: Job, name: str, args: argparse.Namespace) -> Record:
    """Make a run, and judge it and as many exact draws."""
    problem, exact = job.make()
    one = judge(run(problem, make_sampler(args), job.n, job.seed), exact)
    same = exact_score(exact, job.n, job.seed)
    return Record(job.group, job.setting, job.case, job.n, job.seed, name, one, same)


def row(records: Sequence[Record]) -> str:
    """One line of the table."""

    def mean(figure: Callable[[Score], float]) -> tuple[float, float]:
        kinds = [one.score for one in records], [one.exact for one in records]
        found, right = (sum(map(figure, kind)) / len(kind) for kind in kinds)
        return found, right

    excess, right_excess = mean(lambda s: s.excess)
    spread, coverage = mean(lambda s: s.variance**0.5), mean(lambda s: s.coverage)
    worst = max(decibel(one.score.excess) for one in records)
    bands = zip(*(one.score.bands for one in records), strict=True)
    said = "/".join(f"{sum(one.score.says == word for one in records)}" for word in SAYS)
    return (
        f"{records[0].setting:34}{mean(lambda s: s.calls)[0]:5.0f} "
        f" {decibel(excess):5.2f}/{decibel(right_excess):4.2f} {worst:5.2f}"
        f" {spread[0]:5.2f}/{spread[1]:4.2f} {coverage[0]:5.2f}/{coverage[1]:4.2f}"
        f"  {said:9} " + " ".join(f"{sum(band) / len(band):.2f}" for band in bands)
    )


def classify(records: Sequence[Record]) -> list[str]:
    """``off``, ``right`` or ``unclear`` for each run, see the top of this file."""
    groups = defaultdict(list)
    for one in records:
        groups[one.group, one.setting, one.case].append(one)
    words = {key: pooled(group) for key, group in groups.items()}
    return [
        "off" if one.score.off else words[one.group, one.setting, one.case] for one in records
    ]  # fmt: skip


def pooled(records: Sequence[Record]) -> str:
    """The class of a setting, from the mean over its runs."""
    word = "right"
    for at in range(len(records[0].score.bands)):
        mean = sum(one.score.bands[at] for one in records) / len(records)
        error = 2 * records[0].score.scatter[at] / len(records) ** 0.5
        if mean < LEAST - error or mean > MOST + error:
            return "off"
        if not LEAST <= mean <= MOST:
            word = "unclear"
    return word


def honesty(records: Sequence[Record]) -> None:
    """Print how many runs that are off, or right, say what."""
    words = classify(records)
    print("honesty: number of runs       " + "".join(f"{word:>10}" for word in SAYS))
    for kind in ("off", "right", "unclear"):
        for group in GROUPS:
            own = [one for one, word in zip(records, words, strict=True)
                   if word == kind and one.group == group]  # fmt: skip
            counts = [sum(one.score.says == word for one in own) for word in SAYS]
            print(f"  {kind:8} {group:10} of {len(own):4}  " + "".join(f"{n:10}" for n in counts))
    share("off runs that say ok", records, words, "off", claims)
    share("right runs that warn", records, words, "right", lambda one: one.score.says == "warns")


def claims(record: Record) -> bool:
    """The run says that all is right; of a Gaussian posterior the local half is all."""
    return record.score.says in (("ok", "local ok") if record.group == "gaussian" else ("ok",))


def share(
    label: str,
    records: Sequence[Record],
    words: Sequence[str],
    kind: str,
    counted: Callable[[Record], bool],
) -> None:
    """Print the share of runs of a kind that ``counted`` is true for."""
    own = [one for one, word in zip(records, words, strict=True) if word == kind]
    hits = sum(map(counted, own))
    print(f"{label}: {hits} of {len(own)}" + (f", {hits / len(own):.0%}" if own else ""))


def read(path: Path | None) -> dict[tuple[str, ...], Record]:
    """Finished jobs of a file, by their keys."""
    if path is None or not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [
        Record(
            r["group"], r["setting"], r["case"], int(r["n"]), int(r["seed"]), r["sampler"],
            *(Score(**{name: _tuples(json.loads(r[f"{kind}_{name}"])) for name in _NAMES})
              for kind in ("run", "exact")),
        )
        for r in rows
    ]  # fmt: skip
    return {one.key: one for one in found}


_NAMES = [field.name for field in fields(Score)]


def _tuples(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def append(path: Path, record: Record) -> None:
    """Add a finished job to a file."""
    values = {name: getattr(record, name) for name in
              ("group", "setting", "case", "n", "seed", "sampler")}  # fmt: skip
    for kind, score in (("run", record.score), ("exact", record.exact)):
        values |= {f"{kind}_{name}": json.dumps(value) for name, value in asdict(score).items()}
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, values)
        if new:
            writer.writeheader()
        writer.writerow(values)


if __name__ == "__main__":
    main()
