"""``tiltkit run``: sample the posterior of scans into result files."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from tiltkit.cli.batch import print_refusal, run_jobs
from tiltkit.cli.gates import check_gates, fail_if_option, gates_met
from tiltkit.cli.outputs import Job, check_job, plan_jobs
from tiltkit.cli.recipe import (
    RecipeCommand,
    is_result_name,
    recipe_options,
    recipe_values,
    resolve_recipe,
)
from tiltkit.cli.shared import call_plugins, json_option, log, set_threads
from tiltkit.cli.signals import raise_if_stopped, until_stopped
from tiltkit.cli.writers import accept_result, write_export
from tiltkit.errors import TiltkitError, UsageError
from tiltkit.recon.summary import FIGURES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tiltkit.config import Recipe
    from tiltkit.recon.scan import ScanDone

__all__ = ["run"]


@click.command(cls=RecipeCommand, short_help="Sample the posterior of a scan into a result file.")
@click.argument("words", nargs=-1, metavar="TASK FILE...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="Result file, or a folder for several; NAME.posterior.h5 here when not given.",
)
@recipe_options
@click.option(
    "--calibration",
    metavar="FILE",
    help="Cite this calibration, which must be of the same kind of run.",
)
@click.option(
    "--widen",
    is_flag=True,
    default=None,
    help="Widen the stored intervals by the calibration's conformal factors.",
)
@click.option("--report", is_flag=True, help="Write an HTML page beside the result.")
@click.option(
    "--write",
    "formats",
    multiple=True,
    metavar="NAME[,KEY=VALUE]",
    help="Write the result in another format too, such as tiff or nifti; repeatable.",
)
@click.option("--resume", is_flag=True, help="Continue a run that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace an existing result.")
@fail_if_option
@json_option
def run(
    words: tuple[str, ...],
    output: str | None,
    report: bool,
    formats: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    fail_if: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Sample the posterior of each FILE: samples, mean, std, quantiles and a certificate.

    \b
    tiltkit run mri-recon scan.h5
    tiltkit run mri-recon scan.h5 -o out.h5 --samples 32 -s sampler.levels=60 --report
    tiltkit run -c out.h5            repeats the run that made out.h5

    Options of the task can be given by name: --crop false is -s task.crop=false. They are listed by
    tiltkit list task NAME.
    """  # fmt: skip
    values, files = recipe_values(words, **options)
    if not files:
        raise UsageError("No input file is named.", "give one behind the task: run TASK FILE.")
    try:
        jobs = plan_jobs(files, output, report=report, formats=formats)
        recipe = resolve_recipe(values)
        check_gates(fail_if, FIGURES)
    except TiltkitError as error:
        if as_json:
            print_refusal(files, error)
        raise
    set_threads(recipe.threads)
    keep = _read_files(files, options["recipe"], recipe)

    def work(job: Job) -> tuple[dict[str, Any], bool]:
        check_job(job, keep, overwrite=overwrite, resume=resume)
        return _make_outputs(recipe, job, resume=resume, overwrite=overwrite)

    return run_jobs(jobs, work, partial(gates_met, fail_if), resume=resume, as_json=as_json)


def _read_files(files: Sequence[Path], given: Path | None, recipe: Recipe) -> list[Path]:
    """Files that a call reads, which no output may replace, except for a result to repeat."""
    toml = [given] if given and not is_result_name(given) else []
    return [*files, *toml, *chain(*(paths.values() for paths in recipe.files.values()))]


def _make_outputs(
    recipe: Recipe, job: Job, *, resume: bool, overwrite: bool
) -> tuple[dict[str, Any], bool]:
    """Sample one input and write all its outputs; return figures, and whether it was sampled.

    Outputs that were complete before are not changed.
    """
    # Standard output is for the result of the command; plugins may print.
    with redirect_stdout(sys.stderr):
        done = _run_one(recipe, job, resume=resume, overwrite=overwrite)
        raise_if_stopped()
        if job.page and (done.sampled or not job.is_up_to_date([job.page])):
            from tiltkit.report import write_report

            write_report(job.result, job.page)
        _write_exports(job, sampled=done.sampled)
    summary = {"input": str(job.source), "output": str(done.output), **done.summary}
    if job.page:
        summary["report"] = str(job.page)
    if job.exports:
        summary["written"] = [str(export.output) for export in job.exports]
    return summary, done.sampled


def _write_exports(job: Job, *, sampled: bool) -> None:
    """Write the result in other formats; one that fails does not stop the others.

    Raises:
        TiltkitError: The first of them that failed.
    """
    errors = []
    for export in job.exports:
        if not sampled and job.is_up_to_date(export.files):
            continue
        try:
            for remark in write_export(export, job.result):
                log(f"Note: {remark}")
        except TiltkitError as error:
            log(f"The result {job.result} is complete, but not written as {export.entry.name}.")
            errors.append(error)
    if errors:
        raise errors[0]


def _run_one(recipe: Recipe, job: Job, *, resume: bool, overwrite: bool) -> ScanDone:
    """Sample one input with a progress bar; how to continue a stopped run is printed."""
    from tiltkit.cli.progress import Progress
    from tiltkit.io.atomic import part_path
    from tiltkit.recon.scan import ScanDone, run_scan

    command = shlex.join(["tiltkit", *sys.argv[1:]])
    events = run_scan(
        recipe, call_plugins(), job.source, job.result,
        resume=resume, overwrite=overwrite, command=command,
        accept=partial(accept_result, job.exports) if job.exports else None,
    )  # fmt: skip
    try:
        with Progress(job.source.name) as progress:
            for event in until_stopped(events):
                if isinstance(event, ScanDone):
                    return event
                progress.show(event)
    except KeyboardInterrupt:
        events.close()
        if part_path(job.result).exists():
            log("Finished slices are kept: run the same command with --resume.")
        raise
    raise TiltkitError(f"The run of {job.source} ended without a result.")
