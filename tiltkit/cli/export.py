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

__all__ = ["export", "files_of", "suffix_of", "write_as"]


@click.command(short_help="Write a result in another format, such as TIFF.")
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--as", "name", default="tiff", metavar="NAME", help="See 'tiltkit list writer'.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file; RESULT with the format's suffix when not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def export(result: Path, name: str, output: Path | None, overwrite: bool) -> None:
    """Write the images of RESULT for programs that do not read HDF5.

    \b
    tiltkit export scan.posterior.h5 --as tiff
    """  # fmt: skip
    click.echo(f"Wrote {write_as(name, result, output, overwrite=overwrite)}.")


def write_as(name: str, result: Path, output: Path | None = None, *, overwrite: bool) -> Path:
    """Call a writer.

    Args:
        name: The writer.
        result: The result file.
        output: File to write; the result's name with the writer's suffix when None.
        overwrite: Whether to replace a file that is there.

    Raises:
        UsageError: No such writer, or a file is there or cannot be written.
        InputError: The result cannot be read, or is not complete.
        PluginError: The writer wrote other files than its entry says.
        TiltkitError: The disk is full or broken.
    """
    from tiltkit.io.atomic import check_output
    from tiltkit.io.reading import read_finished, result_shape

    output = output or result.with_suffix(suffix_of(name))
    for path in files_of(name, output):
        check_output(path, overwrite=overwrite, resume=True, keep=[result])
    finished, shape = len(read_finished(result)), result_shape(result)
    if finished < shape[0]:
        raise InputError(
            f"{result} has {finished} of {shape[0]} slices.", "finish the run with --resume first."
        )
    _write_whole(name, result, output, size=2 * 4 * prod(shape))  # mean and spread, float32
    return output


def _write_whole(name: str, result: Path, output: Path, size: int) -> None:
    """Let a writer write into a folder of its own: half a file never replaces a whole one."""
    from tiltkit.io.atomic import part_path, publish
    from tiltkit.io.disk import explained

    write = call_plugins().load("writer", name)
    plugin = call_plugins().owner("writer", name).distribution
    with TemporaryDirectory(prefix=".tiltkit-", dir=output.absolute().parent) as folder:
        new = files_of(name, Path(folder) / output.name)
        with (
            isolate(f"The writer {name} failed", plugin, own_words=True),
            explained(output, size),
        ):
            write(result, new[0])
        made, declared = (sorted(path.name for path in p) for p in (Path(folder).iterdir(), new))
        if made != declared:
            raise PluginError(
                f"The writer {name} wrote {', '.join(made) or 'nothing'}"
                f" where it should write {', '.join(declared)}.",
                f"report it to {plugin}.",
            )
        for path, final in zip(new, files_of(name, output), strict=True):
            publish(path.replace(part_path(final)), final)


def suffix_of(name: str) -> str:
    """The suffix of the files of a writer."""
    return _entry(name).suffix


def files_of(name: str, output: Path) -> list[Path]:
    """All files that a writer makes for an output."""
    return [output, *(output.with_suffix(suffix) for suffix in _entry(name).beside)]


def _entry(name: str) -> WriterEntry:
    return cast("WriterEntry", call_plugins().get("writer", name))
