"""The errors that tiltkit shows to people: what was wrong, and what to do next."""

from __future__ import annotations

__all__ = ["InputError", "PluginError", "TiltkitError", "UsageError"]


class TiltkitError(Exception):
    """Something failed in a way that the user can act on.

    Args:
        message: What was wrong, with the actual value. One sentence.
        hint: What to do next. One sentence, or empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nTry: {self.hint}" if self.hint else self.message


class UsageError(TiltkitError):
    """The command or its settings are wrong: an unknown option, prior or task."""

    exit_code = 2


class InputError(TiltkitError):
    """An input file is damaged, of another kind, or holds values that cannot be used."""


class PluginError(TiltkitError):
    """A plugin is broken, missing, or in conflict with another one."""
