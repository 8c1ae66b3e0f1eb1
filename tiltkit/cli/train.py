"""``tiltkit train``: train a prior on one's own images."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltkit.cli.shared import json_option, print_json, print_tree, set_threads, threads_option
from tiltkit.cli.signals import noted_from_first, stop_requested

if TYPE_CHECKING:
    from tiltkit.training.finish import Finished
    from tiltkit.training.loop import Stepped
    from tiltkit.training.recipe import TrainRecipe
    from tiltkit.training.train import Drawn, Event

__all__ = ["train"]

# Without a terminal, a line at most so often (seconds).
_EVERY = 30.0
# Of these two settings a recipe has one.
_BUDGETS = {"training.steps": "minutes", "training.minutes": "steps"}


@click.command(short_help="Train a prior on your own images.")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-s", "--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Change one setting, such as training.minutes=60; repeatable.")  # fmt: skip
@click.option(
    "-o", "--output", metavar="OUT", help="Weights file; as in the recipe when not given."
)
@threads_option
@click.option("--check", is_flag=True, help="Read and check the images, and train nothing.")
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace a prior that is there.")
@json_option
def train(
    recipe: Path,
    settings: Sequence[str],
    output: str | None,
    threads: int | None,
    check: bool,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a score network on the images that a RECIPE names, and measure it on held-out ones.

    \b
    tiltkit train recipe.toml
    tiltkit train recipe.toml -s training.minutes=60 -o heads.safetensors
    tiltkit run mri-recon scan.h5 --prior network -s prior.weights=heads.safetensors
    """
    from tiltkit.config import read_toml
    from tiltkit.training.recipe import resolve

    values = read_toml(recipe)
    for setting in settings:
        values = _changed(values, setting)
    given = {"output": output, "threads": threads}
    resolved = resolve(values | {name: x for name, x in given.items() if x is not None})
    set_threads(resolved.threads)
    if check:
        from tiltkit.training.train import check as checked

        facts = checked(resolved)
        print_json(facts) if as_json else print_tree(facts)
        return
    finished = _trained(resolved, resume=resume, overwrite=overwrite)
    print_json(_summary(finished)) if as_json else click.echo(_sentence(finished))


def _changed(values: dict[str, Any], setting: str) -> dict[str, Any]:
    """With one setting changed; a budget takes the place of the other one, and only one counts."""
    from tiltkit.config import with_setting

    changed = with_setting(values, setting)
    other = _BUDGETS.get(setting.partition("=")[0].strip())
    if other:
        changed["training"].pop(other, None)
    return changed


def _trained(recipe: TrainRecipe, *, resume: bool, overwrite: bool) -> Finished:
    from tiltkit.training.finish import Finished
    from tiltkit.training.train import Stopped
    from tiltkit.training.train import train as events

    training = events(recipe, resume=resume, overwrite=overwrite, stop=stop_requested)
    with Progress() as progress:
        for event in noted_from_first(training):
            progress.show(event)
            if isinstance(event, Finished):
                return event
            if isinstance(event, Stopped):
                command = shlex.join(["tiltkit", *sys.argv[1:]])
                after = f" after step {event.step}" if event.step else ""
                click.echo(f"The state{after} is in {event.state}.", err=True)
                if not resume:
                    command += " --resume"
                click.echo(f"Go on with: {command}", err=True)
    raise KeyboardInterrupt


class Progress:
    """A bar on a terminal, plain lines elsewhere, both on standard error; a context manager."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._printed = -math.inf

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            text, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
            self._bar = Bar(text, BarColumn(), note, console=Console(stderr=True))
            self._task = self._bar.add_task("training", total=1.0, note="reading")
            self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        from tiltkit.training.loop import Checked, Stepped
        from tiltkit.training.train import Drawn, Prepared

        if isinstance(event, Prepared):
            for name, value in event.facts.items():
                self._line(f"{name}: {value}")
            self._line(f"total variation: {_levels(event.levels, event.tv)}")
        elif isinstance(event, Drawn):
            self._drawn(event)
        elif isinstance(event, Checked):
            self._line(f"step {event.check.step}: {_levels(event.levels, event.check.psnr)}")
        elif isinstance(event, Stepped):
            self._stepped(event)

    def _drawn(self, event: Drawn) -> None:
        note = f"round {event.round} of {event.rounds}: {event.images} of {event.total} images"
        if self._bar is not None:
            self._bar.update(self._task, note=note)
        elif event.images == event.total or time.monotonic() - self._printed > _EVERY:
            self._line(note)

    def _stepped(self, event: Stepped) -> None:
        minutes = event.seconds_left / 60
        note = f"step {event.step}, loss {event.loss:.4f}, {minutes:.1f} min left"
        if self._bar is not None:
            self._bar.update(self._task, completed=min(1.0, event.spent), note=note)
        elif time.monotonic() - self._printed > _EVERY:
            self._line(note)

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)
        self._printed = time.monotonic()


def _levels(levels: Sequence[float], psnr: Sequence[float]) -> str:
    """``0.02: 35.21  0.05: 29.40 dB``."""
    return "  ".join(f"{s:g}: {p:.2f}" for s, p in zip(levels, psnr, strict=True)) + " dB"


def _summary(finished: Finished) -> dict[str, Any]:
    outcome = finished.outcome
    return {
        "output": str(finished.weights),
        "card": str(finished.card),
        "report": str(finished.page),
        "sha256": outcome.sha256,
        "steps": outcome.record.step,
        "best_step": outcome.best.step,
        "seconds": outcome.record.seconds,
        "levels": list(outcome.levels),
        "psnr": list(outcome.best.psnr),
        "psnr_tv": list(outcome.tv),
        "care": outcome.worries(),
    }


def _sentence(finished: Finished) -> str:
    outcome = finished.outcome
    gain = sum(outcome.gain) / len(outcome.gain)
    text = (
        f"{finished.weights}: {outcome.steps}, {outcome.record.seconds / 60:.1f} min,"
        f" {gain:+.2f} dB beside total variation, card {finished.card}, report {finished.page}."
    )
    return text + "".join(f" Take care: {worry}" for worry in outcome.worries()[:1])
