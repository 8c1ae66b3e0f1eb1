"""``tiltkit check``: describe a run and estimate its cost, without sampling."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from tiltkit.cli.faults import failures_as_json
from tiltkit.cli.recipe import RecipeCommand, recipe_options, recipe_values, resolve_recipe
from tiltkit.cli.shared import call_plugins, json_option, print_json, print_tree, set_threads
from tiltkit.cli.writers import accept_result, plan_export
from tiltkit.errors import InputError, UsageError

__all__ = ["check"]


@click.command(cls=RecipeCommand, short_help="Show what a run would do, without sampling.")
@click.argument("words", nargs=-1, metavar="TASK FILE")
@recipe_options
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Also write a picture of what was found, such as the point spread function.",
)
@click.option(
    "--write",
    "formats",
    multiple=True,
    metavar="NAME[,KEY=VALUE]",
    help="Also check that the result can be written in this format, as run --write; repeatable.",
)
@json_option
def check(
    words: tuple[str, ...],
    picture: Path | None,
    formats: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Read FILE as a run does, and show its properties and the estimated cost of the run.

    \b
    tiltkit check mri-recon scan.h5
    """
    values, files = recipe_values(words, **options)
    if len(files) != 1:
        raise UsageError(f"{len(files)} input files are named.", "give one: check TASK FILE.")
    with failures_as_json(files[0], as_json=as_json):
        result = Path(f"{files[0].stem}.posterior.h5")
        exports = [plan_export(text, result) for text in formats]
        recipe = resolve_recipe(values)
        set_threads(recipe.threads)
        from tiltkit.recon.check import check_scan

        show = partial(_write_picture, picture) if picture else None
        accept = partial(accept_result, exports) if exports else None
        found = check_scan(recipe, call_plugins(), files[0], show, accept)
    print_json(found) if as_json else print_tree(_printed(found))


def _write_picture(output: Path, pictures: Mapping[str, Any]) -> None:
    """Write the pictures of a scan.

    Raises:
        UsageError: There are none.
        InputError: The file cannot be written.
    """
    if not pictures:
        raise UsageError("This task has no pictures of a scan.", "leave --picture out.")
    from tiltkit.report.picture import write_scan_pictures

    try:
        write_scan_pictures(pictures, output)
    except OSError as error:
        raise InputError(
            f"{output} could not be written: {error.strerror}.", "name a file in another folder."
        ) from error


def _printed(found: Mapping[str, Any]) -> dict[str, Any]:
    """Figures for people: one line per note, and the cost in words only."""
    from tiltkit.io.show import numbered
    from tiltkit.problem import Note

    lines = numbered(Note(**note) for note in found["notes"])
    left_out = ("notes", "estimated_seconds", "estimated_memory_gb", "result_mb", "estimate",
                "estimate_took_seconds")  # fmt: skip
    kept = {name: value for name, value in found.items() if name not in left_out}
    return kept | lines | {"estimate": found["estimate"]}
