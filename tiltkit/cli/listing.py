"""``tiltkit list``: the parts of each kind, and the options of one part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tiltkit.cli.shared import call_plugins, json_option, print_json
from tiltkit.errors import UsageError
from tiltkit.hookspecs import KINDS, Entry

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["listing"]


@click.command(name="list", short_help="List tasks, priors, samplers and other parts.")
@click.argument("kind", required=False, metavar="[KIND]")
@click.argument("name", required=False, metavar="[NAME]")
@json_option
def listing(kind: str | None, name: str | None, as_json: bool) -> None:
    """List all parts, the parts of one KIND, or the options of one part.

    \b
    tiltkit list sampler
    tiltkit list sampler walmc
    """
    singular = kind.removesuffix("s") if kind else None
    if singular and singular not in KINDS:
        from tiltkit.config import suggest

        raise UsageError(f"There is no kind {kind!r}.", suggest(singular, KINDS))
    if singular and name:
        _print_part(singular, name, as_json=as_json)
        return
    kinds = (singular,) if singular else KINDS
    found = {k: call_plugins().entries(k) for k in kinds}
    if as_json:
        print_json({k: [_row(k, entry) for entry in entries] for k, entries in found.items()})
        return
    width = max((len(e.name) for entries in found.values() for e in entries), default=0)
    for k, entries in found.items():
        if entries:
            click.echo(k)
        for entry in entries:
            click.echo(f"  {entry.name:<{width}}  {entry.summary}")


def _print_part(kind: str, name: str, *, as_json: bool) -> None:
    """Print one part: summary, origin, references, options."""
    plugins = call_plugins()
    entry = plugins.get(kind, name)
    model = getattr(plugins.load(kind, name), "Options", None)
    options = _options(model) if model else []
    if as_json:
        print_json({**_row(kind, entry), "cite": entry.cite, "options": options})
        return
    click.echo(f"{entry.name}: {entry.summary}")
    click.echo(f"from {plugins.owner(kind, name).distribution}")
    for reference in entry.cite:
        click.echo(f"cite {reference}")
    width = max((len(option["name"]) for option in options), default=0)
    for option in options:
        unset = "required" if option["required"] else "not set"
        default = unset if option["default"] is None else option["default"]
        text = f"  {option['name']:<{width}}  {option['description']} [{default}]"
        click.echo(text)


def _row(kind: str, entry: Entry) -> dict[str, Any]:
    distribution = call_plugins().owner(kind, entry.name).distribution
    return {"name": entry.name, "summary": entry.summary, "distribution": distribution}


def _options(model: type[BaseModel]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "default": None
            if field.is_required()
            else field.get_default(call_default_factory=True),
            "required": field.is_required(),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    ]
