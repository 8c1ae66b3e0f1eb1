"""``tiltkit export``: a result in another file format."""

from __future__ import annotations

from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import click

from tiltkit.cli.shared import call_plugins
from tiltkit.errors import InputError, PluginError
from tiltkit.plugins.isolation import isolate

if TYPE_CHECKING:
    from tiltkit.hookspecs import WriterEntry

__all__ = ["export", "writer_files", "writer_suffix", "write_as"]


@click.command(short_help="Write a result in another format, such as TIFF.")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "name",
    default="tiff",
    show_default=True,
    metavar="NAME",
    help="Writer; see 'tiltkit list writer'.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write; RESULT with the suffix of the format when not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def export(result: Path, name: str, output: Path | None, overwrite: bool) -> None:
    """Write the images of RESULT in another file format.

    \b
    tiltkit export scan.posterior.h5 --as tiff
    """  # fmt: skip
    click.echo(f"Wrote {write_as(name, result, output, overwrite=overwrite)}.")


def write_as(name: str, result: Path, output: Path | None = None, *, overwrite: bool) -> Path:
    """Write a result with a writer, and return the path of the file.

    Args:
        name: Name of the writer.
        result: Result file.
        output: File to write; the name of the result with the writer's suffix when None.
        overwrite: Replace existing files.

    Raises:
        UsageError: No such writer, or a file exists or cannot be written.
        InputError: The result cannot be read, or is not complete.
        PluginError: The writer failed, or wrote other files than its entry states.
        TiltkitError: The disk is full or broken.
    """
    from tiltkit.io.atomic import check_output
    from tiltkit.io.reading import read_finished, result_shape

    output = output or result.with_suffix(writer_suffix(name))
    for path in writer_files(name, output):
        check_output(path, overwrite=overwrite, resume=True, keep=[result])
    finished, shape = len(read_finished(result)), result_shape(result)
    if finished < shape[0]:
        raise InputError(
            f"{result} has {finished} of {shape[0]} slices.",
            "finish it first: run the same command with --resume.",
        )
    _write_whole(name, result, output, size=2 * 4 * prod(shape))  # mean and spread, float32
    return output


def _write_whole(name: str, result: Path, output: Path, size: int) -> None:
    """Write into a temporary folder and rename, so that a failure replaces no file."""
    from tiltkit.io.atomic import part_path, publish
    from tiltkit.io.disk import explained

    write = call_plugins().load("writer", name)
    plugin = call_plugins().owner("writer", name).distribution
    with TemporaryDirectory(prefix=".tiltkit-", dir=output.absolute().parent) as folder:
        new = writer_files(name, Path(folder) / output.name)
        with (
            isolate(f"The writer {name} failed", plugin, own_words=True),
            explained(output, size),
        ):
            write(result, new[0])
        written, declared = (sorted(path.name for path in p) for p in (Path(folder).iterdir(), new))
        if written != declared:
            raise PluginError(
                f"The writer {name} wrote {', '.join(written) or 'nothing'},"
                f" but its entry states {', '.join(declared)}.",
                f"report it to {plugin}.",
            )
        for path, final in zip(new, writer_files(name, output), strict=True):
            publish(path.replace(part_path(final)), final)


def writer_suffix(name: str) -> str:
    """Return the file name suffix of a writer."""
    return _entry(name).suffix


def writer_files(name: str, output: Path) -> list[Path]:
    """List all files that a writer writes for an output."""
    return [output, *(output.with_suffix(suffix) for suffix in _entry(name).beside)]


def _entry(name: str) -> WriterEntry:
    return cast("WriterEntry", call_plugins().get("writer", name))
