"""Show how far a run is: a bar on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

import click

from tiltkit.recon.scan import Event, LevelDone, SliceDone, SliceStarted

__all__ = ["Progress"]

# Without a terminal, a line at most so often (seconds).
_EVERY = 30.0


class Progress:
    """Takes the events of a run; a context manager."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._place = ""
        self._printed = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            text = TextColumn("{task.description}")
            note = TextColumn("{task.fields[note]}")
            self._bar = Bar(text, BarColumn(), note, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._name, total=None, note="reading")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, SliceStarted):
            several = f" slice {event.index} ({event.position + 1} of {event.total})"
            self._place = self._name + (several if event.total > 1 else "")
        elif isinstance(event, LevelDone):
            note = f"noise {event.noise_level:.3g}, ESS {event.ess:.1f}, {_left(event)}"
            self._level(event, note)
        elif isinstance(event, SliceDone) and self._bar is None:
            codes = [one.code for one in event.diagnostics.get("warnings", ())]
            seconds = event.diagnostics.get("seconds", 0.0)
            found = f"warnings {', '.join(codes)}" if codes else "no warnings"
            self._line(f"{self._place}: done in {seconds:.0f} s, {found}")

    def _level(self, event: LevelDone, note: str) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, description=self._place, completed=event.level, total=event.n_levels,
                note=note,
            )  # fmt: skip
        elif time.monotonic() - self._printed > _EVERY:
            self._line(f"{self._place}: level {event.level} of {event.n_levels}, {note}")

    def _line(self, text: str) -> None:
        click.echo(text, err=True)
        self._printed = time.monotonic()


def _left(event: LevelDone) -> str:
    minutes, seconds = divmod(round(event.seconds_left), 60)
    return f"{minutes} min {seconds} s left" if minutes else f"{seconds} s left"
