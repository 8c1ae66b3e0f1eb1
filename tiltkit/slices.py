"""One slice of a scan into the result file: at once, or tile by tile where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltkit.files.tiles import bounds_of
from tiltkit.sampling.outcome import Outcome
from tiltkit.solve import DEFAULT_MEMORY_GB, LevelDone, solve
from tiltkit.tiled import TiledScan, combined, memory_of, values_at_once

if TYPE_CHECKING:
    import torch

    from tiltkit.config import Recipe
    from tiltkit.files.result import ResultWriter
    from tiltkit.problem import Problem
    from tiltkit.protocols import Prior, Scan
    from tiltkit.sampling.state import Sampler
    from tiltkit.tiled import Tile

__all__ = ["Parts", "sample_slice"]


@dataclass(frozen=True, slots=True)
class Parts:
    """All that sampling a slice takes, on every device."""

    scan: Scan
    priors: Sequence[Prior]
    sampler: Sampler
    devices: Sequence[torch.device]
    recipe: Recipe
    checkpoint: Path

    def steps(
        self,
        index: int,
        problem: Callable[[Prior, torch.device], Problem],
        checkpoint: Path,
        memory_gb: float,
    ) -> Iterator[LevelDone | Outcome]:
        """Sample a problem of slice ``index``."""
        return solve(
            [problem(prior, at) for prior, at in zip(self.priors, self.devices, strict=True)],
            self.sampler,
            seed=(self.recipe.seed, index),
            n=self.recipe.samples,
            devices=self.devices,
            runs=self.recipe.runs,
            memory_gb=memory_gb,
            index=index,
            checkpoint=checkpoint,
        )


def sample_slice(
    parts: Parts, index: int, position: int, writer: ResultWriter
) -> Iterator[LevelDone | Mapping[str, Any]]:
    """Sample a slice into a result; its certificate comes last.

    Args:
        parts: What it takes.
        index: Of the slice in the scan.
        position: Of the slice in the result.
        writer: Of the result.
    """
    tiles = _tiles(parts, index)
    if len(tiles) > 1:
        yield from _in_tiles(parts, tiles, index, position, writer)
    else:
        yield from _whole(parts, index, position, writer)


def _whole(
    parts: Parts, index: int, position: int, writer: ResultWriter
) -> Iterator[LevelDone | Mapping[str, Any]]:
    """A slice at once."""
    memory = parts.recipe.memory_gb or DEFAULT_MEMORY_GB

    def problem(prior: Prior, device: torch.device) -> Problem:
        return parts.scan.problem(index, prior, device)

    for step in parts.steps(index, problem, parts.checkpoint, memory):
        if isinstance(step, Outcome):
            writer.write(position, step)
            yield step.diagnostics
        else:
            yield step


def _in_tiles(
    parts: Parts, tiles: Sequence[Tile], index: int, position: int, writer: ResultWriter
) -> Iterator[LevelDone | Mapping[str, Any]]:
    """A slice tile by tile; tiles that a stopped run has written are not done again."""
    scan = parts.scan
    assert isinstance(scan, TiledScan)  # noqa: S101  (who gave the tiles)
    memory = parts.recipe.memory_gb or memory_of(parts.devices[0])
    done = writer.tiles(position)
    for k, tile in enumerate(tiles):
        if bounds_of(tile.window) in done:
            continue

        def problem(prior: Prior, device: torch.device, tile: Tile = tile) -> Problem:
            return scan.tile_problem(index, tile, prior, device)

        # Tiles share their random numbers, but not their checkpoints.
        own = parts.checkpoint.with_name(f"{parts.checkpoint.name}.tile{k}")
        for step in parts.steps(index, problem, own, memory / 2):
            if isinstance(step, Outcome):
                writer.write_tile(position, tile.window, step)
            else:
                yield _of_all(step, k, len(tiles))
    done = writer.tiles(position)
    windows = [bounds_of(tile.window) for tile in tiles]
    report = combined([done[window] for window in windows], windows)
    writer.close_slice(position, report)
    yield report


def _tiles(parts: Parts, index: int) -> Sequence[Tile]:
    """Tiles of a slice that is too large for the memory, of scans that can be tiled."""
    if not isinstance(parts.scan, TiledScan):
        return ()
    memory = parts.recipe.memory_gb or min(memory_of(device) for device in parts.devices)
    return parts.scan.tiles(index, values_at_once(parts.recipe.samples, memory))


def _of_all(step: LevelDone, tile: int, tiles: int) -> LevelDone:
    """The progress of a tile as that of its slice."""
    left = step.seconds_left
    done = max(step.level, 1)
    return replace(
        step,
        level=tile * step.n_levels + step.level,
        n_levels=tiles * step.n_levels,
        seconds_left=left
        + (tiles - tile - 1) * left * step.n_levels / max(step.n_levels - done, 1),
    )
