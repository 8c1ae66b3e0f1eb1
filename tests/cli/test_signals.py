"""Stop signals: none is lost, none shows a traceback, and the exit code is always 130."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import click
import pytest

from tiltkit.cli import cli, main, signals
from tiltkit.cli.signals import until_stopped

STOPS = [getattr(signal, name) for name in signals.NAMES if hasattr(signal, name)]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals to oneself end a process")


def run(monkeypatch: pytest.MonkeyPatch, body: object) -> int:
    """Exit code of a command that does ``body``."""
    command = click.Command("body", callback=body)  # type: ignore[arg-type]
    monkeypatch.setattr(type(cli), "get_command", lambda *_: command)
    with pytest.raises(SystemExit) as stop:
        main(["body"])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def wait() -> None:
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        time.sleep(0.001)


@pytest.mark.parametrize("number", STOPS)
def test_every_stop_signal_ends_a_command_at_once_with_130(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        signal.raise_signal(number)
        raise AssertionError("the signal was swallowed")

    assert run(monkeypatch, body) == 130
    assert capsys.readouterr().err.strip() == "Stopped."


def test_a_signal_inside_a_destructor_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closing:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def body() -> None:
        Closing()
        wait()
        raise AssertionError("the signal was swallowed")

    assert run(monkeypatch, body) == 130
    assert capsys.readouterr().err.strip() == "Stopped."


@pytest.mark.parametrize("error", [None, RuntimeError("of what was interrupted")])
def test_a_signal_that_other_code_swallows_or_changes_still_gives_130(
    error: Exception | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def body() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            if error:
                raise error from None

    assert run(monkeypatch, body) == 130
    assert capsys.readouterr().err.strip() == "Stopped."


def test_a_stop_interrupts_between_two_events_and_a_second_signal_does_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[object] = []

    def levels() -> Iterator[int]:
        try:
            yield 0
            for number in STOPS:
                signal.raise_signal(number)
            done.append("level")
            yield 1
        finally:
            signal.raise_signal(signal.SIGINT)
            done.append("closed")

    def body() -> None:
        events = levels()
        try:
            for event in until_stopped(events):
                done.append(event)
        finally:
            events.close()

    assert run(monkeypatch, body) == 130
    assert done == [0, "level", "closed"]
    assert capsys.readouterr().err.strip() == "Stopped."


def test_a_signal_before_the_first_event_acts_at_once() -> None:
    signals.catch_stops()

    def events() -> Iterator[int]:
        signal.raise_signal(signal.SIGTERM)
        yield 0

    with pytest.raises(KeyboardInterrupt):
        list(until_stopped(events()))


def test_a_signal_that_is_ignored_at_start_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert run(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
