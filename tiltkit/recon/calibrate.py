"""Calibration of a scan: known images, simulated data, samples, ranks; draw by draw into a file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.calibration.draw import Draw, measured, ranked, with_both, with_other
from tiltkit.calibration.record import Calibration, Plan
from tiltkit.calibration.regions import Regions, labelled_regions, segment
from tiltkit.digest import digest
from tiltkit.errors import InputError, UsageError
from tiltkit.io.atomic import check_output, is_complete
from tiltkit.io.calibration import finish, held, load_calibration, resumed, same_plan, save_part
from tiltkit.io.reading import read_estimate, read_provenance
from tiltkit.posterior.outcome import Outcome
from tiltkit.recon.recipe import resolve
from tiltkit.recon.references import Units, image_files, invert, reference_images
from tiltkit.recon.scan import Job, open_job
from tiltkit.recon.selection import choose_slices
from tiltkit.recon.solve import LevelDone, solve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.config import Recipe
    from tiltkit.plugins import Plugins
    from tiltkit.problem import Problem, Tile
    from tiltkit.protocols import Layout

__all__ = [
    "DRAWS", "CalibrationDone", "Chosen", "DrawDone", "DrawStarted", "LevelDone", "calibrate_scan",
]  # fmt: skip

DRAWS = 8
"""Default number of draws of posterior SBC."""

# Fewest samples of a draw: their ranks must be able to show a spread.
_FEWEST_SAMPLES = 4
# Largest mean difference of repeated samples over their spread: rounding of half precision.
_REPEATED = 0.1


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a calibration does beside the recipe.

    Attributes:
        draws: Number of draws; None for `DRAWS`, or all reference images.
        images: Files or folders of reference images; empty for posterior SBC.
        units: Units of the reference images.
        regions: NumPy file of labels; None for regions from the posterior mean.
        result: Result of the recipe, whose samples are the known images; None to make a run.
    """

    draws: int | None = None
    images: tuple[Path, ...] = ()
    units: Units = "prior"
    regions: Path | None = None
    result: Path | None = None


@dataclass(frozen=True, slots=True)
class DrawStarted:
    """A draw begins: its number from 1, and the number of all."""

    number: int
    total: int


@dataclass(frozen=True, slots=True)
class DrawDone:
    """A draw is finished: its number from 1, the number of all, and the remaining seconds."""

    number: int
    total: int
    seconds_left: float


@dataclass(frozen=True, slots=True)
class CalibrationDone:
    """The calibration is complete; ``computed`` is false if it was complete before."""

    calibration: Calibration
    computed: bool


Event = LevelDone | DrawStarted | DrawDone | CalibrationDone


def calibrate_scan(
    recipe: Recipe,
    plugins: Plugins,
    source: Path,
    output: Path | None,
    chosen: Chosen,
    *,
    resume: bool,
    overwrite: bool,
    command: str,
) -> Generator[Event, None, None]:
    """Calibrate the intervals of a scan; the last event is `CalibrationDone`.

    Closing the generator keeps the finished draws in ``OUTPUT.part`` for ``resume``.

    Args:
        recipe: Settings of the runs whose intervals are calibrated.
        plugins: The plugins.
        source: The input file.
        output: Calibration file to write; None keeps all in memory.
        chosen: Draws, reference images and regions.
        resume: Continue a calibration that was stopped.
        overwrite: Replace an existing one.
        command: Command line, for the provenance.

    Raises:
        TiltkitError: The calibration failed; the kind of the error has the cause.
    """
    free = {"calibration": None, "widen": False, "test_shares": False, "baseline_only": False}
    recipe = resolve({**recipe.model_dump(), **free}, plugins)
    if recipe.samples < _FEWEST_SAMPLES:
        raise UsageError(
            f"{recipe.samples} samples are too few for a calibration.",
            f"ask for {_FEWEST_SAMPLES} or more with --samples.",
        )
    files = image_files(chosen.images)
    with ExitStack() as stack:
        complete = bool(output and resume and is_complete(output))
        if output:
            keep = [source, *files, *([chosen.regions] if chosen.regions else [])]
            check_output(output, overwrite=overwrite or complete, resume=resume, keep=keep)
            stack.enter_context(held(output))
        job = stack.enter_context(open_job(recipe, plugins, source, command, None, _slices))
        bench = _Bench(job, chosen, tuple(files))
        plan = bench.plan()
        if output and complete:
            same_plan(output, load_calibration(output).plan, plan)
            yield CalibrationDone(load_calibration(output), computed=False)
            return
        found = resumed(output, plan) if output and resume else None
        if found is None:
            found = yield from bench.start(plan)
        for number in range(plan.draws):
            if number not in found.draws:
                if output:
                    save_part(output, found)
                yield DrawStarted(number + 1, plan.draws)
                found = found.with_draw(number, (yield from bench.draw(found, number)))
                yield DrawDone(number + 1, plan.draws, _seconds_left(found))
        job.check()
        if output:
            finish(output, found)
        yield CalibrationDone(found, computed=True)


def _seconds_left(calibration: Calibration) -> float:
    """Estimated time of the draws that are not finished."""
    done = [draw.seconds for draw in calibration.draws.values()]
    return sum(done) / len(done) * (calibration.plan.draws - len(done))


def _slices(text: str | None, layout: Layout, source: Path) -> list[int]:
    """The slices that are named, or the usable slice nearest to the middle."""
    if text:
        return choose_slices(text, layout, source)
    middle = layout.shape[0] // 2
    usable = [i for i in range(layout.shape[0]) if i not in layout.unusable]
    nearest = min(usable, key=lambda i: abs(i - middle), default=middle)
    return choose_slices(str(nearest), layout, source)


@dataclass(frozen=True, slots=True)
class _Samples:
    """Samples of a slice: mean and images in the user's units, particles in the prior's."""

    mean: NDArray[Any]
    images: NDArray[Any]
    particles: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Bench:
    """An open scan with all that its draws share; draws take the chosen slices in turn."""

    job: Job
    chosen: Chosen
    files: tuple[Path, ...]

    def plan(self) -> Plan:
        """The plan, from the first chosen slice."""
        job, problem = self.job, self.problem(self.job.chosen[0])
        recipe, y = job.parts.recipe, getattr(problem.likelihood, "y", torch.zeros(0))
        labels = [self.chosen.regions] if self.chosen.regions else []
        noise = getattr(problem.likelihood, "noise_var", 0.0) ** 0.5
        draws = len(self.references()) if self.files else self.chosen.draws or DRAWS
        return Plan(
            kind="images" if self.files else "posterior",
            draws=draws,
            settings=recipe.model_dump(mode="json"),
            image_shape=tuple(problem.shape),
            data_shape=tuple(y.shape),
            noise=noise,
            rows=self.divide(np.zeros(self.image_shape(problem))).rows,
            weights_sha256=str(job.origin.get("weights_sha256", "")),
            raw_sha256=str(job.origin["raw_sha256"]),
            images_sha256=tuple(digest(path) for path in (*self.files, *labels)),
        )

    @lru_cache(maxsize=1)  # noqa: B019  (one bench a call)
    def problem(self, index: int) -> Problem:
        """Problem of a slice on the first device, or of its first tile."""
        return self.job.parts.first_problem(index)[0]

    @lru_cache(maxsize=1)  # noqa: B019
    def references(self) -> NDArray[np.float32]:
        """Reference images (image, channel, *space), as many as there are draws."""
        problem = self.problem(self.job.chosen[0])
        found = reference_images(self.files, problem, self.chosen.units)
        return found[: self.chosen.draws]

    @lru_cache(maxsize=1)  # noqa: B019
    def given_labels(self) -> NDArray[Any] | None:
        """Labels of regions that the user gave."""
        if self.chosen.regions is None:
            return None
        try:
            found: NDArray[Any] = np.load(self.chosen.regions, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.chosen.regions} cannot be read as a NumPy array.",
                "save the labels with numpy.save, one whole number for each pixel.",
            ) from error
        return found

    def image_shape(self, problem: Problem) -> tuple[int, ...]:
        """Shape of an image in the user's units."""
        device = self.job.parts.devices[0]
        return tuple(problem.to_image(torch.zeros((1, *problem.shape), device=device)).shape[1:])

    def divide(self, mean: NDArray[Any]) -> Regions:
        """Regions of an image with this mean."""
        labels = self.given_labels()
        return segment(mean) if labels is None else labelled_regions(labels, mean.shape)

    def start(self, plan: Plan) -> Generator[Event, None, Calibration]:
        """A calibration without draws: reference images, or samples of the scan."""
        problem = self.problem(self.job.chosen[0])
        if self.files:
            known = self.references()
            first = torch.from_numpy(known[:1]).to(self.job.parts.devices[0])
            mean = problem.to_image(first)[0].cpu().numpy()
            variances = np.zeros((0, *mean.shape), np.float32)
        else:
            known, variances, mean = yield from self._samples(plan)
        regions = self.divide(mean)
        given = self.chosen.regions is not None
        return Calibration(plan, self.job.origin, mean, regions.labels, given, known, variances)

    def _samples(
        self, plan: Plan
    ) -> Generator[Event, None, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]]:
        """Known images of posterior SBC, variances by slice, and the mean of the first slice.

        The first samples of each slice are those of ``tiltkit run``; more runs follow where a slice
        has more draws than samples. No sample is taken twice.
        """
        seed, samples = self.job.parts.recipe.seed, self.job.parts.recipe.samples
        slices = self.job.chosen[: plan.draws]
        known = np.zeros((plan.draws, *plan.image_shape), np.float32)
        variances, means = [], []
        for place, index in enumerate(slices):
            numbers = range(place, plan.draws, len(slices))
            first = self._stored(index) or (yield from self._first(index))
            particles = [first.particles]
            for k in range(1, math.ceil(len(numbers) / samples)):
                own = (seed, index, 4, k)
                run = yield from self._sample(index, None, own)
                particles.append(np.asarray(run.particles))
            stacked = np.concatenate(particles)
            order = np.random.default_rng([seed, index, 4]).permutation(len(stacked))
            known[list(numbers)] = stacked[order[: len(numbers)]]
            variances.append(first.images.var(0, ddof=1))
            means.append(first.mean)
        return known, np.stack(variances), means[0]

    def _stored(self, index: int) -> _Samples | None:
        """Samples of a slice in the result; None where there is none, or they cannot be undone."""
        if self.chosen.result is None:
            return None
        mean, images = self._in_result(index)
        particles = invert(images, self.problem(index))
        return None if particles is None else _Samples(mean, images, particles)

    def _first(self, index: int) -> Generator[Event, None, _Samples]:
        """The run of a slice that ``tiltkit run`` makes.

        Raises:
            InputError: Its samples are not those of the result.
        """
        run = yield from self._sample(index, None, (self.job.parts.recipe.seed, index))
        if self.chosen.result is not None:
            _, images = self._in_result(index)
            spread = float(images.std(0).mean())
            if float(np.abs(run.samples - images).mean()) > _REPEATED * spread:
                raise InputError(
                    f"The samples of {self.chosen.result} could not be made again on this machine.",
                    "leave out --result: a new run is made then.",
                )
        return _Samples(run.mean, run.samples, np.asarray(run.particles))

    def _in_result(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and samples of a slice in the result.

        Raises:
            InputError: The result does not have this slice, or it is tiled.
        """
        result = self.chosen.result
        assert result is not None  # noqa: S101
        slices = list(read_provenance(result).get("slices", ()))
        if index not in slices:
            raise InputError(
                f"{result} does not have slice {index}.", f"choose among {slices} with --slices."
            )
        estimate = read_estimate(result, slices.index(index))
        if estimate.mean.shape != self.image_shape(self.problem(index)):
            raise InputError(
                f"{result} is in tiles, of which one is calibrated.", "leave out --result."
            )
        return estimate.mean, estimate.samples

    def draw(self, calibration: Calibration, number: int) -> Generator[Event, None, Draw]:
        """One draw: simulate data, sample, rank."""
        start = time.perf_counter()
        place = number % min(len(self.job.chosen), calibration.plan.draws)
        index, seed = self.job.chosen[place], self.job.parts.recipe.seed
        problem = self.problem(index)
        x = torch.from_numpy(calibration.known[number : number + 1])
        x = x.to(self.job.parts.devices[0])
        with torch.inference_mode():
            y = measured(problem, x, seed=seed, number=number)
        change = with_other if self.files else with_both
        outcome = yield from self._sample(
            index, lambda one, at: change(one, y.to(at)), (seed, index, 5, number + 1)
        )
        variance = None if self.files else calibration.variances[place]
        draw = ranked(
            with_other(problem, y), x, outcome, variance,
            seed=seed, number=number, draws=calibration.plan.draws, divide=self.divide,
        )  # fmt: skip
        return Draw(draw.ranks, draw.gain, draw.held, draw.exceedance, time.perf_counter() - start)

    def _sample(
        self,
        index: int,
        change: Callable[[Problem, torch.device], Problem] | None,
        seed: tuple[int, ...],
    ) -> Generator[Event, None, Outcome]:
        """Sample a slice or its first tile, with its problem changed on every device."""
        parts = self.job.parts
        tiles = parts.tiles(index)
        tile: Tile | None = tiles[0] if len(tiles) > 1 else None
        problems = [
            self.problem(index) if place == 0 else parts.problem(index, prior, at, tile)
            for place, (prior, at) in enumerate(zip(parts.priors, parts.devices, strict=True))
        ]
        if change:
            problems = [change(*pair) for pair in zip(problems, parts.devices, strict=True)]
        memory = parts.for_tile if tile else parts.for_whole
        steps = solve(
            problems, parts.sampler, seed=seed, n=parts.recipe.samples, devices=parts.devices,
            runs=parts.recipe.runs, memory_gb=memory, index=index,
        )  # fmt: skip
        for step in steps:
            if isinstance(step, Outcome):
                return step
            yield step
        raise RuntimeError("the sampler ended without an outcome")
