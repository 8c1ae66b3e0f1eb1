"""Run one input after the other: the outcome of each as text or JSON, and an exit code."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click

from tiltkit.cli.faults import error_of, json_fields
from tiltkit.cli.outputs import Job
from tiltkit.cli.shared import log, print_json, printable
from tiltkit.cli.signals import raise_if_stopped
from tiltkit.errors import Kind, OutputLockedError, TiltkitError
from tiltkit.io.atomic import is_complete
from tiltkit.recon.summary import last_line

__all__ = ["print_refusal", "run_jobs"]

GATE = 3


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one input.

    Attributes:
        source: The input.
        output: The result file; None where no name could be made for it.
        status: ``gate`` is a result that meets a condition of ``--fail-if``.
        error: Why it failed; None where it did not.
        reason: Why it was skipped, or which conditions were met; else empty.
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
        """Exit code of a command for this input alone."""
        if self.error is not None:
            return self.error.exit_code
        return GATE if self.status == "gate" else 0

    def as_json(self) -> dict[str, Any]:
        """The line of ``--json``, with the figures of the result behind the fields of all lines."""
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
    """Prints what became of each input, and totals behind the last one with ``--json``."""

    def __init__(self, total: int, *, as_json: bool) -> None:
        self._several = total > 1
        self._as_json = as_json
        self._start = time.perf_counter()
        self.ended: list[Ended] = []

    def show(self, one: Ended) -> None:
        """Print one line about an input; the error of a single one is left to its command."""
        self.ended.append(one)
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
        """Print the totals; returns the exit code."""
        code = exit_code(self.ended)
        if self._as_json:
            statuses = [one.status for one in self.ended]
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


def exit_code(ended: Collection[Ended]) -> int:
    """Exit code of a batch: of its only kind of failure, 1 for several kinds; else 3 or 0."""
    failures = {one.exit_code for one in ended if one.status == "failed"}
    if failures:
        return failures.pop() if len(failures) == 1 else Kind.INTERNAL.exit_code
    return max((one.exit_code for one in ended), default=0)


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], tuple[Mapping[str, Any], bool]],
    gates: Callable[[Mapping[str, Any]], Sequence[str]],
    *,
    resume: bool,
    as_json: bool,
) -> int:
    """Do one job after the other; a failure keeps none of the others from being done.

    Args:
        jobs: What to do.
        work: Does a job; returns the figures of its result, and whether this call sampled it.
        gates: Conditions of ``--fail-if`` that figures meet.
        resume: Whether what another process does, or has done, is left to it.
        as_json: Whether the lines are JSON.

    Returns:
        The exit code.

    Raises:
        TiltkitError: The only job failed.
        KeyboardInterrupt: The command was stopped.
    """
    lines = Lines(len(jobs), as_json=as_json)
    for position, job in enumerate(jobs):
        try:
            raise_if_stopped()
            ended = _one(job, work, gates, resume=resume)
        except KeyboardInterrupt as stop:
            if as_json:
                _show_stopped(lines, jobs[position:], error_of(stop))
            raise
        lines.show(ended)
    code = lines.finish()
    if len(jobs) == 1 and ended.error is not None:
        raise ended.error
    return code


def _show_stopped(lines: Lines, jobs: Sequence[Job], error: TiltkitError) -> None:
    """Print the lines of the job that was stopped and of those behind it."""
    first, *rest = jobs
    lines.show(Ended(first.source, first.result, "failed", error))
    for job in rest:
        lines.show(Ended(job.source, job.result, "skipped", reason="stopped before its turn"))
    lines.finish()


def print_refusal(files: Sequence[Path], error: TiltkitError) -> None:
    """Print the lines of ``--json`` for inputs none of which was begun, because of one error."""
    lines = Lines(1, as_json=True)
    for file in files:
        lines.show(Ended(file, None, "failed", error))
    lines.finish()


def _one(
    job: Job,
    work: Callable[[Job], tuple[Mapping[str, Any], bool]],
    gates: Callable[[Mapping[str, Any]], Sequence[str]],
    *,
    resume: bool,
) -> Ended:
    """Do one job, and tell a failure from what another process does."""
    complete = False
    with suppress(OSError):  # what no file can be called is told by the work
        complete = is_complete(job.result)
    try:
        summary, sampled = work(job)
    except BrokenPipeError:
        raise  # nobody reads what the others would say
    except Exception as error:  # of any plugin: the other files do not depend on this one
        raise_if_stopped()
        if resume and isinstance(error, OutputLockedError):
            return Ended(job.source, job.result, "skipped", reason="another process writes it")
        if resume and not complete and is_complete(job.result):
            return Ended(job.source, job.result, "skipped", reason="another process finished it")
        return Ended(job.source, job.result, "failed", _with_cause(error))
    if met := gates(summary):
        return Ended(job.source, job.result, "gate", reason=", ".join(met), summary=summary)
    if not sampled:
        reason = "it was complete before"
        return Ended(job.source, job.result, "skipped", reason=reason, summary=summary)
    return Ended(job.source, job.result, "done", summary=summary)


def _with_cause(error: Exception) -> TiltkitError:
    """The tiltkit error for any exception, with that exception as its cause."""
    known = error_of(error)
    if known is not error:
        known.__cause__ = error
    return known
