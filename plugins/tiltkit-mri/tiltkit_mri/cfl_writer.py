"""Writer of BART's format: complex numbers in ``.cfl``, dimensions in ``.hdr``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.errors import InputError, UsageError
from tiltkit.io.places import read_slice_names
from tiltkit.io.reading import open_result, result_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CflOptions", "write_cfl"]

# BART's dimensions by number, for the counters in names of slices; sets have none of their own.
_DIMENSIONS = {
    "partition": 2, "contrast": 5, "echo": 5, "repetition": 10, "phase": 11, "slice": 13,
    "set": 14, "average": 14, "batch": 15,
}  # fmt: skip
# Dimensions for counters with other names.
_FREE = (10, 11, 12, 14)
# Samples are on BART's dimension for batches.
_SAMPLES = 15
_COUNT = 16


class CflOptions(BaseModel):
    """Options of the writer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: bool = Field(False, description="write the samples, too, on dimension 15")


def write_cfl(result: Path, output: Path, options: CflOptions) -> list[str]:
    """Write the posterior mean to ``NAME.cfl`` and the standard deviation to ``NAME.std.cfl``.

    Dimensions are those of BART: 0 rows (readout), 1 columns (phase encoding), 2 partitions,
    5 contrasts, 10 repetitions, 11 phases, 13 slices, 14 sets or averages. The mean has the phase
    of the posterior mean where the result has one. Samples are magnitudes. Where the result has
    complex images (``task.output=complex``), mean and samples are these.

    Args:
        result: A result file.
        output: File for the mean.
        options: Whether to write ``NAME.samples.cfl``.

    Returns:
        A sentence for the user where slices were left out of the result.

    Raises:
        UsageError: The name has another end.
        InputError: The result cannot be read, or has images of one axis.
        OSError: A file cannot be written.
    """
    check_cfl(result, output, options)
    stem = output.name.removesuffix(".cfl")
    with open_result(result) as file:
        entry = file["entry"]
        mean = entry["data/data"][()]
        places, dims = _dimensions(read_slice_names(result), mean.shape, result)
        further = entry.get("further", {})
        if "complex_mean" in further:
            mean = further["complex_mean/complex_mean"][()]
        elif "phase" in entry:
            mean = mean * np.exp(1j * entry["phase/phase"][()])
        _write(output.with_name(stem), dims, [_fill(mean, places, dims)])
        spread = _fill(entry["data/data_errors"][()], places, dims)
        _write(output.with_name(f"{stem}.std"), dims, [spread])
        if options.samples:
            complex_ = "complex_samples/complex_samples"
            drawn = further[complex_] if complex_ in further else entry["samples/samples"]
            blocks = (_fill(drawn[i], places, dims) for i in range(len(drawn)))
            _write(output.with_name(f"{stem}.samples"), [*dims[:_SAMPLES], len(drawn)], blocks)
    missing = math.prod(dims[2 if mean.ndim == 3 else 3 :]) - len(mean)
    return [f"{missing} images of the .cfl files are not in the result: zeros."] if missing else []


def check_cfl(result: Path, output: Path, _options: CflOptions) -> None:
    """Check that `write_cfl` can write a result; the result may have no finished slices.

    Raises:
        UsageError: The name does not end with ``.cfl``.
        InputError: The result has images of one axis, or more counters than BART has dimensions.
    """
    if output.suffix != ".cfl":
        raise UsageError(
            f"{output.name} does not end with .cfl.", "choose a name like scan.cfl with -o."
        )
    _dimensions(read_slice_names(result), result_shape(result), result)


write_cfl.Options = CflOptions  # type: ignore[attr-defined]
write_cfl.check = check_cfl  # type: ignore[attr-defined]


def _dimensions(
    names: Sequence[str], shape: tuple[int, ...], result: Path
) -> tuple[list[dict[int, int]], list[int]]:
    """For each slice its index on BART's dimensions, and the length of all dimensions."""
    if len(shape) < 3:
        raise InputError(f"{result.name} has no images of two axes.", "write it in another format.")
    counters = [
        dict(re.findall(r"([\w ]+) (\d+)(?:, |$)", name)) or {"slice": str(position)}
        for position, name in enumerate(names)
    ]
    words = dict.fromkeys(word for one in counters for word in one)
    number = _numbers(list(words), result)
    values = {word: sorted({int(one.get(word, 0)) for one in counters}) for word in words}
    # A volume has its planes first in the result.
    dims = [*shape[-2:], *([shape[1]] if len(shape) > 3 else [])] + [1] * _COUNT
    for word, found in values.items():
        dims[number[word]] = len(found)
    places = [
        {number[word]: values[word].index(int(one.get(word, 0))) for word in words}
        for one in counters
    ]
    return places, dims[:_COUNT]


def _numbers(words: Sequence[str], result: Path) -> dict[str, int]:
    """BART's dimension of each counter."""
    found = {word: _DIMENSIONS[word] for word in words if word in _DIMENSIONS}
    free = [number for number in _FREE if number not in found.values()]
    others = [word for word in words if word not in found]
    if len(others) > len(free) or len(set(found.values())) < len(found):
        raise InputError(
            f"The slices of {result.name} are counted by {', '.join(words)}, more than BART has"
            " dimensions for.",
            "choose some of them with --slices.",
        )
    return found | dict(zip(others, free, strict=False))


def _fill(
    slices: NDArray[Any], places: Sequence[dict[int, int]], dims: Sequence[int]
) -> NDArray[np.complex64]:
    """One array with all dimensions from images (slice, [plane,] row, column)."""
    filled = np.zeros(dims, np.complex64)
    for image, place in zip(slices, places, strict=True):
        volume = np.moveaxis(image, 0, 2) if image.ndim > 2 else image
        rest = tuple(place.get(dimension, 0) for dimension in range(volume.ndim, _COUNT))
        filled[(slice(None),) * volume.ndim + rest] = volume
    return filled


def _write(path: Path, dims: Sequence[int], blocks: Iterable[NDArray[np.complex64]]) -> None:
    """Write both files; blocks follow each other along the last dimension."""
    text = " ".join(map(str, dims))
    path.with_name(f"{path.name}.hdr").write_text(f"# Dimensions\n{text}\n", encoding="ascii")
    with path.with_name(f"{path.name}.cfl").open("wb") as file:
        for block in blocks:
            file.write(block.astype("<c8").tobytes(order="F"))
