"""Writer of result files: slice by slice into ``OUT.part``, renamed on completion."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from tiltkit.errors import TiltkitError
from tiltkit.io.atomic import check_output, checkpoints_of, part_path, publish
from tiltkit.io.diagnostics import COMPLETE, finish_ladder, renew_texts, write_diagnostics
from tiltkit.io.disk import explained, need_room, quiet
from tiltkit.io.nexus import add_further, add_phase, build, image_bytes
from tiltkit.io.part import Held, check_free, make_part, only_opener, take_up, was_never_made
from tiltkit.io.reading import (
    open_result,
    read_axes,
    read_estimate,
    read_provenance,
    read_recipe,
    result_shape,
    tree,
)
from tiltkit.io.resume import check_same_run
from tiltkit.io.tiles import Bounds, any_tiles, read_tiles, write_tile
from tiltkit.posterior.outcome import Outcome
from tiltkit.protocols import Layout

__all__ = [
    "ResultWriter", "check_output", "read_axes", "read_estimate",
    "read_provenance", "read_recipe", "result_shape",
]  # fmt: skip

# Room for the diagnostics of one slice; the images are allocated when the file is made.
_DIAGNOSTICS_BYTES = 16_384


class ResultWriter:
    """Writer of a result, slice by slice; a context manager.

    When the block is left early, by an error or an interrupt, ``OUT.part`` stays if it holds at
    least one finished slice or tile, or a checkpoint lies beside it, so that the run can be
    resumed; otherwise nothing is left.

    Attributes:
        path: Final name of the file.
        part: Where it lies until it is complete.
        finished: Positions of the slices that are in the file.
    """

    def __init__(self, file: h5py.File, held: Held, path: Path, layout: Layout, size: int) -> None:
        self._file, self._held = file, held
        self._size = size
        self.path = path
        self.part = part_path(path)
        self._layout = layout
        flags = file["entry/diagnostics"][COMPLETE][:]
        self.finished: frozenset[int] = frozenset(np.flatnonzero(flags).tolist())

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        layout: Layout,
        samples: int,
        recipe: Mapping[str, Any],
        provenance: Mapping[str, Any],
        resume: bool,
        overwrite: bool,
    ) -> ResultWriter:
        """Create a result file, or continue an unfinished one.

        Args:
            path: The final name of the file.
            layout: Axes, units, title and metadata of the result.
            samples: Posterior samples per slice.
            recipe: The resolved settings; must be the same to resume.
            provenance: Input with its digest, versions, command; nested mappings of scalars.
            resume: Go on with ``OUT.part`` where there is one.
            overwrite: Replace what is there.

        Raises:
            UsageError: The output exists, its folder cannot be used, or another run made the
                unfinished file.
            TiltkitError: The disk is too small, or another process writes the file.
        """
        check_output(path, overwrite=overwrite, resume=resume)
        size = image_bytes(layout, samples)
        with explained(path, size), only_opener(path) as held:
            # Another process may just have finished the same output.
            check_output(path, overwrite=overwrite, resume=resume)
            if resume and part_path(path).exists():
                check_free(path)  # before it is read: HDF5 would take it for an input in use
            if resume and _holds_slices(part_path(path)):
                check_same_run(part_path(path), layout.shape, recipe, provenance)
                file, held = take_up(path)
                renew_texts(file["entry"])
            else:

                def fill(file: h5py.File) -> None:
                    build(file, layout, samples, recipe, provenance)
                    file.attrs["file_name"] = path.name
                    file.flush()
                    need_room(path, layout.shape[0] * _DIAGNOSTICS_BYTES)

                file = make_part(path, held, fill)
        return cls(file, held, path, layout, size)

    def write(self, index: int, outcome: Outcome) -> None:
        """Write one slice; it counts as finished only after all its data has left the process.

        Args:
            index: Position of the slice in the result.
            outcome: Its posterior; images (*image) and samples (n, *image) of the layout's shape.

        Raises:
            TiltkitError: The disk is full.
        """
        with explained(self.path, self._whole_size(outcome)):
            self._write_images(index, (), outcome)
        self.close_slice(index, outcome.diagnostics)

    def write_tile(self, index: int, window: tuple[slice, ...], outcome: Outcome) -> None:
        """Write a tile of a slice; call `close_slice` after the last one.

        Args:
            index: Position of the slice in the result.
            window: Where in the image the part belongs.
            outcome: Its posterior, shaped as the window.

        Raises:
            TiltkitError: The disk is full.
        """
        with explained(self.path, self._whole_size(outcome)):
            self._write_images(index, window, outcome)
            self._file.flush()
            write_tile(self._file["entry"], index, window, outcome.diagnostics)
            self._sync()

    def tiles(self, index: int) -> dict[Bounds, dict[str, Any]]:
        """Certificates of the written tiles of a slice, by position."""
        return read_tiles(self._file["entry"], index)

    def close_slice(self, index: int, diagnostics: Mapping[str, Any]) -> None:
        """Mark a slice as finished, with its certificate.

        Raises:
            TiltkitError: The disk is full.
        """
        entry = self._file["entry"]
        with explained(self.path, self._size):
            write_diagnostics(entry, index, diagnostics)
            self._sync()
            entry["diagnostics"][COMPLETE][index] = 1
            self._sync()
        self.finished |= {index}

    def finish(self) -> None:
        """Close the complete file and rename it to its final name.

        Raises:
            TiltkitError: Slices are missing, or the file could not be renamed.
        """
        missing = set(range(self._layout.shape[0])) - self.finished
        if missing:
            raise TiltkitError(
                f"{len(missing)} of {self._layout.shape[0]} slices are not done.",
                "run the same command again with --resume.",
            )
        with explained(self.path, self._size):
            finish_ladder(self._file["entry"])
            self._file.flush()  # a full disk shows here; closing would hide it
            self._file.close()
        self._held.share()
        _verify(self.part)
        publish(self.part, self.path)
        self._held.release()

    def discard(self) -> None:
        """Remove the unfinished file, because its content may be wrong."""
        with quiet():
            self._file.close()
        self.part.unlink()
        self._held.release()

    def _sync(self) -> None:
        """Flush all written data to disk."""
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())

    def _whole_size(self, outcome: Outcome) -> int:
        """Bytes of all images of the result, those included that the task adds to slices."""
        further = sum(image.values.nbytes for image in outcome.further.values())
        return self._size + further * math.prod(self._layout.shape) // outcome.mean.size

    def _write_images(self, index: int, window: tuple[slice, ...], outcome: Outcome) -> None:
        entry, at = self._file["entry"], (index, *window)
        entry["data/data"][at] = outcome.mean
        entry["data/data_errors"][at] = outcome.std
        entry["baseline/baseline"][at] = outcome.baseline
        entry["samples/samples"][(slice(None), *at)] = outcome.samples
        for position, level in enumerate(entry["quantiles/level"][:].tolist()):
            entry["quantiles/quantiles"][(position, *at)] = outcome.quantiles[level]
        if outcome.phase is not None:
            if "phase" not in entry:
                add_phase(entry, self._layout)
            entry["phase/phase"][at] = outcome.phase
        for name, image in outcome.further.items():
            path = f"further/{name}"
            if path not in entry:
                add_further(entry, self._layout, name, image)
            per_sample = image.values.ndim == len(self._layout.shape)
            place = (slice(None), *at) if per_sample else at
            entry[f"{path}/{name}"][place] = image.values

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._file:
                tiled = any_tiles(self._file["entry"])
                with explained(self.path, self._size) if error is None else quiet():
                    self._file.close()
                if not (self.finished or tiled or checkpoints_of(self.path)):
                    self.part.unlink(missing_ok=True)
        finally:
            self._held.release()


def _verify(part: Path) -> None:
    """Check that a file can be read, before it gets its final name.

    Raises:
        InputError: The file is damaged.
    """
    with open_result(part) as file:
        tree(file["entry/reconstruction"])


def _holds_slices(part: Path) -> bool:
    """Return whether there is an unfinished file that can be continued."""
    if not part.exists():
        return False
    if was_never_made(part):
        warnings.warn(
            f"{part} was left by a run that was stopped while it made the file. It holds no"
            " slice and is replaced.",
            stacklevel=2,
        )
        return False
    return True
