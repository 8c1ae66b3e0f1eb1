"""Runs of several inputs: one line each as text or JSON, and a common exit code."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from tiltkit.cli.faults import as_tiltkit_error, json_fields
from tiltkit.cli.outputs import Job
from tiltkit.cli.shared import log, print_json, printable
from tiltkit.cli.signals import raise_if_stopped
from tiltkit.errors import Kind, OutputLockedError, TiltkitError
from tiltkit.io.atomic import is_complete
from tiltkit.recon.summary import last_line

__all__ = ["print_refusal", "run_jobs"]

GATE = 3


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """Outcome of the run of one input.

    Attributes:
        source: The input.
        output: The result file; None if its name is not known.
        status: ``gate``: there is a result, and a condition of ``--fail-if`` holds for it.
        error: The error of a failed run; else None.
        reason: Why it was skipped, or the conditions that hold; else empty.
        summary: Figures of the result; empty without one.
    """

    source: Path
    output: Path | None
    status: Literal["done", "failed", "skipped", "gate"]
    error: TiltkitError | None = None
    reason: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Exit code of a command with this input only."""
        if self.error is not None:
            return self.error.exit_code
        return GATE if self.status == "gate" else 0

    def as_json(self) -> dict[str, Any]:
        """The line of ``--json``: common fields, then the figures of the result."""
        fields = {
            "input": str(self.source),
            "output": None if self.output is None else str(self.output),
            "status": self.status,
            "reason": self.reason or None,
            "kind": None,
            "error": None,
            "hint": None,
            "exit_code": self.exit_code,
        }
        return fields | (json_fields(self.error) if self.error else {}) | dict(self.summary)


class Lines:
    """Printed lines of a call: one per input, and with ``--json`` a last one with totals."""

    def __init__(self, total: int, *, as_json: bool) -> None:
        self._several = total > 1
        self._as_json = as_json
        self._start = time.perf_counter()
        self.outcomes: list[JobOutcome] = []

    def show(self, one: JobOutcome) -> None:
        """Print the line of one input; the caller reports the error of a single input."""
        self.outcomes.append(one)
        if self._as_json:
            print_json(one.as_json())
        elif one.summary:
            click.echo(printable(last_line(dict(one.summary))))
        if one.status == "gate":
            log(f"--fail-if holds: {one.reason} in {one.output}.")
        elif one.status == "skipped" and not one.summary:
            log(f"Skipped: {one.source}: {one.reason}.")
        elif one.error is not None and self._several:
            if click.get_current_context().find_root().params.get("debug"):
                traceback.print_exception(one.error)
            log(f"Error: {one.source}: {one.error}")

    def finish(self) -> int:
        """Print the totals and return the exit code."""
        code = exit_code(self.outcomes)
        if self._as_json:
            statuses = [one.status for one in self.outcomes]
            print_json({
                "total": len(statuses),
                "done": statuses.count("done"),
                "failed": statuses.count("failed"),
                "skipped": statuses.count("skipped"),
                "gates": statuses.count("gate"),
                "seconds": round(time.perf_counter() - self._start, 1),
                "exit_code": code,
            })  # fmt: skip
        return code


def exit_code(outcomes: Collection[JobOutcome]) -> int:
    """Exit code of a batch: of its only kind of failure, 1 for several kinds; else 3 or 0."""
    failures = {one.exit_code for one in outcomes if one.status == "failed"}
    if failures:
        return failures.pop() if len(failures) == 1 else Kind.INTERNAL.exit_code
    return max((one.exit_code for one in outcomes), default=0)


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], tuple[Mapping[str, Any], bool]],
    gates: Callable[[Mapping[str, Any]], Sequence[str]],
    *,
    resume: bool,
    as_json: bool,
) -> int:
    """Run one job after the other; the others are run even if one fails.

    Args:
        jobs: One job per input.
        work: Runs a job; returns the figures of its result, and whether this call sampled it.
        gates: Returns the conditions of ``--fail-if`` that hold for figures.
        resume: Skip results that another process writes or has finished meanwhile.
        as_json: Print lines of JSON.

    Returns:
        The exit code of the command.

    Raises:
        TiltkitError: The only job failed.
        KeyboardInterrupt: The command was stopped.
    """
    lines = Lines(len(jobs), as_json=as_json)
    for position, job in enumerate(jobs):
        try:
            raise_if_stopped()
            outcome = _run_job(job, work, gates, resume=resume)
        except KeyboardInterrupt as stop:
            if as_json:
                _show_stopped(lines, jobs[position:], as_tiltkit_error(stop))
            raise
        lines.show(outcome)
    code = lines.finish()
    if len(jobs) == 1 and outcome.error is not None:
        raise outcome.error
    return code


def _show_stopped(lines: Lines, jobs: Sequence[Job], error: TiltkitError) -> None:
    """Print the lines of the stopped job and of all jobs after it."""
    first, *rest = jobs
    lines.show(JobOutcome(first.source, first.result, "failed", error))
    for job in rest:
        lines.show(JobOutcome(job.source, job.result, "skipped", reason="stopped before it began"))
    lines.finish()


def print_refusal(files: Sequence[Path], error: TiltkitError) -> None:
    """Print the lines of ``--json`` of inputs that were not begun because of one error."""
    lines = Lines(1, as_json=True)
    for file in files:
        lines.show(JobOutcome(file, None, "failed", error))
    lines.finish()


def _run_job(
    job: Job,
    work: Callable[[Job], tuple[Mapping[str, Any], bool]],
    gates: Callable[[Mapping[str, Any]], Sequence[str]],
    *,
    resume: bool,
) -> JobOutcome:
    """Run one job; a result that another process writes is skipped, not failed."""
    skipped = partial(JobOutcome, job.source, job.result, "skipped")
    complete = False
    with suppress(OSError):  # an impossible file name is reported by the run
        complete = is_complete(job.result)
    try:
        summary, sampled = work(job)
    except BrokenPipeError:
        raise  # the reader of our output has gone
    except Exception as error:  # also of plugins: the other inputs do not depend on this one
        raise_if_stopped()
        if resume and isinstance(error, OutputLockedError):
            return skipped(reason="another process writes it")
        if resume and not complete and is_complete(job.result):
            return skipped(reason="another process finished it")
        return JobOutcome(job.source, job.result, "failed", _with_cause(error))
    if met := gates(summary):
        return JobOutcome(job.source, job.result, "gate", reason=", ".join(met), summary=summary)
    if not sampled:
        return skipped(reason="it was complete before", summary=summary)
    return JobOutcome(job.source, job.result, "done", summary=summary)


def _with_cause(error: Exception) -> TiltkitError:
    """Convert any exception to a tiltkit error, with that exception as its cause."""
    known = as_tiltkit_error(error)
    if known is not error:
        known.__cause__ = error
    return known
