"""Stop signals: Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 end a command with 130, and none is lost.

While a run samples and writes slices, a signal is noted and looked at after each noise level, so
that state and file are whole. Elsewhere the first signal raises ``KeyboardInterrupt`` at once.
Python drops an exception that is raised inside a destructor or a callback from C; such a
``KeyboardInterrupt`` is raised again a moment later. Further signals do nothing.

Only the command line uses this module: its state is that of the process.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = [
    "catch_stops", "end_of_work", "noted_from_first", "raise_if_stopped", "stop_requested",
    "until_stopped",
]  # fmt: skip

T = TypeVar("T")

# Windows has only the first two.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
# Seconds until an interrupt that Python dropped is raised again: the destructor has ended by then.
_AGAIN = 0.01

_caught = 0  # the first signal
_raised = False  # its KeyboardInterrupt is on its way, or was caught
_noting = 0  # nesting depth of `_signals_noted`
_hook_before = sys.__unraisablehook__


def catch_stops() -> None:
    """Install the handlers, for the rest of the process; forget signals of an earlier command.

    A signal that is ignored when the process starts stays ignored, as ``nohup`` asks for.
    """
    global _caught, _raised, _noting, _hook_before
    _caught, _raised, _noting = 0, False, 0
    if threading.current_thread() is not threading.main_thread():
        return  # Python handles signals in the main thread only
    for number in _numbers():
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _handle)
    if sys.unraisablehook is not _dropped:
        _hook_before, sys.unraisablehook = sys.unraisablehook, _dropped
        atexit.register(_ignore_all, os.getpid())


def stop_requested() -> bool:
    """Return whether a stop signal was received."""
    return bool(_caught)


def end_of_work() -> bool:
    """Return whether a stop signal was received; later signals are recorded only."""
    global _noting
    _noting += 1
    return bool(_caught)


def raise_if_stopped() -> None:
    """End the command if a stop signal was received.

    Raises:
        KeyboardInterrupt: One was received.
    """
    global _raised
    if _caught:
        _raised = True
        raise KeyboardInterrupt


@contextmanager
def _signals_noted() -> Iterator[None]:
    """Record signals within the block, without interrupting it."""
    global _noting
    _noting += 1
    try:
        yield
    finally:
        _noting -= 1


def noted_from_first(events: Iterable[T]) -> Iterator[T]:
    """Pass on events; from the first one on, signals are recorded and do not interrupt."""
    source = iter(events)
    for first in source:
        with _signals_noted():
            yield first
            yield from source


def until_stopped(events: Iterable[T]) -> Iterator[T]:
    """Pass on events of a run; after the first one, signals interrupt between events only.

    Raises:
        KeyboardInterrupt: A stop signal was received.
    """
    for event in noted_from_first(events):
        raise_if_stopped()
        yield event


def _numbers() -> list[signal.Signals]:
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


def _handle(number: int, _frame: FrameType | None) -> None:
    global _caught, _raised
    if not _caught:
        _caught = number
        if _noting and os.isatty(2):
            # Not through sys.stderr, which this signal may have interrupted.
            os.write(2, b"\nStopping as soon as all is saved.\n")
    if not (_noting or _raised):
        _raised = True
        raise KeyboardInterrupt


def _dropped(unraisable: UnraisableHookArgs) -> None:
    """Raise a dropped ``KeyboardInterrupt`` again; show all other dropped exceptions."""
    global _raised
    if _caught and isinstance(unraisable.exc_value, KeyboardInterrupt):
        _raised = False
        again = threading.Timer(_AGAIN, _thread.interrupt_main, (_caught,))
        again.daemon = True
        again.start()
    else:
        _hook_before(unraisable)


def _ignore_all(process: int) -> None:
    """Python resets its handlers when it ends: a late signal would change the exit code."""
    if os.getpid() == process and threading.current_thread() is threading.main_thread():
        for number in _numbers():
            signal.signal(number, signal.SIG_IGN)
