"""``tiltkit evaluate``: metrics of a result against the true images, and figures of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltkit.cli.gates import check_gates, fail_if_option, gate_names, gates_met
from tiltkit.cli.regions import (
    measure_profiles,
    measure_regions,
    print_profiles,
    print_regions,
    print_samples,
    region_options,
    write_csv,
)
from tiltkit.cli.shared import call_plugins, json_option, print_json, print_tree
from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from tiltkit.report.profiles import ProfilePoint
    from tiltkit.report.regions import RegionFigure

__all__ = ["evaluate"]


@click.command(short_help="Compare a result with the truth, or measure regions of it.")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="HDF5, TIFF or other image file with the true images, in the units of the scan.",
)
@click.option(
    "--dataset",
    metavar="PATH",
    help="Dataset with the true images; found by its usual names when not given.",
)
@region_options
@fail_if_option
@json_option
def evaluate(
    result: Path,
    truth: Path | None,
    dataset: str | None,
    label_file: str | None,
    boxes: tuple[str, ...],
    disks: tuple[str, ...],
    lines: tuple[str, ...],
    above: float | None,
    csv_file: Path | None,
    fail_if: tuple[str, ...],
    as_json: bool,
) -> int:
    """Compare RESULT with the true images, or give figures of regions with intervals.

    \b
    tiltkit evaluate out.h5 --truth truth.h5 --fail-if 'psnr<30'
    tiltkit evaluate out.h5 --regions labels.tif --above 0.8 --csv regions.csv
    tiltkit evaluate out.h5 --box 40:60,50:80 --disk 100,90,6.5
    tiltkit evaluate out.h5 --profile 40,50:60,80 --csv profile.csv
    """
    _check_options(
        truth, above, csv_file, regions=bool(label_file or boxes or disks), lines=bool(lines)
    )
    _check_gates(fail_if, truth)
    regions = measure_regions(result, label_file, boxes, disks, above)
    points = measure_profiles(result, lines)
    figures = _compare(result, truth, dataset) if truth else {}
    found: dict[str, Any] = dict(figures)
    trust: dict[str, Any] = {}
    if regions or points:
        trust = _trust(result)
        for name, records in (("regions", regions), ("profiles", points)):
            found |= {name: [asdict(one) for one in records]} if records else {}
        found |= trust
        if csv_file:
            write_csv(csv_file, [*regions, *points])
    if as_json:
        print_json(found)
    else:
        _print(figures, regions, points, trust)
    met = gates_met(fail_if, {**figures, "warnings": _warnings(result)}) if fail_if else []
    for condition in met:
        click.echo(f"--fail-if holds: {condition}.", err=True)
    return 3 if met else 0


def _check_options(
    truth: Path | None,
    above: float | None,
    csv_file: Path | None,
    *,
    regions: bool,
    lines: bool,
) -> None:
    """Check that there is something to evaluate, and that no option is without effect."""
    ways = "--regions FILE, --box or --disk"
    if above is not None and not regions:
        raise UsageError("--above is given, but no region.", f"add {ways}.")
    if csv_file is not None and not (regions or lines):
        raise UsageError("--csv is given, but no region.", f"add {ways}, or --profile.")
    if truth is None and not (regions or lines):
        raise UsageError(
            "There is nothing to evaluate.", f"give --truth FILE, {ways}, or --profile."
        )


def _check_gates(conditions: Sequence[str], truth: Path | None) -> None:
    """Check conditions: warnings can be named always, metrics only beside a truth."""
    metrics = [entry.name for entry in call_plugins().entries("metric")]
    known = [*metrics, *(f"{name}_baseline" for name in metrics)]
    check_gates(conditions, known)
    needy = [name for name in gate_names(conditions) if truth is None and name in known]
    if needy:
        raise UsageError(
            f"--fail-if names {needy[0]}, which compares with the truth, but there is none.",
            "add --truth FILE, or name the code of a warning.",
        )


def _compare(result: Path, truth: Path, dataset: str | None) -> Mapping[str, float]:
    from tiltkit.report.metrics import evaluate as measure

    return measure(
        result, truth, dataset, call_plugins(),
        notify=lambda text: click.echo(f"Left out: {text}", err=True),
    )  # fmt: skip


def _trust(result: Path) -> dict[str, Any]:
    """Verdict and warnings of a result, and a note where its intervals are widened."""
    from tiltkit.io.show import describe

    about = describe(result, call_plugins())
    found = {name: about[name] for name in ("verdict", "warnings")}
    if about["provenance"].get("calibration", {}).get("widened"):
        found["note"] = (
            "Intervals are widened with the largest factor of the calibration. Its guarantee is for"
            " pixels, not for regions."
        )
    return found


def _warnings(result: Path) -> list[dict[str, Any]]:
    """Warnings of all finished slices, for conditions."""
    from tiltkit.io.reading import read_finished, read_slice_diagnostics
    from tiltkit.recon.summary import warnings_of_slices

    return warnings_of_slices(
        [read_slice_diagnostics(result, index) for index in read_finished(result)]
    )


def _print(
    metrics: Mapping[str, float],
    regions: Sequence[RegionFigure],
    points: Sequence[ProfilePoint],
    trust: Mapping[str, Any],
) -> None:
    """Print all tables; below those with intervals what these depend on."""
    if metrics:
        _print_table(metrics)
    if regions:
        print_regions(regions)
    if points:
        print_profiles(points)
    if regions or points:
        print_samples([*regions, *points])
        print_tree(trust)


def _print_table(figures: Mapping[str, float]) -> None:
    """Print one row per metric: posterior, and reconstruction without a prior."""
    names = [name for name in figures if not name.endswith("_baseline")]
    width = max(map(len, names), default=0)
    click.echo(f"{'':<{width}}  {'posterior':>10}  {'no prior':>10}")
    for name in names:
        base = figures.get(f"{name}_baseline")
        beside = "" if base is None else f"{base:10.4g}"
        click.echo(f"{name:<{width}}  {figures[name]:10.4g}  {beside}".rstrip())
