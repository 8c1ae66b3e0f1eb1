"""Turn any exception into an error with a kind, a message and a hint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

from tiltkit.cli.shared import print_json
from tiltkit.errors import Kind, TiltkitError, known_error

__all__ = ["error_of", "failures_as_json", "json_fields"]


def error_of(error: BaseException) -> TiltkitError:
    """The tiltkit error for any exception; an unexpected one names the plugin that it arose in."""
    known = known_error(error)
    if known is not None:
        return known
    plugin = _plugin_of(error)
    where = f" in the plugin {plugin}" if plugin else ""
    whom = " to its authors" if plugin else ""
    return TiltkitError(
        f"Something unexpected happened{where}: {type(error).__name__}: {error}",
        f"add --debug in front of the command and report it{whom}.",
        kind=Kind.PLUGIN if plugin else Kind.INTERNAL,
    )


@contextmanager
def failures_as_json(source: Path, *, as_json: bool) -> Iterator[None]:
    """Print the line of ``--json`` for an input of which the block raises an error."""
    try:
        yield
    except Exception as error:
        if as_json:
            print_json({"input": str(source), "status": "failed", **json_fields(error_of(error))})
        raise


def json_fields(error: TiltkitError) -> dict[str, Any]:
    """An error as fields of a line of ``--json``."""
    return {
        "kind": str(error.kind),
        "error": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def _plugin_of(error: BaseException) -> str:
    """The package of the plugin that an error arose in; empty where it arose in tiltkit itself."""
    from tiltkit.plugins.discover import discover

    owners = {plugin.target.partition(".")[0]: plugin.distribution for plugin in discover()}
    names = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    # Libraries fail at what they are given: the innermost frame that is ours or a plugin's counts.
    for package in (name.partition(".")[0] for name in reversed(names)):
        if package == "tiltkit" or package in owners:
            return owners.get(package, "")
    return ""
