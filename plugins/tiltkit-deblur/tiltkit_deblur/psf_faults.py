"""Faults of measured point spread functions: their likely cause, and the option that mends them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label, maximum_filter

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_deblur.measured_psf import smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_deblur.measured_psf import Spot

__all__ = ["notes_on_centre", "notes_on_depth", "notes_on_saturation", "notes_on_spots"]

# Pixels with exactly the largest value from which on a peak is cut off. With noise two or three may
# be equal by chance; the peak of a computed PSF of even sides has four.
_PLATEAU = 5
# Light apart from the spot that is worth a note, over that of the spot.
_APART = 0.02
# A second spot has at least this share of the peak, and the valley between both less than this
# share of the second peak. Rings and trails have no such valley.
_SECOND, _VALLEY = 0.3, 0.8
# The brightest pixel of the first or the last plane over the peak, from which on a stack was cut
# off near the focus, and from which on the PSF goes on beyond its planes.
_CUT_AT_FOCUS, _CUT_IN_DEPTH = 0.5, 0.15
# Shift in pixels that is worth a note.
_SHIFT = 0.5
_CENTRES = {
    "array": "the middle of its array",
    "mass": "its centre of mass",
    "peak": "its brightest point",
}


def notes_on_saturation(
    stack: NDArray[np.float32], spot: Spot, saturation: float
) -> Iterator[Note]:
    """A note where many pixels have the largest value: the peak is cut off.

    Args:
        stack: Readings (z, y, x).
        spot: The spot in them; a computed one may be flat by nature.
        saturation: Reading from which on a pixel is saturated.
    """
    top = float(stack.max())
    plateau = int(np.count_nonzero(stack == top))
    if plateau >= _PLATEAU and (top >= saturation or not spot.computed):
        text = (
            f"{plateau} pixels of the PSF have its largest value, {top:g}: its peak is probably"
            " saturated. The PSF is then too wide, and images become too sharp; record it with"
            " less light."
        )
        yield Note("psf_saturated", text, assumed=True)


def notes_on_spots(spot: Spot) -> Iterator[Note]:
    """Notes on further spots: those apart are left out, one that touches the spot is not."""
    if spot.apart > _APART:
        text = (
            "The PSF file has other spots beside the brightest one, with"
            f" {spot.apart:.0%} of its light. They are left out."
        )
        yield Note("psf_spots_left_out", text)
    distance = _second_spot(spot.light)
    if distance:
        text = (
            f"The PSF has two spots {distance:.1f} pixels apart, probably two beads: images"
            " become wrong. Cut out one bead, or give -s task.beads=FILE."
        )
        yield Note("psf_two_spots", text, assumed=True)


def _second_spot(light: NDArray[np.float64]) -> float:
    """Distance of a second spot in the plane of the brightest point; 0 where there is none."""
    plane = light[int(light.max(axis=(1, 2)).argmax())] if light.ndim == 3 else light
    smooth = smoothed(plane)
    first = np.unravel_index(smooth.argmax(), smooth.shape)
    tops = (smooth == maximum_filter(smooth, 3)) & (smooth > _SECOND * smooth.max())
    for place in sorted(np.argwhere(tops), key=lambda p: -smooth[tuple(p)])[1:]:
        parts, _ = label(smooth > _VALLEY * smooth[tuple(place)])
        if parts[tuple(place)] != parts[first]:
            return float(np.hypot(*(place - np.array(first))))
    return 0.0


def notes_on_depth(light: NDArray[np.float64], name: str) -> Iterator[Note]:
    """A note where a stack (z, y, x) ends while the PSF is still bright.

    Raises:
        InputError: It ends near the focus.
    """
    if light.ndim < 3:
        return
    peaks = light.max(axis=(1, 2))
    share = float(max(peaks[0], peaks[-1]) / peaks.max())
    if share > _CUT_AT_FOCUS:
        raise InputError(
            f"{name} is cut off in z: its first or last plane has {share:.0%} of its largest"
            f" value, and may have {_CUT_AT_FOCUS:.0%}.",
            "give as many planes above the focus as below it.",
        )
    if share > _CUT_IN_DEPTH:
        text = (
            f"The first or last plane of the PSF has {share:.0%} of its largest value: the PSF"
            " probably goes on beyond its planes, and light out of focus stays in the images."
            " Record more planes."
        )
        yield Note("psf_cut_in_z", text, assumed=True)


def notes_on_centre(centre: str, places: Mapping[str, Sequence[float]]) -> Iterator[Note]:
    """A note where the centre of a PSF depends on its definition.

    Args:
        centre: The chosen definition: ``array``, ``mass`` or ``peak``.
        places: The centre by each definition, in pixels of the data from the chosen one.
    """
    others = ("peak", "mass") if centre == "array" else ("array",)
    far = [name for name in others if max(map(abs, places[name])) > _SHIFT]
    if not far:
        return
    found = " and ".join(f"{_CENTRES[name]} is at {_pixels(places[name])}" for name in far)
    text = f"The centre of the PSF is {_CENTRES[centre]}; from there, {found}."
    pairs = zip(places["mass"], places["peak"], strict=True)
    moved = any(min(m, p) > _SHIFT or max(m, p) < -_SHIFT for m, p in pairs)
    if moved:
        text += (
            " Images are moved against the data by as much; where the PSF was cut out off its"
            " centre, give psf_centre=peak or psf_centre=mass."
        )
    yield Note("psf_off_centre" if moved else "psf_centre", text, assumed=moved)


def _pixels(place: Sequence[float]) -> str:
    """``y +1.0, x -2.5 pixels``, axes that are not 0 alone."""
    axes = "zyx"[-len(place) :]
    shown = [f"{axis} {p:+.1f}" for axis, p in zip(axes, place, strict=True) if abs(p) >= 0.05]
    return f"{', '.join(shown)} pixels"
