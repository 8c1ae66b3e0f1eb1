"""``tiltkit export``: a result in another file format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from tiltkit.cli.shared import call_plugins
from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from tiltkit.hookspecs import WriterEntry

__all__ = ["export", "write_as"]


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
        UsageError: No such writer, or the file is there.
        InputError: The result cannot be read.
    """
    write = call_plugins().load("writer", name)
    if output is None:
        entry = next(e for e in call_plugins().entries("writer") if e.name == name)
        output = result.with_suffix(cast("WriterEntry", entry).suffix)
    if output.exists() and (not overwrite or output.samefile(result)):
        raise UsageError(f"{output} exists.", "use --overwrite to replace it, or -o for another.")
    write(result, output)
    return output
