"""``tiltkit report``: the HTML page of a result."""

from __future__ import annotations

from pathlib import Path

import click

from tiltkit.errors import UsageError

__all__ = ["report"]


@click.command(short_help="Write a result's HTML page.")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="HTML",
    help="The page; RESULT with .html when not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace a page that is there.")
def report(result: Path, output: Path | None, overwrite: bool) -> None:
    """Write one self-contained page: images, spread, samples, and the certificate in words."""
    from tiltkit.report import write_report

    html = output or result.with_suffix(".html")
    if html.exists() and not overwrite:
        raise UsageError(f"{html} exists.", "use --overwrite to replace it, or -o for another.")
    write_report(result, html)
    click.echo(f"Wrote {html}.")
