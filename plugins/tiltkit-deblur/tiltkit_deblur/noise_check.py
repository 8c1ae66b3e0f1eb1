"""Examination of the noise of images: preprocessing and cameras that make an estimate doubtful."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import convolve1d, gaussian_gradient_magnitude

from tiltkit.problem import Note
from tiltkit_deblur.noise import (
    DIFFERENCE,
    Camera,
    VarianceLine,
    camera_of,
    filtered,
    spread,
    variance_line,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]

__all__ = ["Noise", "cut_off_reading", "examine_noise"]

_OPTIONS = "-s task.gain, task.offset and task.read_noise"
# Share of pixels that are flat: those with the smallest gradient, of the image smoothed so much.
_FLAT, _SMOOTHED = 0.3, 2.0
# Second differences, whose squares sum to 1.
_SECOND = np.array([1.0, -2.0, 1.0]) / 6**0.5
# Noise is correlated where differences of neighbours have less than this multiple of the variance
# of differences of next neighbours. White noise gives 0.7 to 1.2, smoothed noise 0 to 0.5.
_CORRELATED = 0.58
# Edge in pixels of the squares whose means give the noise of coarse detail.
_BINNED = 4
# Largest relative standard error of a gain that is sure.
_SURE = 0.15
# The noise hardly grows with brightness where bright pixels have less than this multiple more.
_CONSTANT = 0.25
# A plateau: so many pixels at least, and so many times those at the next reading.
_PLATEAU, _ABOVE_NEXT = 8, 2
# Share of pixels at the lowest reading, and of those less than half a gain above it, where readings
# are cut off; without cutting off, multiples of a gain have none of the latter.
_CUT_OFF, _BETWEEN = 0.02, 0.005
# Spread of column medians over that of white noise, and over that of row medians.
_COLUMNS, _COLUMNS_OVER_ROWS = 3.0, 2.0
# Third cumulant over that of counts with the same variance is 1.5 for an EMCCD: its bounds, and by
# how many standard errors it is above 1, in second differences and in fourth ones, which structure
# affects in another way.
_SKEWED, _SKEWED_ERRORS = (1.2, 2.3), (4.0, 2.0)
# Smallest standard deviation of the noise over the step between readings.
_STEP = 0.5
# Largest factor between the stated variance and that of the images.
_AGREES = 1.7


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of images.

    Attributes:
        camera: Gain, offset and read noise, given or estimated.
        notes: What makes the estimate, or the given values, doubtful; the likely cause and the
            option that mends it.
    """

    camera: Camera
    notes: tuple[Note, ...]


def examine_noise(
    stack: NDArray[np.float32],
    *,
    gain: float | None = None,
    offset: float | None = None,
    read_noise: float | None = None,
) -> Noise:
    """Estimate what of a camera is not given, and examine the noise of its images.

    Args:
        stack: Readings (z, y, x); NaN where a pixel is saturated or not measured.
        gain: Readings per electron, if known.
        offset: Reading in the dark, if known.
        read_noise: In readings, if known.
    """
    whole = np.asarray(stack, np.float64)
    line, values = variance_line(whole), whole
    lowest = _lowest_plateau(whole, line)
    notes = list(_notes_on_clipping(whole, lowest))
    if lowest is not None:
        values = np.where(whole == lowest, np.nan, whole)
        line = variance_line(values)
    flat = _flat(values)
    ratio = _whiteness(values, flat)
    correlated = ratio < _CORRELATED
    if correlated:
        binned = variance_line(_binned(values))
        line = VarianceLine(*(_BINNED**2 * value for value in astuple(binned)))
    known = line if gain is None else _with_slope(line, gain, float(np.nanmedian(values)))
    camera = camera_of(known, whole, offset, read_noise)
    stated = gain is not None and offset is not None and read_noise is not None
    if correlated:
        notes.append(_note_on_correlation(ratio, stated=stated))
    else:
        notes += _notes_on_steps(values, flat)
        notes += [] if gain is not None else _notes_on_gain(values, line)
        notes += _notes_on_columns(values, flat)
        notes += _notes_on_skewness(values, flat, line)
    notes += _notes_on_zero(whole, offset)
    if gain is not None or read_noise is not None:
        notes += _notes_on_stated(values, line, camera)
    return Noise(camera, tuple(notes))


def _with_slope(line: VarianceLine, slope: float, at: float) -> VarianceLine:
    """A line of another slope with the same variance at a reading."""
    return VarianceLine(slope, line.slope * at + line.constant - slope * at, 0.0, slope)


def cut_off_reading(stack: NDArray[np.float32]) -> float:
    """The largest reading, where so many pixels have it that brighter ones were cut off; else inf.

    Args:
        stack: Readings; NaN where there is none.
    """
    top = float(np.fmax.reduce(stack, axis=None))
    below = stack[stack < top]
    if not below.size:
        return np.inf
    pixels, next_pixels = (int(np.count_nonzero(stack == v)) for v in (top, below.max()))
    return top if pixels >= max(_PLATEAU, _ABOVE_NEXT * next_pixels) else np.inf


def _lowest_plateau(stack: NDArray[np.float64], line: VarianceLine) -> float | None:
    """The lowest reading, where darker ones were cut off.

    Counts have many zeros, too, but nothing between zero and one electron.
    """
    low = float(np.fmin.reduce(stack, axis=None))
    known = max(int(np.isfinite(stack).sum()), 1)
    at_low = np.count_nonzero(stack == low) / known
    between = np.count_nonzero((stack > low) & (stack < low + line.slope / 2)) / known
    return low if _CUT_OFF < at_low < 1 and between > _BETWEEN else None


def _notes_on_clipping(stack: NDArray[np.float64], lowest: float | None) -> Iterator[Note]:
    if lowest is not None:
        share = np.count_nonzero(stack == lowest) / max(int(np.isfinite(stack).sum()), 1)
        text = (
            f"{share:.1%} of the pixels have the lowest reading, {lowest:g}: darker ones were cut"
            " off, likely after a background was subtracted. Dark parts are too bright, and"
            " the estimate of the noise leaves these pixels out; use images before subtraction."
        )
        yield Note("readings_cut_off", text, assumed=True)


def _flat(stack: NDArray[np.float64]) -> Flags:
    """Pixels with next to no structure around them."""
    fill = float(np.nanmedian(stack))
    whole = np.where(np.isfinite(stack), stack, fill)
    size = tuple(_SMOOTHED if n >= len(DIFFERENCE) else 0.0 for n in stack.shape[-2:])
    slope = np.stack([gaussian_gradient_magnitude(plane, size) for plane in whole])
    flat: Flags = slope <= np.quantile(slope, _FLAT)
    return flat


def _whiteness(stack: NDArray[np.float64], flat: Flags) -> float:
    """Variance of the differences of neighbours over that of next neighbours; 1 for white noise."""
    wide = np.zeros(2 * len(DIFFERENCE) - 1)
    wide[::2] = DIFFERENCE
    near, far = (filtered(stack, kernel)[flat] for kernel in (DIFFERENCE, wide))
    near, far = near[np.isfinite(near)], far[np.isfinite(far)]
    if min(len(near), len(far)) < _PLATEAU or not spread(far) > 0:
        return 1.0
    return (spread(near) / spread(far)) ** 2


def _binned(stack: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of squares of pixels."""
    rows, columns = (n - n % _BINNED for n in stack.shape[-2:])
    if min(rows, columns) == 0:
        return stack
    cut = stack[:, :rows, :columns].reshape(len(stack), rows // _BINNED, _BINNED, -1, _BINNED)
    means: NDArray[np.float64] = cut.mean((2, 4))
    return means


def _note_on_correlation(ratio: float, *, stated: bool) -> Note:
    done = (
        "The stated noise is taken as independent from pixel to pixel; use raw images."
        if stated
        else f"The noise is estimated from means of {_BINNED} x {_BINNED} pixels, which is right"
        f" for coarse detail alone; use raw images, or give {_OPTIONS}."
    )
    text = (
        "The noise of neighbouring pixels is correlated: differences of neighbours have"
        f" {ratio:.0%} of the variance that independent noise gives. Likely causes are upsampling,"
        f" smoothing, denoising or lossy compression. {done}"
    )
    return Note("noise_correlated", text, assumed=True)


def _notes_on_gain(stack: NDArray[np.float64], line: VarianceLine) -> Iterator[Note]:
    middle, bright = np.nanpercentile(stack, [50, 99.9])
    variance = line.slope * middle + line.constant
    grown = line.slope + 2 * line.error
    if grown * (bright - middle) < _CONSTANT * variance or line.free < -2 * line.error:
        text = (
            "The noise hardly grows with brightness, as that of counts would: likely causes are"
            " read noise above all other noise, or processing (gamma, logarithm, normalisation)."
            f" About the same noise is taken for all pixels; use raw images, or give {_OPTIONS}."
        )
        yield Note("noise_constant", text, assumed=True)
    elif line.error > _SURE * line.slope:
        text = (
            f"The gain {line.slope:.3g} is uncertain, by {line.error / max(line.slope, 1e-30):.0%}:"
            " the images have too few pixels, or too little range of brightness, for an estimate;"
            " give -s task.gain from a calibration of the camera."
        )
        yield Note("gain_uncertain", text, assumed=True)


def _notes_on_steps(stack: NDArray[np.float64], flat: Flags) -> Iterator[Note]:
    values = np.unique(stack[flat & np.isfinite(stack)])
    residual = filtered(stack, DIFFERENCE)
    residual = residual[flat & np.isfinite(residual)]
    if len(values) < 2 or not residual.size:
        return
    step = float(np.diff(values).min())
    if step >= 1e-6 * float(np.abs(values).max()) and spread(residual) < _STEP * step:
        text = (
            f"The noise in the dark is less than half of the step between readings, {step:g}: the"
            " images were likely rescaled to fewer bits. The estimate of the noise is doubtful; use"
            f" the images before that, or give {_OPTIONS}."
        )
        yield Note("noise_below_step", text, assumed=True)


def _notes_on_columns(stack: NDArray[np.float64], flat: Flags) -> Iterator[Note]:
    """Columns, flat pixels of which have a common offset from their neighbours."""
    if min(stack.shape[-2:]) < 4 * len(_SECOND):
        return
    columns, rows = (
        _line_spread(s, f) for s, f in ((stack, flat), (stack.swapaxes(1, 2), flat.swapaxes(1, 2)))
    )
    if columns > max(_COLUMNS, _COLUMNS_OVER_ROWS * rows):
        text = (
            f"The columns of the images have offsets of their own, {columns:.0f} times as large as"
            " chance would give: column noise of the camera. It is taken as read noise; give"
            " -s task.dark=FILE with dark frames, or task.offset_map."
        )
        yield Note("column_noise", text, assumed=True)


def _line_spread(stack: NDArray[np.float64], flat: Flags) -> float:
    """Spread of the medians of columns over that of white noise."""
    z, y, _ = stack.shape
    inner = stack[..., 1:-1] * 2 - stack[..., :-2] - stack[..., 2:]
    at = flat[..., 1:-1] & np.isfinite(inner)
    lines = [inner[..., i][at[..., i]] for i in range(inner.shape[-1])]
    lines = [line for line in lines if len(line) >= max(_PLATEAU, 0.1 * z * y)]
    if len(lines) < _PLATEAU:
        return 0.0
    noise = spread(np.concatenate([line - np.median(line) for line in lines]))
    scaled = [np.median(line) * len(line) ** 0.5 for line in lines]
    # The median has 1.25 times the standard error of the mean.
    return spread(np.array(scaled)) / (1.25 * noise) if noise > 0 else 0.0


def _notes_on_skewness(
    stack: NDArray[np.float64], flat: Flags, line: VarianceLine
) -> Iterator[Note]:
    """A third cumulant above that of counts: electrons were multiplied by chance."""
    if line.error > _SURE * line.slope or line.slope == 0:
        return
    ratios = []
    for kernel, errors in zip((_SECOND, DIFFERENCE), _SKEWED_ERRORS, strict=True):
        ratio, error = _skewness(stack, flat, line.slope, kernel)
        if not _SKEWED[0] < ratio < _SKEWED[1] or ratio - 1 < errors * error:
            return
        ratios.append(ratio)
    text = (
        f"The noise is {ratios[0]:.2g} times as skewed as that of counts; for an EMCCD it is 1.5"
        f" times. The estimated gain, {line.slope:.3g}, is then right for the noise, and twice the"
        " readings per electron; where -s task.gain is given, give it so."
    )
    yield Note("noise_skewed", text)


def _skewness(
    stack: NDArray[np.float64], flat: Flags, gain: float, kernel: NDArray[np.float64]
) -> tuple[float, float]:
    """Third cumulant over ``gain * variance``, and its standard error; 1 for counts."""
    cubes = abs(float((kernel**3).sum()))
    total = weight = 0.0
    for axis in (1, 2):
        residual = convolve1d(stack, kernel, axis=axis, mode="constant", cval=np.nan)
        values = residual[flat & np.isfinite(residual)] * np.sign((kernel**3).sum())
        scale = spread(values) if values.size else 0.0
        values = values[np.abs(values) < 6 * scale]
        if not values.size:
            return 0.0, np.inf
        variance, third = values.var(), (values**3).mean() / cubes
        expected = gain * variance
        # The third moment of n Gaussian values has the variance 15 / n; neighbours are correlated.
        error = 1.5 * (15 / len(values)) ** 0.5 * variance**1.5 / cubes
        total += third * expected / error**2
        weight += (expected / error) ** 2
    return total / weight, weight**-0.5


def _notes_on_zero(stack: NDArray[np.float64], offset: float | None) -> Iterator[Note]:
    negative = np.count_nonzero(stack < 0) / max(int(np.isfinite(stack).sum()), 1)
    if offset is None and negative > _CUT_OFF:
        text = (
            f"{negative:.0%} of the readings are negative: a background or a dark image was"
            " subtracted, whose noise is taken as read noise. -s task.offset=0 confirms that the"
            " dark is at 0."
        )
        yield Note("background_subtracted", text, assumed=True)


def _notes_on_stated(
    stack: NDArray[np.float64], line: VarianceLine, camera: Camera
) -> Iterator[Note]:
    """Stated noise that differs from that of the images, at median or at bright pixels."""
    for name, percentile in (("pixels of median brightness", 50), ("bright pixels", 99.5)):
        reading = float(np.nanpercentile(stack, percentile))
        found = line.slope * reading + line.constant
        if found <= 0:
            continue
        ratio = camera.variance(reading) / found
        if not 1 / _AGREES < ratio < _AGREES:
            text = (
                f"The stated noise of {name} is {ratio**0.5:.2g} times that of the images. The"
                " stated values are taken; check that the gain is in readings per electron"
                f" ({line.slope:.3g} would fit), that the offset is that of this camera, and that"
                " the images are raw."
            )
            yield Note("stated_noise_differs", text, assumed=True)
            return
