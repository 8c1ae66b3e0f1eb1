"""Turn any exception into an error with a kind, a message and a hint."""

from __future__ import annotations

from traceback import walk_tb

from tiltkit.errors import Kind, TiltkitError, known_error

__all__ = ["error_of"]


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
