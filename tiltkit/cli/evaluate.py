"""``tiltkit evaluate``: metrics of a result against the true images, and figures of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tiltkit.cli.gates import check_gates, fail_if_option, gate_names, gates_met
from tiltkit.cli.regions import measure_regions, print_regions, region_options, write_csv
from tiltkit.cli.shared import call_plugins, json_option, print_json, print_tree
from tiltkit.errors import UsageError

__all__ = ["evaluate"]


@click.command(short_help="Compare a result with the truth, or measure regions of it.")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="HDF5 file with the true images, in the units of the scan.",
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
    """
    wanted = bool(label_file or boxes or disks)
    _check_options(wanted=wanted, truth=truth, above=above, csv_file=csv_file)
    _check_gates(fail_if, truth)
    regions = measure_regions(result, label_file, boxes, disks, above)
    figures = _compare(result, truth, dataset) if truth else {}
    found: dict[str, Any] = dict(figures)
    trust = _trust(result) if regions else {}
    if regions:
        found |= {"regions": [asdict(one) for one in regions], **trust}
        if csv_file:
            write_csv(csv_file, regions)
    if as_json:
        print_json(found)
    else:
        if figures:
            _print_table(figures)
        if regions:
            print_regions(regions)
            print_tree(trust)
    met = gates_met(fail_if, {**figures, "warnings": _warnings(result)}) if fail_if else []
    for condition in met:
        click.echo(f"--fail-if holds: {condition}.", err=True)
    return 3 if met else 0


def _check_options(
    *, wanted: bool, truth: Path | None, above: float | None, csv_file: Path | None
) -> None:
    """Check that there is something to evaluate, and that options of regions have a region."""
    ways = "--regions FILE, --box or --disk"
    for name, given in (("--above", above is not None), ("--csv", csv_file is not None)):
        if given and not wanted:
            raise UsageError(f"{name} is given, but no region.", f"add {ways}.")
    if truth is None and not wanted:
        raise UsageError("There is nothing to evaluate.", f"give --truth FILE, {ways}.")


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
    """Verdict and warnings of a result, and a note where its intervals of pixels are widened."""
    from tiltkit.io.show import describe

    about = describe(result, call_plugins())
    found = {name: about[name] for name in ("verdict", "warnings")}
    if about["provenance"].get("calibration", {}).get("widened"):
        found["note"] = "The calibration widened the intervals of pixels, not those of regions."
    return found


def _warnings(result: Path) -> list[dict[str, Any]]:
    """Warnings of all finished slices, for conditions."""
    from tiltkit.io.reading import read_finished, read_slice_diagnostics
    from tiltkit.recon.summary import summarize

    reports = [read_slice_diagnostics(result, index) for index in read_finished(result)]
    found: list[dict[str, Any]] = summarize(reports, 0, 0.0)["warnings"]
    return found


def _print_table(figures: Mapping[str, float]) -> None:
    """Print one row per metric: posterior, and reconstruction without a prior."""
    names = [name for name in figures if not name.endswith("_baseline")]
    width = max(map(len, names), default=0)
    click.echo(f"{'':<{width}}  {'posterior':>10}  {'no prior':>10}")
    for name in names:
        base = figures.get(f"{name}_baseline")
        beside = "" if base is None else f"{base:10.4g}"
        click.echo(f"{name:<{width}}  {figures[name]:10.4g}  {beside}".rstrip())
