"""Examination of the k-space of a slice before it is used: faults, their likely cause, the mend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.problem import Note
from tiltkit_mri.ghost import Ghost, find_ghost, without_ghost
from tiltkit_mri.masks import complete_centre, whole_columns
from tiltkit_mri.spikes import Spike, find_spikes, relative_power

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Examination", "examine"]

# Columns nearer to the centre hold the calibration lines, and are not left out.
_CENTRE = 8
# Largest share of the columns, and of the samples, that is left out for spikes.
_SPIKED_COLUMNS, _SPIKED_SAMPLES = 0.1, 0.01
# Partial Fourier scans reach at least an eighth of k-space beyond its centre, a quarter of the
# longer side. Chance may leave so few lines to one side in a random sampling.
_SHORT_SIDE, _BY_CHANCE = 0.2, 10
# A coil is noisy where its noise is so many times the usual one, and its signal is not.
_NOISY = 5.0
# A coil has no signal where the power at the centre is below this multiple of its noise, or this
# share of what is usual.
_NO_SIGNAL, _WEAK = 1.5, 1e-4
# Values are clipped where so many have exactly the largest magnitude of a coil, which exceeds the
# usual magnitude by the factor.
_CLIPPED, _FAR_ABOVE = 4, 8.0


@dataclass(frozen=True, slots=True)
class Examination:
    """What of a slice can be used, and what was found.

    Attributes:
        data: k-space (coil, row, column), without the ghost of echo-planar imaging.
        coils: Coils to use, bool (coil,).
        columns: Columns to use, bool (column,).
        sound: False for samples (row, column) with spikes in columns to use.
        notes: What was found; assumptions are faults, or repairs of faults.
    """

    data: NDArray[np.complexfloating]
    coils: NDArray[np.bool_]
    columns: NDArray[np.bool_]
    sound: NDArray[np.bool_]
    notes: tuple[Note, ...]


def examine(
    data: NDArray[np.complexfloating],
    points: NDArray[np.bool_],
    stated: tuple[int, int] | None = None,
) -> Examination:
    """Examine a slice of a Cartesian scan.

    Args:
        data: k-space (coil, row, column), zero where it is not measured.
        points: Measured points, bool (row, column). Spikes, ghosts, noise and signal of the coils
            are not examined where rows or single points are left out.
        stated: First and one past the last column that the header says was measured; None where it
            says nothing.
    """
    columns, whole = np.asarray(points.any(axis=0)), whole_columns(points)
    measured = data[..., columns]
    coils = (measured != 0).any(axis=(1, 2))
    partly = coils & _incomplete(measured)
    notes = list(_notes_on_incomplete(partly, coils))
    if (coils & ~partly).any():
        coils = coils & ~partly
    spikes = find_spikes(relative_power(measured[coils]), columns) if whole else []
    left_out = _spiked_columns(spikes, columns)
    used = columns.copy()
    used[left_out] = False
    sound = np.ones(data.shape[1:], dtype=np.bool_) if left_out else _sound(spikes, data, columns)
    notes += _notes_on_spikes(spikes, left_out, mended=not sound.all())
    notes += _notes_on_sides(columns, stated)
    notes += _notes_on_coils(measured, coils, columns) if whole else ()
    notes += _notes_on_clipping(measured)
    ghost = find_ghost(data[coils], complete_centre(used & sound)[1]) if whole else None
    if ghost:
        data = without_ghost(data, ghost)
        notes.append(_note_on_ghost(ghost))
    return Examination(data, coils, used, sound, tuple(notes))


def _incomplete(measured: NDArray[np.complexfloating]) -> NDArray[np.bool_]:
    """Coils (coil,) that are zero in a whole row or column where other coils are not."""
    empty = measured == 0
    found = np.zeros(len(measured), dtype=np.bool_)
    for axis in (1, 2):
        lines = empty.all(axis=axis)
        found |= (lines & ~lines.all(axis=0)).any(axis=1)
    return found


def _notes_on_incomplete(
    partly: NDArray[np.bool_], live: NDArray[np.bool_]
) -> Iterator[Note]:  # fmt: skip
    if partly.any():
        done = "They are left out" if (live & ~partly).any() else "They are used nevertheless"
        text = (
            f"{_coils(partly)} lack samples that other coils have: the scan was probably not saved"
            f" completely. {done}; export the scan again."
        )
        yield Note("coils_incomplete", text, assumed=True)


def _spiked_columns(spikes: list[Spike], columns: NDArray[np.bool_]) -> list[int]:
    """Columns with a spike, where they are few and away from the calibration lines; else none."""
    found = sorted({spike.column for spike in spikes})
    few = len(found) <= _SPIKED_COLUMNS * columns.sum()
    near = any(abs(column - len(columns) // 2) <= _CENTRE for column in found)
    return found if few and not near else []


def _sound(
    spikes: list[Spike], data: NDArray[np.complexfloating], columns: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """False for samples (row, column) of spikes and those beside them, unless they are too many."""
    _, n_rows, n_columns = data.shape
    sound = np.ones((n_rows, n_columns), dtype=np.bool_)
    centre = n_rows // 2, n_columns // 2  # without it there are no coil maps
    few = 3 * len(spikes) <= _SPIKED_SAMPLES * n_rows * columns.sum()
    if few and all((spike.row, spike.column) != centre for spike in spikes):
        for spike in spikes:
            sound[max(spike.row - 1, 0) : spike.row + 2, spike.column] = False
        sound[centre] = True
    return sound


def _notes_on_spikes(spikes: list[Spike], left_out: list[int], *, mended: bool) -> Iterator[Note]:
    if not spikes:
        return
    text = f"{_spikes(spikes)}. Likely causes are electric discharges or a loose contact."
    if left_out:
        done = f"Columns of k-space left out: {_listed(left_out)}."
    elif mended:
        done = "The samples of the spikes and those beside them are left out."
    else:
        done = "They are too many, or at the centre, and are not left out: scan again."
    code = "spikes_left_out" if left_out or mended else "spikes"
    yield Note(code, f"{text} {done}", assumed=True)


def _spikes(spikes: list[Spike]) -> str:
    first = spikes[0]
    where = f"row {first.row}, column {first.column}, {first.ratio:.0f} times its neighbours"
    if len(spikes) == 1:
        return f"There is a spike in k-space at {where}"
    return f"There are {len(spikes)} spikes in k-space, the strongest at {where}"


def _notes_on_sides(
    columns: NDArray[np.bool_], stated: tuple[int, int] | None
) -> Iterator[Note]:  # fmt: skip
    """A note where one side of k-space is nearly empty, and the header does not say so."""
    n = len(columns)
    before, after = _sides(columns, n)
    short, long = min(before, after), max(before, after)
    side = columns[n // 2 + short + 1 :] if after > before else columns[: max(n // 2 - short, 0)]
    if short >= _SHORT_SIDE * long or side.sum() < _BY_CHANCE:
        return
    limits = np.zeros(n, dtype=np.bool_)
    if stated:
        limits[max(stated[0], 0) : max(stated[1], 0)] = True
    if limits.any():  # limits outside of the grid state nothing
        expected = _sides(limits, n)[0 if before < after else 1]
        if expected < _SHORT_SIDE * long:
            return
    text = (
        f"One side of k-space is missing: the columns with data reach {before} before the centre"
        f" and {after} after it. The scan was probably not saved completely, or its centre is not"
        f" column {n // 2}; export it again. The result shows what one half of k-space allows."
    )
    yield Note("half_missing", text, assumed=True)


def _sides(columns: NDArray[np.bool_], n: int) -> tuple[int, int]:
    """Columns from the centre to the first and to the last one with data, 0 at least."""
    place = np.flatnonzero(columns) - n // 2
    return max(-int(place.min()), 0), max(int(place.max()), 0)


def _notes_on_coils(
    measured: NDArray[np.complexfloating], coils: NDArray[np.bool_], columns: NDArray[np.bool_]
) -> Iterator[Note]:
    """Notes on coils without signal and with much noise; whitening gives both little weight."""
    row = np.abs(np.arange(measured.shape[1]) - measured.shape[1] // 2)
    column = np.abs(np.flatnonzero(columns) - len(columns) // 2)
    if coils.sum() < 2 or column.min() > _CENTRE:
        return
    outer = np.ix_(row >= np.median(row), column >= np.median(column))
    power = [np.square(np.abs(coil), dtype=np.float64) for coil in measured[coils]]
    noise = np.array([np.median(coil[outer]) for coil in power]) / np.log(2)
    signal = np.array([coil[np.ix_(row <= _CENTRE, column <= _CENTRE)].mean() for coil in power])
    if not noise.all():
        return
    share = signal / noise
    weak = share < max(_NO_SIGNAL, _WEAK * float(np.median(share)))
    usual = np.sort(noise)[(len(noise) - 1) // 2]  # of two coils the one with less noise
    loud = noise > _NOISY**2 * usual
    loud &= share < np.median(share) / _NOISY**2
    numbers = np.flatnonzero(coils)
    for code, found, what in (
        ("coils_noisy", loud, "much more noise than the others: a defect or interference"),
        ("coils_weak", weak & ~loud, "almost no signal: they may be unplugged or far away"),
    ):
        if found.any():
            named = np.isin(np.arange(len(coils)), numbers[found])
            yield Note(code, f"{_coils(named)} have {what}. Their weight is small accordingly.")


def _notes_on_clipping(measured: NDArray[np.complexfloating]) -> Iterator[Note]:
    """A note where many values of a coil have exactly its largest magnitude."""
    count = 0
    for coil in measured:
        for part in (np.abs(coil.real), np.abs(coil.imag)):
            top = part.max()
            if top > _FAR_ABOVE * np.median(part):
                same = int((part == top).sum())
                count += same if same >= _CLIPPED else 0
    if count:
        text = (
            f"{count} values of k-space are clipped at the largest value of their coil: the"
            " receiver gain was too high. Contrast and brightness of the image are wrong; scan"
            " again with a lower gain."
        )
        yield Note("clipped", text, assumed=True)


def _note_on_ghost(ghost: Ghost) -> Note:
    text = (
        f"Odd columns of k-space differ from even ones by a phase of {ghost.offset:.2f} rad and"
        f" {ghost.slope:.2f} turns over the readout, as lines do that were read in opposite"
        " directions (EPI). This phase is removed from all columns with odd numbers; correct the"
        " raw data where the directions alternate otherwise."
    )
    return Note("ghost_removed", text, assumed=True)


def _coils(chosen: NDArray[np.bool_]) -> str:
    numbers = np.flatnonzero(chosen).tolist()
    return f"Coil {numbers[0]}" if len(numbers) == 1 else f"Coils {_listed(numbers)}"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
