"""Isolation of plugin code: every exception becomes an error that names the plugin."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tiltkit.errors import PluginError, TiltkitError

__all__ = ["isolate", "one_line"]

_LONGEST = 200


@contextmanager
def isolate(
    what: str, distribution: str, module: str = "", *, own_words: bool = False
) -> Iterator[None]:
    """Run plugin code; every exception except Ctrl-C becomes a `PluginError`.

    Its printed output goes to stderr: stdout is for the result of the command (``--json``).

    Args:
        what: Start of the message.
        distribution: Package of the plugin, for the hint.
        module: Module that is imported; empty for none.
        own_words: Pass on a `TiltkitError` of the code as it is.
    """
    try:
        with _stdout_to_stderr():
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: a plugin must not end the program
        if own_words and isinstance(error, TiltkitError):
            raise
        raise PluginError(
            f"{what}: {one_line(error)}", _hint(error, distribution, module)
        ) from error


class _Redirection:
    """Standard output of the process while plugin code runs, in any number of threads."""

    lock = threading.Lock()
    users = 0
    stdout: TextIO | None = None


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect standard output to stderr.

    All threads share `sys.stdout`, so the last of them restores it. With
    `contextlib.redirect_stdout` one thread would save, and restore, the stderr of another.
    """
    with _Redirection.lock:
        if not _Redirection.users:
            _Redirection.stdout, sys.stdout = sys.stdout, sys.stderr
        _Redirection.users += 1
    try:
        yield
    finally:
        with _Redirection.lock:
            _Redirection.users -= 1
            if not _Redirection.users and _Redirection.stdout is not None:
                sys.stdout, _Redirection.stdout = _Redirection.stdout, None


def one_line(error: BaseException) -> str:
    """Return type and first line of an error."""
    text = next(iter(str(error).strip().splitlines()), "")
    name = type(error).__name__
    return f"{name}: {text[:_LONGEST]}" if text else name


def _hint(error: BaseException, distribution: str, module: str) -> str:
    """Return what to do: install a missing package, reinstall the plugin, or update it."""
    absent = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    package = absent.partition(".")[0]
    if not absent:
        return f"update it: pip install --upgrade {distribution}, or report it to its authors."
    if f"{module}.".startswith(f"{absent}.") or package in sys.modules:
        return f"install it again: pip install --force-reinstall {distribution}"
    return f"install the missing package: pip install {package}"
