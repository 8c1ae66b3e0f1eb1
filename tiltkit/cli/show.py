"""``tiltkit show``: content of a scan, or content and settings of a result."""

from __future__ import annotations

from pathlib import Path

import click

from tiltkit.cli.shared import call_plugins, json_option, print_json, print_tree

__all__ = ["show"]


@click.command(short_help="Show the content of a scan or a result.")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show FILE: a result with its settings and certificate, or the datasets of any HDF5 file."""
    from tiltkit.io.show import describe

    found = describe(file, call_plugins())
    print_json(found) if as_json else print_tree(found)
