"""Quality gates: ``--fail-if 'chi2>1.5'`` sets the exit code by a figure or a warning."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from tiltkit.cli.shared import Command
from tiltkit.errors import UsageError
from tiltkit.posterior.level import REMOVED, RENAMED
from tiltkit.posterior.warnings import CODES

__all__ = ["check_gates", "fail_if_option", "gate_names", "gates_met"]


def fail_if_option(command: Command) -> Command:
    """Add the option ``--fail-if``."""
    return click.option(
        "--fail-if",
        "fail_if",
        multiple=True,
        metavar="CONDITION",
        help="Exit with 3 if the condition holds: a figure beyond a value, such as 'chi2>1.5', or"
        " the code of a warning, such as runs_disagree; repeatable.",
    )(command)


def check_gates(conditions: Sequence[str], known: Collection[str]) -> None:
    """Check the form of conditions and the names in them.

    Args:
        conditions: ``NAME<VALUE``, ``NAME>VALUE``, or the code of a warning.
        known: Names of figures.

    Raises:
        UsageError: A condition has the wrong form, or an unknown figure or warning.
    """
    for name, _, _ in map(_gate, conditions):
        if name in REMOVED:
            raise UsageError(
                f"There is no figure {name!r} any more: {REMOVED[name].partition(';')[0]}.",
                REMOVED[name].partition("; ")[2] or f"leave {name} out.",
            )
        if name not in {*known, *CODES}:
            from tiltkit.config import suggest

            raise UsageError(
                f"There is no figure or warning {name!r}.", suggest(name, [*known, *CODES])
            )


def gate_names(conditions: Sequence[str]) -> list[str]:
    """Names of the figures and warnings in conditions.

    Raises:
        UsageError: A condition has the wrong form.
    """
    return [_gate(text)[0] for text in conditions]


def gates_met(conditions: Sequence[str], figures: Mapping[str, Any]) -> list[str]:
    """Return the conditions that hold.

    A condition also holds if its figure is NaN or missing.

    Args:
        conditions: As for `check_gates`; a code stands for the number of slices with that warning.
        figures: From `tiltkit.recon.summary.summarize`.
    """
    counts = {one["code"]: len(one["slices"]) for one in figures.get("warnings", ())}
    met = []
    for text in conditions:
        name, sign, limit = _gate(text)
        value = float(counts.get(name, 0) if name in CODES else figures.get(name, math.nan))
        if math.isnan(value):
            met.append(f"{text} ({name} is not known)")
        elif value < limit if sign == "<" else value > limit:
            met.append(text)
    return met


def _gate(text: str) -> tuple[str, str, float]:
    """Parse a condition into name, ``<`` or ``>``, and limit; a code alone means ``> 0``."""
    if text.strip() in CODES:
        return text.strip(), ">", 0.0
    match = re.fullmatch(r"\s*([\w.]+)\s*([<>])\s*([-+.\deE]+)\s*", text)
    try:
        if match:
            return RENAMED.get(match[1], match[1]), match[2], float(match[3])
    except ValueError:
        pass
    from tiltkit.config import suggest

    raise UsageError(
        f"The condition {text!r} has the wrong form.",
        f"write it like 'chi2>1.5', or give the code of a warning: {suggest(text, CODES)}",
    )
