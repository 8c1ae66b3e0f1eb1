"""The report of a result: one self-contained HTML page with images, certificate, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError, MachineError
from tiltkit.io.atomic import check_output, part_path, publish
from tiltkit.io.reading import (
    read_estimate,
    read_finished,
    read_further,
    read_provenance,
    read_recipe,
    read_scan_pictures,
    read_slice_diagnostics,
    read_steps,
    read_title,
    read_units,
    result_shape,
)
from tiltkit.posterior.verdict import stored_verdict, worst_verdict
from tiltkit.protocols import Estimate
from tiltkit.report import figures, tables, words
from tiltkit.report.html import render
from tiltkit.report.picture import shown_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["write_report"]

# Samples shown side by side, and slices on the contact sheet.
_SAMPLES, _THUMBNAILS, _THUMBNAIL_PIXELS = 4, 12, 192


def write_report(result: Path, html: Path) -> None:
    """Write the report of a result as one HTML file that needs no other file and no network.

    Args:
        result: A result file; of an unfinished one, its finished slices are reported.
        html: Page to write; an existing one is replaced.

    Raises:
        InputError: ``result`` is not a result, or has no finished slice.
        UsageError: The folder of ``html`` is missing or read-only.
        MachineError: The page could not be written.
    """
    check_output(html, overwrite=True, resume=False)
    text = render("report.html.j2", **_template_values(result))
    part = part_path(html)
    try:
        part.write_text(text, encoding="utf-8")
    except OSError as error:
        part.unlink(missing_ok=True)
        raise MachineError(
            f"{html} could not be written: {error.strerror}.", "free some space, or use -o."
        ) from error
    publish(part, html)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as data URI, with caption, alternative text and a remark."""

    address: str
    caption: str
    alt: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A colour bar with the values at its ends."""

    address: str
    low: str
    high: str
    label: str


def _template_values(result: Path) -> dict[str, Any]:
    """Values of the template by name."""
    finished = read_finished(result)
    if not finished:
        raise InputError(f"{result} has no finished slice.", "run it again with --resume.")
    recipe, provenance = read_recipe(result), read_provenance(result)
    slices = [read_slice_diagnostics(result, index) for index in finished]
    verdict = worst_verdict([stored_verdict(one) for one in slices])
    middle = len(finished) // 2
    total, *image = result_shape(result)
    cuts = _cuts(image)
    views = {name: read_estimate(result, finished[middle], cut) for name, cut in cuts.items()}
    estimate = next(iter(views.values()))
    one, samples = slices[middle], len(estimate.samples)
    sampled = _sampled(estimate)
    return {
        "sampled": sampled,
        "title": read_title(result),
        "file": result.name,
        "subtitle": _subtitle(provenance, len(finished), total),
        "command": provenance.get("command", ""),
        "total": total,
        "shown": finished[middle],
        "warnings": tables.warnings(finished, slices),
        "halves": verdict.sentence(),
        "fully_tested": verdict.ok,
        "notes": tables.notes(slices),
        "tiles": tables.tiles(slices, samples if sampled else 0),
        "view": next(iter(views)),
        **_pictures(estimate, read_units(result)),
        "further": _further_pictures(result, finished[middle], next(iter(cuts.values()))),
        "scan": _scan_pictures(result),
        "planes": _other_planes(views, read_steps(result)[1:]),
        "sheet": _contact_sheet(result, finished, estimate, image),
        "ladder": figures.ladder_plot(slices, one, samples),
        "certificate": {
            "What follows from the method": words.guaranteed(one, samples),
            "What was tested": words.measured(one, samples),
            "What no test shows": words.unknown(one, samples),
        }
        if sampled
        else {},
        "bands": tables.bands(one),
        "rows": [tables.row(i, one) for i, one in zip(finished, slices, strict=True)],
        "facts": tables.facts(one),
        "settings": tables.flat(recipe),
        "provenance": tables.flat(provenance),
    }


def _subtitle(provenance: Mapping[str, Any], finished: int, total: int) -> str:
    """Input file, date, and number of slices of a result."""
    date = str(provenance.get("date", "")).replace("T", " ").removesuffix("+00:00")
    parts = [f"from {provenance['raw_file']}"] if provenance.get("raw_file") else []
    parts += [f"{date} UTC"] if date else []
    count = "1 slice" if finished == 1 else f"{finished} slices"
    if finished < total:
        count += f" of {total}: this run is not finished"
    return ", ".join([*parts, count])


def _cuts(image: Sequence[int]) -> dict[str, tuple[int | slice, ...]]:
    """Displayed planes of a slice by name: an image itself, or three middle planes of a volume."""
    if len(image) < 3:
        return {"": ()}
    z = y = x = slice(None)
    nz, ny, nx = (n // 2 for n in image)
    return {f"plane {nz}": (nz, y, x), "xz": (z, ny, x), "yz": (z, y, nx)}


def _further_pictures(result: Path, index: int, cut: tuple[int | slice, ...]) -> list[Picture]:
    """Pictures of the further images of a plane, each in a range of its own; real ones only."""
    pictures = []
    for name, one in read_further(result, index, cut).items():
        if np.iscomplexobj(one.values):
            continue
        finite: NDArray[np.float32] = one.values[np.isfinite(one.values)]
        shown = finite if finite.size else np.zeros(1, np.float32)
        window = figures.common_window([shown[None]], "viridis")
        ends = f"{words.number(window.low)} to {words.number(window.high)} {one.units or ''}"
        note = f"{one.long_name}: {ends.strip() if finite.size else 'no finite value'}"
        pictures.append(Picture(figures.image(one.values, window), name, one.long_name, note))
    return pictures


def _scan_pictures(result: Path) -> list[Picture]:
    """Pictures of what was found in the scan, such as its point spread function."""
    return [
        Picture(figures.image(plane, figures.common_window([plane])), caption, caption)
        for name, array in read_scan_pictures(result).items()
        for caption, plane in shown_planes(name, array).items()
    ]


def _other_planes(views: Mapping[str, Estimate], steps: Sequence[float]) -> list[Picture]:
    """Pictures of a volume in the planes xz and yz, resampled to square pixels."""
    first, *others = views.values()
    if not others:
        return []
    grey, heat = figures.common_window([first.mean]), figures.common_window([first.std], "magma")
    pictures = []
    for name, plane in list(views.items())[1:]:
        tall = max(1, round(steps[0] / steps[2 if name == "xz" else 1]))
        kinds = (
            ("Without a prior", plane.baseline, grey),
            ("Posterior mean", plane.mean, grey),
            ("Spread", plane.std, heat),
        )
        for what, array, window in kinds if _sampled(first) else kinds[:1]:
            shown = np.repeat(array, tall, axis=0)
            pictures.append(
                Picture(figures.image(shown, window), f"{what}, {name}", f"{what} in plane {name}")
            )
    return pictures


def _pictures(estimate: Estimate, units: str) -> dict[str, Any]:
    """Pictures of baseline, mean and samples in one grey window, and of the std, with bars."""
    grey = figures.common_window([estimate.mean])
    heat = figures.common_window([estimate.std], "magma")
    baseline = figures.image(estimate.baseline, grey)
    mean, spread = figures.image(estimate.mean, grey), figures.image(estimate.std, heat)
    shown = estimate.samples[:_SAMPLES]
    main = [
        Picture(baseline, "Without a prior", "Plain reconstruction", "for comparison"),
        Picture(mean, "Posterior mean", "Mean of the posterior", "the best estimate"),
        Picture(spread, "Spread", "Map of the standard deviation", "bright: less certain"),
    ]
    bars = [_bar(grey, "image value", units), _bar(heat, "standard deviation", units)]
    there = -1 if np.isnan(estimate.std).all() else None  # one sample has no spread
    if not _sampled(estimate):
        return {"main": main[:1], "samples": [], "bars": bars[:1]}
    return {
        "main": main[:there],
        "samples": [
            Picture(figures.image(x, grey), f"Sample {k}", f"Posterior sample {k}")
            for k, x in enumerate(shown, start=1)
        ],
        "bars": bars[:there],
    }


def _sampled(estimate: Estimate) -> bool:
    """True for a posterior, false for a reconstruction without a prior."""
    return "baseline_only" not in estimate.diagnostics


def _bar(window: figures.Window, label: str, units: str) -> Bar:
    return Bar(
        figures.colour_bar(window),
        words.number(window.low),
        words.number(window.high),
        f"{label} ({units})" if units else f"{label}, in the units of the scan",
    )


def _contact_sheet(
    result: Path, finished: Sequence[int], shown: Estimate, image: Sequence[int]
) -> list[Picture]:
    """Pictures of at most twelve slices of the scan, in the window of the displayed slice.

    For volumes, planes of the displayed slice.
    """
    grey = figures.common_window([shown.mean])
    what = "Posterior mean" if _sampled(shown) else "Reconstruction"
    if len(image) > 2:
        index = finished[len(finished) // 2]
        planes = np.linspace(0, image[0] - 1, min(_THUMBNAILS, image[0])).round().astype(int)
        return [
            Picture(
                figures.image(read_estimate(result, index, (k,)).mean, grey, _THUMBNAIL_PIXELS),
                f"Plane {k}",
                f"{what} of plane {k}",
            )
            for k in planes.tolist()
        ]
    if len(finished) < 2:
        return []
    count = min(_THUMBNAILS, len(finished))
    chosen = [finished[i] for i in np.linspace(0, len(finished) - 1, count).round().astype(int)]
    return [
        Picture(
            figures.image(read_estimate(result, i).mean, grey, _THUMBNAIL_PIXELS),
            f"Slice {i}",
            f"{what} of slice {i}",
        )
        for i in chosen
    ]
