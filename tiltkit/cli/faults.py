"""Conversion of exceptions into errors with a kind, a message and a hint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

from tiltkit.cli.shared import print_json
from tiltkit.errors import Kind, TiltkitError, known_error

__all__ = ["as_tiltkit_error", "failures_as_json", "json_fields"]


def as_tiltkit_error(error: BaseException) -> TiltkitError:
    """Convert any exception; the message for an unexpected one names the plugin that raised it."""
    known = known_error(error)
    if known is not None:
        return known
    plugin = _raising_plugin(error)
    where = f" in the plugin {plugin}" if plugin else ""
    whom = " to its authors" if plugin else ""
    return TiltkitError(
        f"Unexpected error{where}: {type(error).__name__}: {error}",
        f"add --debug in front of the command and report it{whom}.",
        kind=Kind.PLUGIN if plugin else Kind.INTERNAL,
    )


@contextmanager
def failures_as_json(source: Path, *, as_json: bool) -> Iterator[None]:
    """Print the line of ``--json`` for an input if the block raises an error."""
    try:
        yield
    except Exception as error:
        if as_json:
            print_json(
                {"input": str(source), "status": "failed", **json_fields(as_tiltkit_error(error))}
            )
        raise


def json_fields(error: TiltkitError) -> dict[str, Any]:
    """Return the fields of an error in a line of ``--json``."""
    return {
        "kind": str(error.kind),
        "error": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def _raising_plugin(error: BaseException) -> str:
    """Package of the plugin whose code raised an error; empty for tiltkit itself."""
    from tiltkit.plugins.discover import discover

    owners = {plugin.target.partition(".")[0]: plugin.distribution for plugin in discover()}
    names = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    # The innermost frame of tiltkit or a plugin counts: libraries fail because of their arguments.
    for package in (name.partition(".")[0] for name in reversed(names)):
        if package == "tiltkit" or package in owners:
            return owners.get(package, "")
    return ""
