"""Sampling of one slice into a result: as a whole, or in tiles if memory is short."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from tiltkit.errors import PluginError
from tiltkit.io.tiles import window_bounds
from tiltkit.likelihoods import linear_gaussian
from tiltkit.posterior.outcome import Outcome
from tiltkit.problem import AnnotatedScan, Note, TiledScan
from tiltkit.recon.baseline import baseline_outcome
from tiltkit.recon.solve import DEFAULT_MEMORY_GB, LevelDone, solve
from tiltkit.recon.tiles import available_memory, combine_reports, values_at_once
from tiltkit.sampling.target import Target

if TYPE_CHECKING:
    from tiltkit.config import Recipe
    from tiltkit.io.tiles import Bounds
    from tiltkit.problem import Problem, Scan, Tile
    from tiltkit.protocols import Prior
    from tiltkit.recon.calibrated import Calibrated
    from tiltkit.sampling.state import Sampler

__all__ = ["Parts", "Sink", "sample_slice"]


class Sink(Protocol):
    """Storage of slices: a result file that is being written, or arrays in memory.

    Attributes:
        finished: Positions of the stored slices.
    """

    finished: frozenset[int]

    def write(self, index: int, outcome: Outcome) -> None:
        """Store one slice, at its position in the result."""
        ...

    def write_tile(self, index: int, window: tuple[slice, ...], outcome: Outcome) -> None:
        """Store a tile of a slice."""
        ...

    def tiles(self, index: int) -> Mapping[Bounds, Mapping[str, Any]]:
        """Certificates of the stored tiles of a slice, by position."""
        ...

    def close_slice(self, index: int, diagnostics: Mapping[str, Any]) -> None:
        """Mark a slice of tiles as finished, with its certificate."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Scan, prior, sampler and settings, for every device.

    Attributes:
        scan: The open input.
        priors: The prior on every device.
        sampler: The sampler.
        devices: Where to compute.
        recipe: The resolved settings.
        checkpoint: File for the state of the current slice; None for no checkpoints.
        plugin: Label of the plugin that adds the task, for messages.
        calibrated: Calibration that the result cites; None for none.
    """

    scan: Scan
    priors: Sequence[Prior]
    sampler: Sampler
    devices: Sequence[torch.device]
    recipe: Recipe
    checkpoint: Path | None
    plugin: str
    calibrated: Calibrated | None = None

    def tiles(self, index: int) -> Sequence[Tile]:
        """Tiles of a slice; empty if it fits into memory, or if the scan cannot be tiled."""
        if not isinstance(self.scan, TiledScan):
            return ()
        return self.scan.tiles(index, values_at_once(self.recipe.samples, self._memory_gb))

    def first_problem(self, index: int) -> tuple[Problem, int, float]:
        """Return, for the first device, problem of a slice or first tile, tiles, memory in GB.

        Raises:
            TiltkitError: As `problem`.
        """
        tiles, prior, device = self.tiles(index), self.priors[0], self.devices[0]
        tile = tiles[0] if len(tiles) > 1 else None
        problem = self.problem(index, prior, device, tile)
        return (problem, len(tiles), self.for_tile) if tile else (problem, 1, self.for_whole)

    def problem(
        self, index: int, prior: Prior, device: torch.device, tile: Tile | None = None
    ) -> Problem:
        """The problem of a slice or of one of its tiles.

        Raises:
            PluginError: Its images have another shape than those of the layout.
            TiltkitError: Operator and measurement do not match.
        """
        shape = self.scan.layout.shape[1:]
        if tile is None:
            problem = self.scan.problem(index, prior, device)
        else:
            assert isinstance(self.scan, TiledScan)  # noqa: S101  (tiles come from it)
            shape = tuple(end - first for first, end in window_bounds(tile.window))
            problem = self.scan.tile_problem(index, tile, prior, device)
        blank = torch.zeros((1, *problem.shape), device=device)
        images = {"to_image": problem.to_image(blank)[0]}
        images |= {} if problem.baseline is None else {"baseline": problem.baseline}
        images |= {"phase": problem.phase(blank[0])} if problem.phase else {}
        shown = images["to_image"]
        images |= {name: one.compute(shown, shown) for name, one in problem.maps.items()}
        view = problem.field_of_view
        images |= {} if view is None else {"field_of_view": view}
        if problem.complex_image:
            images["complex_image"] = problem.complex_image(blank)[0]
        wrong = {name: tuple(x.shape) for name, x in images.items() if x.shape != shape}
        if wrong:
            raise PluginError(
                f"The layout of the {self._task} has images of shape {shape},"
                f" but {' and '.join(f'its {n} has {found}' for n, found in wrong.items())}.",
                "report it to the plugin's authors: all need the layout's shape, without channels.",
            )
        sampled = not self.recipe.baseline_only
        if sampled and linear_gaussian(problem.likelihood) is not None:
            Target(problem, 1, 1, device).check_measurement()
        if self.calibrated:
            self.calibrated.check(problem, tile=tile is not None)
        notes = self._notes(problem)
        return replace(problem, notes=notes) if notes != problem.notes else problem

    @property
    def _task(self) -> str:
        return f"task {self.recipe.task['name']} of plugin {self.plugin}"

    def _notes(self, problem: Problem) -> tuple[Note, ...]:
        """Notes on the scan and on one of its slices, each once.

        Raises:
            PluginError: One of them is no `Note`.
        """
        of_scan = self.scan.notes if isinstance(self.scan, AnnotatedScan) else ()
        for notes in (of_scan, problem.notes):
            listed = isinstance(notes, Sequence) and not isinstance(notes, str)
            for note in notes if listed else [notes]:
                if not isinstance(note, Note):
                    raise PluginError(
                        f"The {self._task} gives a note {repr(note)[:80]}, which is a"
                        f" {type(note).__name__}.",
                        "for its authors: notes are a sequence of tiltkit.problem.Note.",
                    )
        calibrated = self.calibrated.notes(problem) if self.calibrated else ()
        return tuple(dict.fromkeys([*of_scan, *problem.notes, *calibrated]))

    def finished(self, outcome: Outcome) -> Outcome:
        """The outcome to store: with wider intervals where the recipe has them."""
        return self.calibrated.widened(outcome) if self.calibrated else outcome

    @property
    def for_whole(self) -> float:
        """Memory in GB for samples of a whole slice that are computed together."""
        return self.recipe.memory_gb or DEFAULT_MEMORY_GB

    @property
    def for_tile(self) -> float:
        """The same for a tile; the other half is for the tensors that `values_at_once` counts."""
        return self._memory_gb / 2

    @property
    def _memory_gb(self) -> float:
        return self.recipe.memory_gb or min(available_memory(device) for device in self.devices)

    def steps(
        self,
        index: int,
        problem: Callable[[Prior, torch.device], Problem],
        checkpoint: Path | None,
        memory_gb: float,
    ) -> Iterator[LevelDone | Outcome]:
        """Sample a problem of slice ``index``, or reconstruct it without a prior."""
        if self.recipe.baseline_only:
            prior, device = self.priors[0], self.devices[0]
            return iter([baseline_outcome(problem(prior, device), self.recipe.seed, device)])
        return solve(
            [problem(prior, at) for prior, at in zip(self.priors, self.devices, strict=True)],
            self.sampler,
            seed=(self.recipe.seed, index),
            n=self.recipe.samples,
            devices=self.devices,
            runs=self.recipe.runs,
            test_shares=self.recipe.test_shares,
            memory_gb=memory_gb,
            index=index,
            checkpoint=checkpoint,
        )


def sample_slice(
    parts: Parts, index: int, position: int, sink: Sink
) -> Iterator[LevelDone | Mapping[str, Any]]:
    """Sample a slice into a result; the last item is its certificate.

    Args:
        parts: Scan, prior, sampler and settings.
        index: Index of the slice in the scan.
        position: Position of the slice in the result.
        sink: The result.
    """
    tiles = parts.tiles(index)
    if len(tiles) > 1:
        yield from _sample_tiles(parts, tiles, index, position, sink)
    else:
        yield from _sample_whole(parts, index, position, sink)


def _sample_whole(
    parts: Parts, index: int, position: int, sink: Sink
) -> Iterator[LevelDone | Mapping[str, Any]]:
    """Sample a slice as a whole."""
    problem = partial(parts.problem, index)
    for step in parts.steps(index, problem, parts.checkpoint, parts.for_whole):
        if isinstance(step, Outcome):
            sink.write(position, parts.finished(step))
            yield step.diagnostics
        else:
            yield step


def _sample_tiles(
    parts: Parts, tiles: Sequence[Tile], index: int, position: int, sink: Sink
) -> Iterator[LevelDone | Mapping[str, Any]]:
    """Sample a slice in tiles; tiles that a stopped run has written are skipped."""
    done = sink.tiles(position)
    todo = [tile for tile in tiles if window_bounds(tile.window) not in done]
    start = time.perf_counter()
    for k, tile in enumerate(todo):
        problem = partial(parts.problem, index, tile=tile)
        # Tiles share their random numbers, but not their checkpoints.
        number = tiles.index(tile)
        first = parts.checkpoint
        own = first.with_name(f"{first.name}.tile{number}") if first else None
        for step in parts.steps(index, problem, own, parts.for_tile):
            if isinstance(step, Outcome):
                sink.write_tile(position, tile.window, parts.finished(step))
            else:
                yield _slice_progress(step, k, len(todo), time.perf_counter() - start)
    done = sink.tiles(position)
    windows = [window_bounds(tile.window) for tile in tiles]
    report = combine_reports([done[window] for window in windows], windows)
    sink.close_slice(position, report)
    yield report


def _slice_progress(step: LevelDone, tile: int, tiles: int, spent: float) -> LevelDone:
    """Convert the progress of one tile into that of all tiles to do, after ``spent`` seconds."""
    done = tile * step.n_levels + step.level
    total = tiles * step.n_levels
    return replace(step, level=done, n_levels=total, seconds_left=spent / done * (total - done))
