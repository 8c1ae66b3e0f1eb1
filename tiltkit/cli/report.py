"""``tiltkit report``: an HTML page about a result."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["report"]


@click.command(short_help="Write a result's HTML page.")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="HTML",
    help="Page to write; RESULT with .html when not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing page.")
def report(result: Path, output: Path | None, overwrite: bool) -> None:
    """Write one HTML file: images, standard deviation, samples, certificate, settings."""
    from tiltkit.io.atomic import check_output
    from tiltkit.report import write_report

    html = output or result.with_suffix(".html")
    check_output(html, overwrite=overwrite, resume=True, keep=[result])
    write_report(result, html)
    click.echo(f"Wrote {html}.")
