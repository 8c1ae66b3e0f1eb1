"""Output files of a run: their names, and checks that none replaces another file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiltkit.cli.writers import Export, plan_export
from tiltkit.errors import UsageError

__all__ = ["Job", "check_job", "plan_jobs"]


@dataclass(frozen=True, slots=True)
class Job:
    """One input and its output files.

    Attributes:
        source: The input.
        result: The result file.
        page: The HTML page; None for no page.
        exports: The result in other formats.
    """

    source: Path
    result: Path
    page: Path | None = None
    exports: Sequence[Export] = ()

    @property
    def outputs(self) -> list[Path]:
        """All output files."""
        exported = [p for one in self.exports for p in (*one.files, *one.optional_files)]
        return [self.result, *([self.page] if self.page else []), *exported]

    def is_up_to_date(self, files: Sequence[Path]) -> bool:
        """Return whether files exist and are not older than the result."""
        written = self.result.stat().st_mtime_ns
        return all(path.exists() and path.stat().st_mtime_ns >= written for path in files)


def plan_jobs(
    files: Sequence[Path], output: str | None, *, report: bool, formats: Sequence[str]
) -> list[Job]:
    """Create one job per input.

    Args:
        files: The inputs.
        output: A result file, or a folder for several ones; ``NAME.posterior.h5`` in the current
            folder when None.
        report: Write HTML pages.
        formats: Names of writers, with their options.

    Raises:
        UsageError: One name for several results, no such folder, no such writer, an option
            that it does not have, or two outputs of the same name.
    """
    jobs = []
    for source, result in zip(files, _results(files, output), strict=True):
        exports = [plan_export(text, result) for text in formats]
        jobs.append(Job(source, result, result.with_suffix(".html") if report else None, exports))
    outputs = [path for job in jobs for path in job.outputs]
    twice = next((path for path in outputs if outputs.count(path) > 1), None)
    if twice is not None:
        raise UsageError(
            f"Two outputs would both be {twice}.",
            "use .h5 for the name behind -o; run inputs of equal names one at a time.",
        )
    return jobs


def check_job(job: Job, keep: Sequence[Path], *, overwrite: bool, resume: bool) -> None:
    """Check input and outputs of a job before it starts.

    Args:
        job: The job.
        keep: Files that the call reads; they are never replaced.
        overwrite: Other existing files may be replaced.
        resume: Complete files are kept, incomplete ones are continued.

    Raises:
        InputError: The input is missing, or is not a file.
        UsageError: An output cannot be written, or would replace a file that must be kept.
    """
    from tiltkit.io.atomic import check_output, is_complete
    from tiltkit.io.source import check_source

    check_source(job.source)
    done = resume and is_complete(job.result)
    check_output(job.result, overwrite=overwrite or done, resume=resume, keep=keep)
    if job.page and not (done and job.is_up_to_date([job.page])):
        check_output(job.page, overwrite=overwrite, resume=True, keep=keep)
    for export in job.exports:
        if not (done and job.is_up_to_date(export.files)):
            export.check(keep, overwrite=overwrite)


def _results(files: Sequence[Path], output: str | None) -> list[Path]:
    folder = Path(output or "")
    if output and not folder.is_dir():
        if output.endswith(("/", os.sep)):
            raise UsageError(
                f"There is no folder {output}.",
                "create it first, or leave out the final slash.",
            )
        if len(files) > 1:
            raise UsageError(
                f"{output} is not a folder, but there are {len(files)} input files.",
                "create the folder first, or run one file at a time.",
            )
        return [folder]
    return [folder / f"{file.stem}.posterior.h5" for file in files]
