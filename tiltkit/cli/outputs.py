"""Where the files of a run go, and that none of them replaces what must stay."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from tiltkit.cli.export import writer_files, writer_suffix
from tiltkit.cli.shared import call_plugins
from tiltkit.errors import UsageError

__all__ = ["Job", "check_job", "planned_jobs"]


@dataclass(frozen=True, slots=True)
class Job:
    """One scan and what is made of it.

    Attributes:
        source: The input.
        result: The result file.
        page: The HTML page, or None.
        exports: Files in other formats, by writer.
    """

    source: Path
    result: Path
    page: Path | None = None
    exports: Mapping[str, Path] = field(default_factory=dict)

    @property
    def beside(self) -> list[list[Path]]:
        """All files but the result, those that are written together in one list."""
        exported = [writer_files(name, path) for name, path in self.exports.items()]
        return [[self.page], *exported] if self.page else exported

    def has_made(self, files: Sequence[Path]) -> bool:
        """Whether files are of this result: an older file is of the one that it replaced."""
        made = self.result.stat().st_mtime_ns
        return all(path.exists() and path.stat().st_mtime_ns >= made for path in files)


def planned_jobs(
    files: Sequence[Path], output: str | None, *, report: bool, formats: Sequence[str]
) -> list[Job]:
    """What a call asks for, one job per input.

    Args:
        files: The inputs.
        output: A result file, or a folder for several; ``NAME.posterior.h5`` here when None.
        report: Whether there are pages.
        formats: Writers that are called.

    Raises:
        UsageError: One name for several results, no such folder, no such writer, or two outputs
            of the same name.
    """
    for name in formats:
        call_plugins().load("writer", name)  # what is wrong with it shows before the work
    jobs = []
    for source, result in zip(files, _results(files, output), strict=True):
        exports = {name: result.with_suffix(writer_suffix(name)) for name in formats}
        jobs.append(Job(source, result, result.with_suffix(".html") if report else None, exports))
    outputs = [path for job in jobs for path in (job.result, *chain(*job.beside))]
    twice = next((path for path in outputs if outputs.count(path) > 1), None)
    if twice is not None:
        raise UsageError(
            f"Two outputs would both be {twice}.",
            "end the name behind -o in .h5; run inputs of equal names one at a time.",
        )
    return jobs


def check_job(job: Job, keep: Sequence[Path], *, overwrite: bool, resume: bool) -> None:
    """Refuse what cannot be done before any work on it starts.

    Args:
        job: One of a call.
        keep: Files that are read, and so never replaced.
        overwrite: Whether other files that are there may be replaced.
        resume: Whether what is complete stays, and what is not goes on.

    Raises:
        InputError: An input is missing, or is no file.
        UsageError: An output cannot be written, or would replace a file that must stay.
    """
    from tiltkit.io.atomic import check_output, is_complete
    from tiltkit.io.source import check_source

    check_source(job.source)
    done = resume and is_complete(job.result)
    check_output(job.result, overwrite=overwrite or done, resume=resume, keep=keep)
    for files in job.beside:
        if done and job.has_made(files):
            continue  # they stay
        for path in files:
            check_output(path, overwrite=overwrite, resume=True, keep=keep)


def _results(files: Sequence[Path], output: str | None) -> list[Path]:
    folder = Path(output or "")
    if output and not folder.is_dir():
        if output.endswith(("/", os.sep)):
            raise UsageError(f"There is no folder {output}.", "make it first.")
        if len(files) > 1:
            raise UsageError(
                f"{output} is not a folder, but there are {len(files)} input files.",
                "make the folder first, or run one file at a time.",
            )
        return [folder]
    return [folder / f"{file.stem}.posterior.h5" for file in files]
