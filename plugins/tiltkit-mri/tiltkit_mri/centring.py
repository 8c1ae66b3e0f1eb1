"""The centre of k-space and of the image: found from the data, and moved to the middle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import UsageError
from tiltkit.problem import Note
from tiltkit_mri.masks import middle_of
from tiltkit_mri.spikes import find_spikes, relative_power

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_mri.kspace import KSpace

__all__ = ["centred", "find_peak", "parse_centre"]

# Share of the energy in the strongest hundredth of the samples is .7 to .97 for k-space and .03 to
# .16 for images.
_STRONGEST = 0.01
# Least power of the peak, over that of noise.
_SIGNIFICANT = 30.0
# The echo may be off by so many samples, or this share of them, without being called off centre.
_FEW, _SHARE = 4, 0.03
# Half width of the centre of k-space that shows where the object lies, in samples.
_BLOCK = 16
# Along a wrapped axis the middle of the image is empty, of this share of the largest power at most,
# and its edges are not.
_EMPTY, _FILLED = 0.03, 0.3


def parse_centre(text: str) -> tuple[int, int]:
    """Row and column from a setting: ``"0,0"``.

    Raises:
        UsageError: They are not two whole numbers.
    """
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise UsageError(
            f"The centre '{text}' is not a row and a column.",
            "give two whole numbers, for example task.centre=0,0.",
        )
    return int(parts[0]), int(parts[1])


def centred(scan: KSpace, stated: tuple[int, int] | None = None) -> KSpace:
    """The scan with the centres of k-space and of the image in the middle, and notes on changes.

    k-space from a Fourier transform without ``fftshift`` has its centre at the first row and
    column; it is moved. k-space of an image that was not shifted belongs to an image in four
    parts, at the corners; its signs are changed. Both change neither noise nor magnitudes.

    Args:
        scan: A Cartesian scan.
        stated: Row and column of the centre of k-space; found from the middle slice when None.

    Raises:
        UsageError: The centre lies outside of k-space.
    """
    usable = [i for i in range(scan.n_slices) if scan.columns[i].any()]
    if not usable or scan.trajectory or scan.points or scan.reference:
        return scan
    shape = scan.shape
    if stated and not all(c < n for c, n in zip(stated, shape, strict=True)):
        raise UsageError(
            f"The centre {stated} lies outside of the k-space of {scan.path}, which has {shape[0]}"
            f" rows and {shape[1]} columns.",
            "count rows and columns from 0 in task.centre.",
        )
    # The slices at both ends may have no signal.
    index = usable[len(usable) // 2]
    data, columns = scan.read(index), scan.columns[index]
    if _looks_like_images(data):
        return replace(scan, notes=(*scan.notes, _note_on_images()))
    peak = find_peak(data, columns)
    shift: tuple[int, int] = (0, 0)
    notes: tuple[Note, ...] = ()
    if stated:
        shift = shape[0] // 2 - stated[0], shape[1] // 2 - stated[1]
    elif peak:
        shift, notes = _found_shift(peak, shape)
    moved = middle_of(np.roll(data, shift, axis=(1, 2)), np.roll(columns, shift[1]), _BLOCK)
    wrapped = tuple(_is_wrapped(moved, axis) for axis in (1, 2))
    return _changed(scan, shift, wrapped, notes + _note_on_wrapping(wrapped))


def find_peak(
    data: NDArray[np.complexfloating], columns: NDArray[np.bool_]
) -> tuple[int, int] | None:
    """Row and column of the samples with the most energy, spikes left out; None for noise alone.

    Args:
        data: k-space (coil, row, column).
        columns: Measured columns, bool (column,).
    """
    power = relative_power(data[..., columns])
    place = np.flatnonzero(columns)
    for spike in find_spikes(power, columns):
        power[spike.row, place == spike.column] = 0
    smooth = (power + np.roll(power, 1, axis=0) + np.roll(power, -1, axis=0)) / 3
    if smooth.max() < _SIGNIFICANT:
        return None
    row, column = np.unravel_index(int(np.argmax(smooth)), power.shape)
    return int(row), int(place[column])


def _looks_like_images(data: NDArray[np.complexfloating]) -> bool:
    """True where the inverse Fourier transform looks like k-space, and the data do not."""
    return _concentration(np.fft.ifft2(data)) > _concentration(data)


def _concentration(data: NDArray[np.complexfloating]) -> float:
    """Share of the energy of (coil, row, column) in the strongest samples."""
    energy = np.square(np.abs(data), dtype=np.float64).sum(axis=0).ravel()
    count = max(1, round(_STRONGEST * energy.size))
    return float(np.partition(energy, -count)[-count:].sum() / energy.sum())


def _note_on_images() -> Note:
    text = (
        "These data look like images, not like k-space: their Fourier transform has its energy in"
        " few samples, they have not. Give k-space, with its centre in the middle:"
        " fftshift(fft2(ifftshift(image)))."
    )
    return Note("images_as_kspace", text, assumed=True)


def _found_shift(
    peak: tuple[int, int], shape: tuple[int, int]
) -> tuple[tuple[int, int], tuple[Note, ...]]:
    """Rows and columns to move k-space by, and why."""
    off = [(p - n // 2 + n // 2) % n - n // 2 for p, n in zip(peak, shape, strict=True)]
    limits = [max(_FEW, round(_SHARE * n)) for n in shape]
    at_edge = [abs(o) >= n // 2 - m for o, n, m in zip(off, shape, limits, strict=True)]
    where = f"row {peak[0]} and column {peak[1]} of {shape[0]} x {shape[1]}"
    if any(abs(o) > m and not e for o, m, e in zip(off, limits, at_edge, strict=True)):
        text = (
            f"The energy of k-space is off the centre, at {where}. Likely causes are a partial echo"
            " or partial Fourier scan without zero filling, which needs zeros at the short side,"
            f" or a wrong shift: then give the centre with -s task.centre={peak[0]},{peak[1]}."
        )
        return (0, 0), (Note("off_centre", text, assumed=True),)
    if not any(at_edge):
        return (0, 0), ()
    rows, columns = (n // 2 if e else 0 for n, e in zip(shape, at_edge, strict=True))
    text = (
        f"The energy of k-space is at its edge, at {where}, as after a Fourier transform without"
        " fftshift. It is moved to the middle; -s task.centre="
        f"{shape[0] // 2},{shape[1] // 2} leaves it in place."
    )
    return (rows, columns), (Note("centre_moved", text, assumed=True),)


def _is_wrapped(block: NDArray[np.complexfloating], axis: int) -> bool:
    """True where the image of low resolution is empty in the middle and not at the edges."""
    n = block.shape[axis]
    if min(block.shape[1:]) < _BLOCK // 2 or not block.any():
        return False
    window = np.hanning(n + 2)[1:-1].reshape([-1 if i == axis else 1 for i in range(3)])
    image = np.fft.fft(block * window, 4 * n, axis=axis)
    power = np.square(np.abs(image)).sum(axis=tuple(i for i in range(3) if i != axis))
    profile = np.fft.fftshift(power) / power.max()
    margin, half = len(profile) // 20, len(profile) // 2
    middle = profile[half - margin : half + margin + 1]
    edges = profile[[*range(margin), *range(-margin, 0)]]
    return bool(middle.max() < _EMPTY and edges.mean() > _FILLED)


def _note_on_wrapping(wrapped: tuple[bool, ...]) -> tuple[Note, ...]:
    if not any(wrapped):
        return ()
    names = " and ".join(n for n, w in zip(("rows", "columns"), wrapped, strict=True) if w)
    text = (
        f"The image is wrapped around along its {names}: its middle is empty, its edges are not, as"
        " after a Fourier transform without ifftshift of the image. It is moved to the middle."
    )
    return (Note("image_moved", text, assumed=True),)


def _changed(
    scan: KSpace, shift: tuple[int, int], wrapped: tuple[bool, ...], notes: tuple[Note, ...]
) -> KSpace:
    """The scan, moved by rows and columns, with signs that move the image by half its size."""
    if not any(shift) and not any(wrapped):
        return replace(scan, notes=scan.notes + notes)
    rows, columns = (1 - 2 * (np.arange(n) % 2) if w else np.ones(n)
                     for n, w in zip(scan.shape, wrapped, strict=True))  # fmt: skip
    signs = np.outer(rows, columns).astype(np.float32)

    def read(index: int) -> NDArray[np.complex64]:
        return np.roll(scan.read(index), shift, axis=(1, 2)) * signs

    # Limits that the header states are those of columns before they were moved.
    header = replace(scan.header, centre=None) if shift[1] else scan.header
    return replace(
        scan,
        columns=np.roll(scan.columns, shift[1], axis=1),
        read=read,
        differences=None,
        header=header,
        notes=scan.notes + notes,
    )
