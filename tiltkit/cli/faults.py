"""Errors that nobody foresaw, in words; those of plugins name the plugin."""

from __future__ import annotations

from traceback import walk_tb

__all__ = ["unexpected"]


def unexpected(error: BaseException) -> str:
    """What happened, where, and whom to tell; what may not be read or written is nobody's fault."""
    if isinstance(error, PermissionError) and error.filename:
        return (
            f"{error.filename} may not be read or written: permission denied.\n"
            "Try: ask its owner for access, or name another file."
        )
    plugin = _culprit(error)
    where = f" in the plugin {plugin}" if plugin else ""
    whom = " to its authors" if plugin else ""
    return (
        f"Something unexpected happened{where}: {type(error).__name__}: {error}\n"
        f"Try: add --debug in front of the command and report it{whom}."
    )


def _culprit(error: BaseException) -> str:
    """The package of the plugin that an error arose in; empty where it arose in tiltkit itself."""
    from tiltkit.plugins.discover import discover

    owners = {plugin.target.partition(".")[0]: plugin.distribution for plugin in discover()}
    names = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    # Libraries fail at what they are given: the innermost frame that is ours or a plugin's counts.
    for package in (name.partition(".")[0] for name in reversed(names)):
        if package == "tiltkit" or package in owners:
            return owners.get(package, "")
    return ""
