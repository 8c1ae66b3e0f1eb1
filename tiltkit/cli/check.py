"""``tiltkit check``: describe a run and estimate its cost, without sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from tiltkit.cli.faults import failures_as_json
from tiltkit.cli.recipe import RecipeCommand, recipe_options, recipe_values, resolve_recipe
from tiltkit.cli.shared import call_plugins, json_option, print_json, print_tree, set_threads
from tiltkit.errors import UsageError

__all__ = ["check"]


@click.command(cls=RecipeCommand, short_help="Show what a run would do, without sampling.")
@click.argument("words", nargs=-1, metavar="TASK FILE")
@recipe_options
@json_option
def check(words: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Read FILE as a run does, and show its properties and the estimated cost of the run.

    \b
    tiltkit check mri-recon scan.h5
    """
    values, files = recipe_values(words, **options)
    if len(files) != 1:
        raise UsageError(f"{len(files)} input files are named.", "give one: check TASK FILE.")
    with failures_as_json(files[0], as_json=as_json):
        recipe = resolve_recipe(values)
        set_threads(recipe.threads)
        from tiltkit.recon.check import check_scan

        found = check_scan(recipe, call_plugins(), files[0])
    print_json(found) if as_json else print_tree(_printed(found))


def _printed(found: Mapping[str, Any]) -> dict[str, Any]:
    """Figures for people: one line per note, and the cost in words only."""
    from tiltkit.io.show import numbered
    from tiltkit.problem import Note

    lines = numbered(Note(**note) for note in found["notes"])
    left_out = ("notes", "estimated_seconds", "estimated_memory_gb", "result_mb", "estimate",
                "estimate_took_seconds")  # fmt: skip
    kept = {name: value for name, value in found.items() if name not in left_out}
    return kept | lines | {"estimate": found["estimate"]}
