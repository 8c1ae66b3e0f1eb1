"""Assumptions on healthy CT scans, and faults that are named, in one table.

    python benchmarks/ct_scans.py [--number 20] [--each 4] [--seed 0] [--cases FOLDER]

Scans are Poisson counts of random ellipses, whose line integrals are known in closed form: 64 to
256 columns, half or full turns, 50 to 20000 photons, gains up to 8, 2 to 40 flats of a beam
that flickers by up to 1 %. Healthy ones should be read without an assumption, except that a third
of them are wider than the detector; other codes are printed.

Unhealthy ones are such scans with one fault each. A fault is named where its code is among the
notes, and mended where the line integrals of views that are left are right: their bias is at most
three times that of the scan without the fault, or 0.01.

``--cases`` reads the files of a folder whose names are in `CASES`. Beside the code, the baseline
is compared to that of ``a_base`` in the same folder: slope and correlation of its regression.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (files of --cases are compressed)
import numpy as np
import torch
from numpy.typing import NDArray
from tiltkit_ct.task import CtOptions, CtRecon

from tiltkit.errors import TiltkitError
from tiltkit.priors.closed_form import SmoothGaussian

Array = NDArray[np.float64]
CPU = torch.device("cpu")
PRIOR = SmoothGaussian(0.4, 5.0, 5.0, channels=1)
DARK = 100.0  # counts
ADVICE = {"few_photons"}  # is no fault
GOOD = 0.98, 0.03  # correlation, and error of the slope, of a good baseline

# Files of faults, the code of their note (None: no assumption; "refused": an error), and True
# where the baseline can be as good as that of a complete scan.
CASES: dict[str, tuple[str | None, bool]] = {
    "a_12bit_flats_clipped_4095": ("flats_saturated", False),
    "a_1_of_20_darks_is_a_flat": ("darks_left_out", True),
    "a_1_of_20_flats_half_open": ("flats_left_out", True),
    "a_1_of_20_flats_shutter_closed": ("flats_left_out", True),
    "a_200_zingers": (None, True),
    "a_2d_sinogram": ("angle_unit_default", True),
    "a_4d": ("angle_unit_default", True),
    "a_aborted_last_22_projections_zero": ("views_left_out", False),
    "a_base": (None, True),
    "a_beam_drift_10percent": ("beam_followed", True),
    "a_blocked_views_20_28_dark": ("views_left_out", False),
    "a_blocked_views_exact_dark": ("views_left_out", False),
    "a_darks_flats_swapped": ("darks_flats_exchanged", True),
    "a_dead_columns_30_31_60": (None, True),
    "a_drifting_columns_8percent": (None, True),
    "a_flats_2d": (None, True),
    "a_flats_exposure_x0.7": ("flats_scaled", True),
    "a_flats_exposure_x1.4": ("flats_scaled", True),
    "a_flats_exposure_x2": ("flats_scaled", True),
    "a_float_minus_log": ("line_integrals_assumed", True),
    "a_float_normalised_transmission": ("transmission_assumed", True),
    "a_full360": (None, True),
    "a_full360_both_ends": (None, True),
    "a_gap_10_views_missing": (None, False),
    "a_half_acquisition_axis4.7_of_60": (None, True),
    "a_half_acquisition_axis54.2_of_60": (None, True),
    "a_int16_wrapped_uint16": ("counts_unwrapped", True),
    "a_limited_100deg": (None, False),
    "a_limited_120deg": (None, False),
    "a_low_counts_dark_ok": (None, False),
    "a_nan_inf_negative": ("views_left_out", True),
    "a_no_darks": ("darks_assumed", True),
    "a_no_flats": ("refused", False),
    "a_no_theta_scan_was_360": ("angles_assumed", True),
    "a_one_flat_one_dark": (None, True),
    "a_shutter_closed_after_50": ("views_left_out", False),
    "a_sinogram_order_same_count": ("sinogram_order", True),
    "a_theta_all_zero": ("refused", False),
    "a_theta_radians_no_unit": ("angle_unit_default", True),
    "a_theta_radians_no_unit_100deg": ("angle_unit_default", False),
    "a_truncated_cols26_74": ("sample_truncated", False),
    "a_two_turns": (None, True),
    "a_unsorted_duplicated": (None, True),
    "a_zingers_0.001": (None, True),
    "a_zingers_0.003": (None, True),
    "a_zingers_0.01": (None, True),
    "a_zingers_in_flats": (None, True),
    "n_4d_scan": (None, True),
    "n_aborted_chunks_never_written": ("views_left_out", False),
    "n_bitshuffle_lz4": (None, True),
    "n_current_decay_monitor": (None, True),
    "n_current_decay_monitor_flats_before": (None, True),
    "n_key_float": (None, True),
    "n_no_image_key": ("refused", False),
    "n_nxtomo_lib": (None, True),
    "n_nxtomo_lib_lrflip": ("frames_mirrored", True),
    "n_only_projections_key0_flats_elsewhere": (None, True),
    "n_rad_units_radian": (None, True),
    "n_two_entries": ("entry_chosen", True),
}


@dataclass(frozen=True)
class Scan:
    """A scan of one detector row, and the truth.

    Attributes:
        lines: Line integrals, (angle, column).
        angles: Degrees.
        counts: With sample, (angle, column).
        flats: Without sample, (n, column).
        darks: Without beam, (n, column).
        monitor: Beam during each projection, without a unit; None for none.
    """

    lines: Array
    angles: Array
    counts: Array
    flats: Array
    darks: Array
    monitor: Array | None = None


def simulate(rng: np.random.Generator, *, air: bool = True) -> Scan:
    """A healthy scan of random properties; ``air`` is beside the sample."""
    columns = int(rng.integers(64, 257))
    turn = rng.choice([180.0, 360.0])
    angles = np.linspace(0, turn, int(rng.integers(60, 181)), endpoint=False)
    axis = columns / 2 + rng.uniform(-0.06, 0.06) * columns
    radius = (0.5 - 0.08) * columns * (rng.uniform(0.6, 0.85) if air else rng.uniform(1.3, 2.0))
    lines = ellipses(np.radians(angles), np.arange(columns) - axis, radius, rng)
    photons = np.exp(rng.uniform(np.log(50), np.log(2e4)))
    gain = min(np.exp(rng.uniform(np.log(0.5), np.log(8))), 15000 / photons)
    beam = photons * (1 + 0.3 * np.cos(np.linspace(-2, 2, columns) + rng.uniform(-1, 1)))
    beam = beam * rng.normal(1, 0.03, columns)
    n_flats, flicker = int(rng.integers(2, 41)), rng.uniform(0, 0.01)

    def recorded(expected: Array) -> Array:
        noise = rng.uniform(1, 5) * rng.normal(size=expected.shape)
        return np.asarray(gain * rng.poisson(expected) + DARK + noise, np.float64)

    return Scan(
        lines=lines,
        angles=angles,
        counts=recorded(beam * np.exp(-lines)),
        flats=recorded(beam * rng.normal(1, flicker, (n_flats, 1))),
        darks=recorded(np.zeros((int(rng.integers(2, 21)), columns))),
    )


def ellipses(angles: Array, s: Array, radius: float, rng: np.random.Generator) -> Array:
    """Line integrals (angle, column) of ellipses within a large one, with a maximum of 1 to 3."""
    fine = (s[:, None] + (np.arange(4) - 1.5) / 4).ravel() / radius
    total = np.zeros((len(angles), len(fine)))
    for i in range(12):
        inner = i > 0
        a, b = rng.uniform(0.05, 0.2, 2) if inner else rng.uniform(0.8, 1, 2)
        distance = rng.uniform(0, 0.55) if inner else 0.0
        place, turned = rng.uniform(0, 2 * np.pi, 2)
        value = rng.uniform(-0.8, 1.5) if inner else 1.0
        width = np.hypot(a * np.cos(angles - turned), b * np.sin(angles - turned))[:, None]
        at = (fine - distance * np.cos(angles - place)[:, None]) / width
        total += value * 2 * a * b / width * np.sqrt(np.maximum(1 - at**2, 0))
    total = total.reshape(len(angles), len(s), 4).mean(axis=2)
    return np.asarray(total * rng.uniform(1, 3) / total.max())


Fault = Callable[[Scan, np.random.Generator], Scan]


def chosen(n: int, rng: np.random.Generator, share: float = 0.1) -> Array:
    """A run of so many of ``n`` views, not at the ends."""
    count = max(round(share * n), 1)
    first = int(rng.integers(1, n - count))
    return np.arange(first, first + count)


def dark_with_light(scan: Scan, rng: np.random.Generator) -> Scan:
    """One dark was taken with the beam on; there are three or more."""
    darks = np.concatenate([scan.darks, scan.darks])
    darks[rng.integers(len(darks))] = scan.flats[0]
    return replace(scan, darks=darks)


def flat_without_light(scan: Scan, rng: np.random.Generator) -> Scan:
    """One flat has none to 85 % of the light; there are four or more."""
    flats = np.concatenate([scan.flats, scan.flats])
    which = rng.integers(len(flats))
    flats[which] = DARK + rng.uniform(0, 0.85) * (flats[which] - DARK)
    return replace(scan, flats=flats)


def shutter_closed(scan: Scan, rng: np.random.Generator) -> Scan:
    """Some views have no light."""
    counts = scan.counts.copy()
    views = chosen(len(counts), rng)
    counts[views] = DARK + 3 * rng.normal(size=counts[views].shape)
    return replace(scan, counts=counts)


def aborted(scan: Scan, rng: np.random.Generator) -> Scan:
    """The last views were never written."""
    counts = scan.counts.copy()
    counts[-int(rng.integers(2, len(counts) // 4)) :] = 0
    return replace(scan, counts=counts)


def exchanged(scan: Scan, _: np.random.Generator) -> Scan:
    """Darks are in the place of flats."""
    return replace(scan, flats=scan.darks, darks=scan.flats)


def other_exposure(scan: Scan, rng: np.random.Generator) -> Scan:
    """Flats have 0.4 to 2.5 times the exposure of the projections."""
    factor = np.exp(rng.choice([-1, 1]) * rng.uniform(np.log(1.2), np.log(2.5)))
    return replace(scan, flats=DARK + factor * (scan.flats - DARK))


def drift(scan: Scan, rng: np.random.Generator) -> Scan:
    """The beam changes by 8 to 30 %, smoothly."""
    time = np.linspace(0, rng.uniform(1, 3) * np.pi, len(scan.counts))[:, None]
    change = 1 + rng.uniform(0.08, 0.3) * np.sin(time)
    return replace(scan, counts=DARK + change * (scan.counts - DARK))


def decay(scan: Scan, rng: np.random.Generator) -> Scan:
    """The beam decays by 15 to 40 % after the flats, and a monitor measures that."""
    change = np.linspace(1, 1 - rng.uniform(0.15, 0.4), len(scan.counts))
    counts = DARK + change[:, None] * (scan.counts - DARK)
    return replace(scan, counts=counts, monitor=200 * change)


def wrong_monitor(scan: Scan, rng: np.random.Generator) -> Scan:
    """The monitor decays by 15 to 40 %, and the beam does not."""
    change = np.linspace(1, 1 - rng.uniform(0.15, 0.4), len(scan.counts))
    return replace(scan, monitor=200 * change)


def saturated(scan: Scan, rng: np.random.Generator) -> Scan:
    """A tenth to a third of the flats and of the counts is clipped."""
    top = float(np.quantile(scan.flats, rng.uniform(0.67, 0.9)))
    clipped = [np.minimum(part, top) * (4095 / top) for part in (scan.counts, scan.flats)]
    return replace(scan, counts=clipped[0], flats=clipped[1], darks=scan.darks * (4095 / top))


# Each fault, the code that names it, and True where line integrals can be right afterwards.
FAULTS: tuple[tuple[Fault, str, bool], ...] = (
    (dark_with_light, "darks_left_out", True),
    (flat_without_light, "flats_left_out", True),
    (shutter_closed, "views_left_out", True),
    (aborted, "views_left_out", True),
    (exchanged, "darks_flats_exchanged", True),
    (other_exposure, "flats_scaled", True),
    (drift, "beam_followed", True),
    (decay, "monitor_used", True),
    (wrong_monitor, "monitor_ignored", True),
    (saturated, "flats_saturated", False),
)


def write(path: Path, scan: Scan) -> Path:
    """An NXtomo file with the frames of a scan, darks and flats first."""
    parts = scan.darks, scan.flats, scan.counts
    key = np.repeat([2, 1, 0], [len(part) for part in parts])
    before = len(scan.darks) + len(scan.flats)
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        frames = np.concatenate(parts)[:, None]
        detector["data"] = frames.clip(0, 65535).round().astype(np.uint16)
        detector["image_key"] = key
        file["entry/sample/rotation_angle"] = np.concatenate([np.zeros(before), scan.angles])
        file["entry/sample/rotation_angle"].attrs["units"] = "deg"
        if scan.monitor is not None:
            file["entry/control/data"] = np.concatenate([np.full(before, 200.0), scan.monitor])
    return path


@dataclass(frozen=True)
class Found:
    """Result of reading a scan: codes of notes, assumed ones, bias, baseline."""

    codes: set[str]
    assumed: set[str]
    lines: Array | None = None
    views: Array | None = None
    baseline: Array | None = None
    error: str = ""


def read(path: Path, *, size: int | None = None, axis: str = "auto") -> Found:
    """Read a scan and its middle row."""
    try:
        with CtRecon(CtOptions(size=size, axis=axis)).open(path) as opened:
            sinogram = opened.prepare(opened.middle)
            image = opened.problem(opened.middle, PRIOR, CPU).baseline if size else None
            notes = [*opened.notes, *sinogram.notes]
            per_pixel = 1.0 if opened.units in ("1/px", "") else opened.geometry.pitch
            views = opened.projections.projections.times
    except TiltkitError as error:
        return Found({"refused"}, {"refused"}, error=error.message)
    codes = {note.code for note in notes}
    assumed = {note.code for note in notes if note.assumed} - ADVICE
    baseline = None if image is None else image.double().numpy() * per_pixel
    return Found(codes, assumed, sinogram.line_integrals.astype(float), views, baseline)


def bias(found: Found, scan: Scan) -> float:
    """Root mean square over views of the mean error of line integrals."""
    if found.lines is None or found.views is None:
        return np.inf
    error = found.lines - scan.lines[found.views.round().astype(int)]
    return float(np.sqrt(np.mean(error.mean(axis=1) ** 2)))


def healthy(number: int, seed: int, folder: Path) -> tuple[int, int]:
    """Print wrong assumptions on healthy scans; how many have none, of how many."""
    right = 0
    for i in range(number):
        rng = np.random.default_rng((seed, i))
        scan = simulate(rng, air=i % 3 > 0)
        axis = "auto" if i % 3 else "centre"
        found = read(write(folder / "scan.nxs", scan), axis=axis)
        expected = set() if i % 3 else {"sample_truncated"}
        right += found.assumed == expected
        if found.assumed != expected:
            print(f"  scan {i}: {', '.join(sorted(found.assumed ^ expected))} {found.error}")
    return right, number


def unhealthy(each: int, seed: int, folder: Path) -> Iterator[tuple[str, bool, bool]]:
    """Name of each fault, whether it was named, and whether it was mended; prints what is not."""
    for i, (fault, code, mends) in enumerate(FAULTS):
        for j in range(each):
            rng = np.random.default_rng((seed, 1000 + i, j))
            scan = simulate(rng)
            whole = bias(read(write(folder / "scan.nxs", scan)), scan)
            found = read(write(folder / "scan.nxs", fault(scan, rng)))
            named, left = code in found.codes, bias(found, scan)
            mended = not mends or left < max(3 * whole, 0.01)
            more = ", ".join(sorted(found.assumed - {code}))
            if not named or not mended or more:
                first = f"{fault.__name__} {j}: {'' if named else f'not {code}; '}"
                bad = f"bias {left:.4f} instead of {whole:.4f}"
                print(f"  {first}{bad}; also: {more or 'nothing'} {found.error}")
            yield fault.__name__, named, mended


def regression(image: Array, truth: Array) -> tuple[float, float]:
    """Slope and correlation of an image within the circle that all views have."""
    n = len(truth)
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    inside = np.hypot(y, x) < 0.45 * n
    a, b = truth[inside], image[inside]
    return float((a * b).sum() / (a * a).sum()), float(np.corrcoef(a, b)[0, 1])


def cases(folder: Path) -> tuple[int, int]:
    """Print the files of a folder that are read wrongly; how many are right, of how many."""
    truth = read(folder / "a_base.h5", size=96).baseline
    right = total = 0
    for path in sorted(folder.iterdir()):
        if path.stem not in CASES:
            continue
        code, complete = CASES[path.stem]
        found = read(path, size=96)
        named = not found.assumed if code is None else code in found.codes
        slope = correlation = np.nan
        if found.baseline is not None and truth is not None:
            # A mirrored detector shows each view from behind: the image is turned by half.
            turned = np.rot90(truth, 2) if "frames_mirrored" in found.codes else truth
            slope, correlation = regression(found.baseline, turned)
        good = not complete or (correlation > GOOD[0] and abs(slope - 1) < GOOD[1])
        right, total = right + (named and good), total + 1
        if not named or not good:
            says = ", ".join(sorted(found.assumed)) or "nothing"
            print(f"  {path.stem}: {'' if named else f'not {code}, '}assumed: {says};"
                  f" slope {slope:.3f}, correlation {correlation:.3f} {found.error}")  # fmt: skip
    return right, total


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=20, help="healthy scans")
    parser.add_argument("--each", type=int, default=4, help="scans of each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=Path, help="folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        print("healthy:")
        right, total = healthy(args.number, args.seed, Path(name))
        print(f"{right} of {total} healthy scans are read without a wrong assumption\n\nfaults:")
        rows: list[Any] = list(unhealthy(args.each, args.seed, Path(name)))
    print(f"{sum(named for _, named, _ in rows)} of {len(rows)} faults are named,"
          f" {sum(mended for *_, mended in rows)} leave the line integrals right\n")  # fmt: skip
    if args.cases:
        print("files:")
        right, total = cases(args.cases)
        print(f"{right} of {total} files are read rightly or named rightly")


if __name__ == "__main__":
    main()
