"""``tiltkit plugins``: installed plugins, their entries, and what is wrong with them."""

from __future__ import annotations

from dataclasses import asdict

import click

from tiltkit.cli.shared import call_plugins, json_option, print_json
from tiltkit.errors import UsageError

__all__ = ["plugins"]


@click.group(short_help="List and examine plugins.")
def plugins() -> None:
    """List and examine plugins."""


@plugins.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List all plugins with their state."""
    found = call_plugins().plugins
    rows = [
        {"name": p.name, "distribution": p.distribution, "version": p.version,
         "status": p.status, "reason": p.reason}
        for p in found
    ]  # fmt: skip
    if as_json:
        print_json({"plugins": rows})
        return
    width = max(len(p.distribution) for p in found)
    for p in found:
        reason = f"  {p.reason}" if p.reason else ""
        click.echo(f"{p.distribution:<{width}}  {p.version:<10}  {p.status}{reason}".rstrip())


@plugins.command()
@click.argument("name")
def show(name: str) -> None:
    """Show what the plugin NAME adds."""
    found = call_plugins().plugins
    chosen = [p for p in found if p.has_name(name)]
    if not chosen:
        from tiltkit.config import suggest

        hint = suggest(name, [p.distribution for p in found])
        raise UsageError(f"There is no plugin {name!r}.", hint)
    for plugin in chosen:
        click.echo(f"{plugin.distribution} {plugin.version}: {plugin.status} ({plugin.target})")
        if plugin.reason:
            click.echo(f"  {plugin.reason}\n  Try: {plugin.hint}")
        for kind, entry in plugin.entries:
            click.echo(f"  {kind:<8}  {entry.name}: {entry.summary}")


@plugins.command()
@json_option
def doctor(as_json: bool) -> int:
    """Import everything that plugins add and list what is broken; exit code 1 for errors."""
    from tiltkit.cli.main import COMMANDS
    from tiltkit.plugins.doctor import examine_plugins

    findings = examine_plugins(call_plugins(), COMMANDS)
    if as_json:
        print_json({"findings": [asdict(f) for f in findings]})
    for finding in findings if not as_json else ():
        click.echo(f"{finding.plugin}, {finding.level}: {finding.message}")
        click.echo(f"  Try: {finding.hint}")
    if not findings and not as_json:
        click.echo(f"{len(call_plugins().plugins)} plugins, no problems found.")
    return 1 if any(finding.level == "error" for finding in findings) else 0
