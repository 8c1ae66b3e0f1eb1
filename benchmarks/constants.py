"""What is the effect of constants chosen by hand? Each at half and at double its value.

Three small problems with exact answers, one seed for all values of a constant:

images   Gaussian prior with the spectrum of images, 32x32, noise 0.1, 64 samples; four coils, with
         the diagonal algebra and with iterative solves
modes    three cases of the mixture of 120 pictures of `image_mixture.py`, sampler `twisted`
counts   pixels with 0 and with 3 counts of `counts.py`

Printed are the variance over the exact one, for images in the band that is farthest off, and the
squared error of the mean over that expected of exact draws; for modes the error of the shares
(total variation), with a scatter of 0.1; for counts variance and error of the mean in standard
deviations. Values of 1 and errors of 0 are right.

    python benchmarks/constants.py
    python benchmarks/constants.py --only RUNAWAY OVERSHOOT
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import counts
import image_mixture
import torch
from gaussians import GaussianCase
from known import Posterior, sample
from torch import Tensor

from tiltkit import load_plugins
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.sampling.state import Sampler
from tiltkit.testing.known import Plain

SAMPLES = 64


def make(name: str, options: Mapping[str, Any]) -> Sampler:
    """A sampler with its defaults but for these options."""
    return load_plugins().create("sampler", name, dict(options))


@lru_cache
def four_coils() -> GaussianCase:
    """MRI of some columns with four coils."""
    return GaussianCase("4 coils", 32, 0.1)


def images(name: str, options: Mapping[str, Any], *, plain: bool = False) -> str:
    """Variance and error of the mean for images.

    Args:
        name: The sampler.
        options: Its options.
        plain: Hide from the engine that the operator can be diagonalised.
    """
    case = four_coils()
    problem, exact = case.problem(0)
    if plain:
        given = problem.likelihood
        likelihood = GaussianLikelihood(Plain(given.operator), given.y, given.noise_var)
        object.__setattr__(problem, "likelihood", likelihood)
    x, _, _ = sample(problem, make(name, options), SAMPLES, 0, torch.float32)
    bands = case.power(x - x.mean(0)).sum(0) / (SAMPLES - 1) / exact.bands
    return figures(float(max(bands, key=lambda b: abs(math.log(b)))), x, exact.mean, exact.variance)


def iterative(name: str, options: Mapping[str, Any]) -> str:
    """The same with iterative solves."""
    return images(name, options, plain=True)


def figures(spread: float, x: Tensor, mean: Tensor, variance: float) -> str:
    """Variance over the exact one, and the squared error of the mean over that of exact draws."""
    error = float((x.mean(0) - mean).double().square().sum()) / (variance / len(x))
    return f"{spread:.2f} {error:.2f}"


def modes(name: str, options: Mapping[str, Any]) -> str:
    """Error of the shares of the modes, as mean over three cases."""
    means, total = image_mixture.pictures(), 0.0
    cases = (1, 4, 6)
    for case in cases:
        problem, _ = image_mixture.make(means, 0.05, 0.6, case)
        x, _, _ = sample(problem, make(name, options), SAMPLES, 0)
        total += Posterior.of(problem.prior, problem.likelihood).mode_error(x)
    return f"{total / len(cases):.2f}"


def few_counts(name: str, options: Mapping[str, Any]) -> str:
    """Variance and error of the mean where 0 and where 3 were counted."""
    found = []
    for case in (counts.CASES[0], counts.CASES[3]):
        x, _ = counts.sampled(make(name, options), 32, *case)
        exact, variance = counts.integrated(*case)
        off = (float(x.mean()) - exact) / variance**0.5
        found.append(f"{float(x.var()) / variance:.2f} {off:+.2f}")
    return ", ".join(found)


@dataclass(frozen=True)
class Constant:
    """A number of the engine, or an option of a sampler.

    Attributes:
        name: Name of the constant in its module, or of the option.
        module: The module; empty for an option.
        figure: Quick run that gives a figure.
        sampler: Its sampler.
        options: Further options.
        factors: Multiples of the value that are tried.
    """

    name: str
    module: str
    figure: Callable[[str, Mapping[str, Any]], str]
    sampler: str = "moments"
    options: Mapping[str, Any] = field(default_factory=dict)
    factors: tuple[float, ...] = (0.5, 1.0, 2.0)

    @property
    def value(self) -> float:
        """The value in use."""
        if self.module:
            return float(getattr(sys.modules[self.module], self.name))
        return float(getattr(make(self.sampler, {}).options, self.name))  # type: ignore[attr-defined]

    def figure_at(self, factor: float) -> str:
        """The figure with a multiple of the value."""
        value = factor * self.value
        given = dict(self.options)
        if not self.module:
            value = int(value) if self.name in ("levels", "products") else value
            return self.figure(self.sampler, given | {self.name: value})
        with replaced(self.name, self.value, value):
            return self.figure(self.sampler, given)


@contextmanager
def replaced(name: str, old: float, new: float) -> Iterator[None]:
    """Another value of a constant in all modules of the engine that imported it."""
    holders = [
        vars(module) for key, module in sys.modules.items()
        if key.startswith("tiltkit.") and vars(module).get(name) == old
    ]  # fmt: skip
    before = [holder[name] for holder in holders]
    for holder in holders:
        holder[name] = type(holder[name])(new)
    try:
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder[name] = value


ENGINE = "tiltkit.sampling"
CONSTANTS = (
    Constant("levels", "", images),
    Constant("difference_step", "", images),
    Constant("step", "", images),
    Constant("step", "", iterative),
    Constant("rho", "", images),
    Constant("RUNAWAY", f"{ENGINE}.samplers.moments", images),
    Constant("ROUGH_ITERATIONS", f"{ENGINE}.gaussian.diagonal", images),
    Constant("ITERATIONS", f"{ENGINE}.gaussian.diagonal", images),
    Constant("FEWEST_IN_SHELL", f"{ENGINE}.gaussian.conditioning", images),
    Constant("MAX_CONDITION", f"{ENGINE}.gaussian.conditioning", iterative),
    Constant("ROUGH_ERROR", f"{ENGINE}.gaussian.iterative", iterative),
    Constant("EXACT_ERROR", f"{ENGINE}.gaussian.iterative", iterative),
    Constant("LARGEST", f"{ENGINE}.samplers.start", images, factors=(0.5, 1.0)),
    Constant("COORDINATES", f"{ENGINE}.samplers.start", images),
    Constant("FORCE_LIMIT", f"{ENGINE}.gaussian.correction", few_counts),
    Constant("SMALLEST_INFORMATION", "tiltkit.likelihoods.counts", few_counts),
    Constant("OVERSHOOT", f"{ENGINE}.samplers.guidance", modes, "twisted"),
    Constant("MIN_COORDINATES", f"{ENGINE}.samplers.guidance", images, "twisted"),
    Constant("difference_step", "", modes, "twisted"),
    Constant("MIN_POWER", f"{ENGINE}.particles.weights", modes, "twisted"),
    Constant("most_shared_ancestry", "", modes, "twisted"),
    Constant("min_ess", "", modes, "twisted"),
    Constant("RESAMPLE_BELOW", f"{ENGINE}.samplers.walmc", modes, "walmc"),
)


def main() -> None:
    """Print a row for each constant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted({c.name for c in CONSTANTS}))
    only = parser.parse_args().only
    torch.set_num_threads(1)
    make("moments", {}), make("twisted", {}), make("walmc", {})  # imports their modules
    print("| constant | sampler, problem | value | half | as it is | double |")
    print("|---|---|---|---|---|---|")
    for constant in CONSTANTS:
        if only and constant.name not in only:
            continue
        row = [constant.figure_at(f) if f in constant.factors else "" for f in (0.5, 1.0, 2.0)]
        problem = f"{constant.sampler}, {constant.figure.__name__.replace('_', ' ')}"
        cells = [constant.name, problem, f"{constant.value:g}", *row]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
