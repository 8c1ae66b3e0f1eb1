"""Progress on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from tiltkit.cli.shared import log
from tiltkit.recon.scan import Event, LevelDone, SliceDone, SliceStarted

__all__ = ["Progress", "ProgressBar"]

# Seconds between the plain lines of an update, at least.
_INTERVAL = 30.0


class ProgressBar:
    """Progress of one task with a note beside it; a context manager.

    Args:
        description: Name of the task.
        transient: Remove the bar from the terminal at the end.
    """

    def __init__(self, description: str, *, transient: bool = False) -> None:
        self._description = description
        self._transient = transient
        self._printed = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
            )
            console = Console(stderr=True)
            self._bar = Progress(*columns, console=console, transient=self._transient)
            self._task = self._bar.add_task(self._description, total=None, note="reading")
            self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def on_terminal(self) -> bool:
        """True if there is a bar, false if there are plain lines."""
        return self._bar is not None

    def update(self, note: str, line: str = "", *, always: bool = False, **task: Any) -> None:
        """Update the bar; without a terminal print a line, at most twice a minute.

        Args:
            note: Text beside the bar.
            line: Text without a terminal; the note when empty.
            always: Print the line even if another was printed a moment ago.
            **task: ``description``, ``completed`` and ``total`` of the bar.
        """
        if self._bar is not None:
            self._bar.update(self._task, note=note, **task)
        elif always or time.monotonic() - self._printed > _INTERVAL:
            self.line(line or note)

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            log(text)
        self._printed = time.monotonic()


class Progress(ProgressBar):
    """Progress of a run, from its events."""

    def __init__(self, name: str) -> None:
        super().__init__(name, transient=True)
        self._name = self._place = name

    def show(self, event: Event) -> None:
        """Update the display for one event."""
        if isinstance(event, SliceStarted):
            several = f" slice {event.index} ({event.position + 1} of {event.total})"
            self._place = self._name + (several if event.total > 1 else "")
        elif isinstance(event, LevelDone):
            note = f"noise {event.noise_level:.3g}, ESS {event.ess:.1f}, {_left(event)}"
            line = f"{self._place}: level {event.level} of {event.n_levels}, {note}"
            self.update(
                note, line, description=self._place, completed=event.level, total=event.n_levels
            )
        elif isinstance(event, SliceDone) and not self.on_terminal:
            codes = [one.code for one in event.diagnostics.get("warnings", ())]
            seconds = event.diagnostics.get("seconds", 0.0)
            found = f"warnings {', '.join(codes)}" if codes else "no warnings"
            self.line(f"{self._place}: done in {seconds:.0f} s, {found}")


def _left(event: LevelDone) -> str:
    """Remaining time as text."""
    minutes, seconds = divmod(round(event.seconds_left), 60)
    return f"{minutes} min {seconds} s left" if minutes else f"{seconds} s left"
