"""``tiltkit export``: a result in another file format."""

from __future__ import annotations

from pathlib import Path

import click

from tiltkit.cli.shared import log
from tiltkit.cli.writers import plan_export, write_export

__all__ = ["export"]


@click.command(short_help="Write a result in another format, such as TIFF.")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "name",
    default="tiff",
    show_default=True,
    metavar="NAME[,KEY=VALUE]",
    help="Writer, with options; see 'tiltkit list writer'.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="File or folder to write; RESULT with the suffix of the format when not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def export(result: Path, name: str, output: Path | None, overwrite: bool) -> None:
    """Write the images of RESULT in another file format.

    \b
    tiltkit export scan.posterior.h5 --as tiff
    tiltkit export scan.posterior.h5 --as nifti,samples=true -o scan.nii.gz
    """  # fmt: skip
    planned = plan_export(name, result, output)
    planned.check([result], overwrite=overwrite)
    for remark in write_export(planned, result):
        log(f"Note: {remark}")
    click.echo(f"Wrote {planned.output}.")
