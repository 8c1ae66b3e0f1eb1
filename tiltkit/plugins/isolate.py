"""Turns whatever foreign code raises into an error that names the plugin's fault."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tiltkit.errors import PluginError, TiltkitError

__all__ = ["isolated", "one_line"]

_LONGEST = 200


@contextmanager
def isolated(
    what: str, distribution: str, module: str = "", *, own_words: bool = False
) -> Iterator[None]:
    """Run foreign code; anything but Ctrl-C becomes a `PluginError`.

    What the code prints goes to stderr: stdout belongs to the command's answer (``--json``).

    Args:
        what: Start of the message.
        distribution: The package that the code comes from, for the hint.
        module: The module that is imported, if any.
        own_words: Whether the code may say what is wrong by a `TiltkitError`, which then stands.
    """
    try:
        with _stdout_aside():
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: a plugin must not end the program
        if own_words and isinstance(error, TiltkitError):
            raise
        raise PluginError(
            f"{what}: {one_line(error)}", _hint(error, distribution, module)
        ) from error


class _Aside:
    """Standard output while foreign code runs, in any number of threads."""

    lock = threading.Lock()
    users = 0
    stdout: TextIO | None = None


@contextmanager
def _stdout_aside() -> Iterator[None]:
    """Send what is printed to stderr.

    Standard output belongs to the whole process, so that the last of several threads restores it:
    with `contextlib.redirect_stdout` one thread would save, and restore, the stderr of another.
    """
    with _Aside.lock:
        if not _Aside.users:
            _Aside.stdout, sys.stdout = sys.stdout, sys.stderr
        _Aside.users += 1
    try:
        yield
    finally:
        with _Aside.lock:
            _Aside.users -= 1
            if not _Aside.users and _Aside.stdout is not None:
                sys.stdout, _Aside.stdout = _Aside.stdout, None


def one_line(error: BaseException) -> str:
    """Type and first line of an error."""
    text = next(iter(str(error).strip().splitlines()), "")
    name = type(error).__name__
    return f"{name}: {text[:_LONGEST]}" if text else name


def _hint(error: BaseException, distribution: str, module: str) -> str:
    """A missing package can be installed; anything else is for the plugin's authors."""
    absent = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    package = absent.partition(".")[0]
    if not absent:
        return f"update it: pip install --upgrade {distribution}, or tell its authors."
    if f"{module}.".startswith(f"{absent}.") or package in sys.modules:
        return f"install it again: pip install --force-reinstall {distribution}"
    return f"install what is missing: pip install {package}"
