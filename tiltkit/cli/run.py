"""``tiltkit run``: sample the posterior of scans into result files."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltkit.cli.export import write_as
from tiltkit.cli.shared import (
    RecipeCommand,
    call_plugins,
    fail_if_option,
    gates_met,
    json_option,
    print_json,
    recipe_options,
    recipe_values,
    resolved,
)
from tiltkit.errors import TiltkitError, UsageError

if TYPE_CHECKING:
    from tiltkit.config import Recipe

__all__ = ["run"]


@click.command(cls=RecipeCommand, short_help="Sample the posterior of a scan into a result file.")
@click.argument("words", nargs=-1, metavar="TASK FILE...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Result file, or a folder for several; NAME.posterior.h5 here when not given.",
)
@recipe_options
@click.option("--report", is_flag=True, help="Write an HTML page beside the result.")
@click.option(
    "--write",
    "formats",
    multiple=True,
    metavar="NAME",
    help="Write the result in another format too, such as tiff; repeatable.",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace a result that is there.")
@fail_if_option
@json_option
def run(
    words: tuple[str, ...],
    output: Path | None,
    report: bool,
    formats: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    fail_if: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Sample the posterior of each FILE: samples, mean, spread, intervals and a certificate.

    \b
    tiltkit run mri-recon scan.h5
    tiltkit run mri-recon scan.h5 -o out.h5 --samples 32 -s sampler.levels=60 --report
    tiltkit run -c out.h5            repeats the run that made out.h5

    Options of the task go by their names, --crop false for -s task.crop=false; tiltkit list task
    NAME shows them.
    """  # fmt: skip
    values, files = recipe_values(words, **options)
    if not files:
        raise UsageError("No input file is named.", "give it behind the task: run TASK FILE.")
    outputs = _outputs(files, output)
    recipe = resolved(values)
    for name in formats:
        call_plugins().load("writer", name)  # a wrong name shows before the work, not after
    missed = False
    for source, target in zip(files, outputs, strict=True):
        summary = _run_one(recipe, source, target, resume=resume, overwrite=overwrite)
        if report:
            from tiltkit.report import write_report

            summary["report"] = str(target.with_suffix(".html"))
            write_report(target, target.with_suffix(".html"))
        for name in formats:
            write_as(name, target, overwrite=True)
        print_json(summary) if as_json else click.echo(_sentence(summary))
        for condition in gates_met(fail_if, summary):
            click.echo(f"Not good enough: {condition} in {target}.", err=True)
            missed = True
    return 3 if missed else 0


def _run_one(
    recipe: Recipe, source: Path, target: Path, *, resume: bool, overwrite: bool
) -> dict[str, Any]:
    """One scan, with its progress shown; a stopped run says how to go on."""
    from tiltkit.cli.progress import Progress
    from tiltkit.files.atomic import part_path
    from tiltkit.scans import ScanDone, run_scan

    command = shlex.join(["tiltkit", *sys.argv[1:]])
    events = run_scan(
        recipe, call_plugins(), source, target,
        resume=resume, overwrite=overwrite, command=command,
    )  # fmt: skip
    try:
        with Progress(source.name) as progress:
            for event in events:
                if isinstance(event, ScanDone):
                    return {"input": str(source), "output": str(event.output), **event.summary}
                progress.show(event)
    except KeyboardInterrupt:
        events.close()
        if part_path(target).exists():
            click.echo("Finished slices are kept: run the same command with --resume.", err=True)
        raise
    raise TiltkitError(f"{source} gave no result.")


def _outputs(files: Sequence[Path], output: Path | None) -> list[Path]:
    """Where each result goes.

    Raises:
        UsageError: One name for several results, or two results of the same name.
    """
    if output is not None and len(files) == 1 and not output.is_dir():
        return [output]
    if output is not None and not output.is_dir():
        raise UsageError(
            f"{output} is not a folder, but there are {len(files)} input files.",
            "make the folder first, or run one file at a time.",
        )
    outputs = [(output or Path()) / f"{file.stem}.posterior.h5" for file in files]
    twice = next((path for path in outputs if outputs.count(path) > 1), None)
    if twice is not None:
        raise UsageError(
            f"Two input files would both give {twice}.", "run them one at a time, each with -o."
        )
    return outputs


def _sentence(summary: dict[str, Any]) -> str:
    """The last line: where the result is, what was found, and whether to trust it."""
    slices, seconds = summary["slices"], summary["seconds"]
    text = f"{summary['output']}: {slices} slice{'s' * (slices != 1)}"
    text += f", {summary['samples']} samples, {seconds:.0f} s"
    if "ess_min" in summary:
        text += f", ESS of exact weights at least {summary['ess_min']:.1f}"
        text += f" (used at {summary['weighted_levels']} of {summary['levels']} levels)"
    if "rhat" in summary:
        text += f", R-hat {summary['rhat']:.2f}"
    if "chi2" in summary:
        text += f", chi2 {summary['chi2']:.2f} (expected {summary['chi2_expected']:.2f})"
    if "report" in summary:
        text += f", report {summary['report']}"
    good = summary["verdict"] == "ok"
    return f"{text}. " + ("Certificate: ok." if good else f"Take care: {summary['verdict']}.")
