"""``tiltkit cite``: the references of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tiltkit.cli.shared import call_plugins, json_option, print_json
from tiltkit.errors import UsageError

__all__ = ["cite"]


@click.command(short_help="List what to cite for a result.")
@click.argument("result", type=click.Path(path_type=Path))
@json_option
def cite(result: Path, as_json: bool) -> None:
    """List the papers of the task, the prior and the sampler of RESULT."""
    from tiltkit.io.reading import read_provenance, read_recipe

    recipe, versions = read_recipe(result), read_provenance(result).get("versions", {})
    parts = [_part(kind, recipe[kind]["name"]) for kind in ("task", "prior", "sampler")]
    if as_json:
        print_json({"result": str(result), "versions": versions, "parts": parts})
        return
    click.echo(f"made with tiltkit {versions.get('tiltkit', '')}".rstrip())
    printed: set[str] = set()
    for part in parts:
        new = [reference for reference in part["cite"] if reference not in printed]
        printed.update(new)
        click.echo(f"{part['kind']} {part['name']}, from {part['distribution']}")
        for reference in new or ["nothing more to cite" if part["cite"] else "nothing to cite"]:
            click.echo(f"  {reference}")


def _part(kind: str, name: str) -> dict[str, Any]:
    """Name, distribution and references of one part, which may no longer be installed."""
    plugins = call_plugins()
    try:
        entry = plugins.get(kind, name)
    except UsageError:
        return {
            "kind": kind, "name": name, "distribution": "a plugin that is not installed here",
            "cite": [],
        }  # fmt: skip
    origin = plugins.owner(kind, name).distribution
    return {"kind": kind, "name": name, "distribution": origin, "cite": list(entry.cite)}
