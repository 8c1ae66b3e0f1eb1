"""``tiltkit evaluate``: metrics of a result against the true images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from tiltkit.cli.gates import check_gates, fail_if_option, gates_met
from tiltkit.cli.shared import call_plugins, json_option, print_json

__all__ = ["evaluate"]


@click.command(short_help="Compare a result with the truth.")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--truth",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="HDF5 file with the true images, in the units of the scan.",
)
@click.option(
    "--dataset",
    metavar="PATH",
    help="Dataset with the true images; found by its usual names when not given.",
)
@fail_if_option
@json_option
def evaluate(
    result: Path, truth: Path, dataset: str | None, fail_if: tuple[str, ...], as_json: bool
) -> int:
    """Compare RESULT and its reconstruction without a prior with the true images.

    \b
    tiltkit evaluate out.h5 --truth truth.h5 --fail-if 'psnr<30'
    """  # fmt: skip
    from tiltkit.report.metrics import evaluate as measure

    metrics = [entry.name for entry in call_plugins().entries("metric")]
    check_gates(fail_if, [*metrics, *(f"{name}_baseline" for name in metrics)])
    figures = measure(
        result, truth, dataset, call_plugins(),
        notify=lambda text: click.echo(f"Left out: {text}", err=True),
    )  # fmt: skip
    if as_json:
        print_json(figures)
    else:
        _print_table(figures)
    met = gates_met(fail_if, figures)
    for condition in met:
        click.echo(f"--fail-if holds: {condition}.", err=True)
    return 3 if met else 0


def _print_table(figures: Mapping[str, float]) -> None:
    """Print one row per metric: posterior, and reconstruction without a prior."""
    names = [name for name in figures if not name.endswith("_baseline")]
    width = max(map(len, names), default=0)
    click.echo(f"{'':<{width}}  {'posterior':>10}  {'no prior':>10}")
    for name in names:
        base = figures.get(f"{name}_baseline")
        beside = "" if base is None else f"{base:10.4g}"
        click.echo(f"{name:<{width}}  {figures[name]:10.4g}  {beside}".rstrip())
