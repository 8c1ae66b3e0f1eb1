"""Quality gates: ``--fail-if 'chi2>1.5'`` turns a figure into an exit code."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from tiltkit.cli.shared import Command
from tiltkit.errors import UsageError
from tiltkit.posterior.level import RENAMED

__all__ = ["check_gates", "fail_if_option", "gates_met"]


def fail_if_option(command: Command) -> Command:
    """``--fail-if``."""
    return click.option(
        "--fail-if",
        "fail_if",
        multiple=True,
        metavar="NAME<VALUE",
        help="Exit with 3 when a figure of the answer is so, such as 'chi2>1.5'; repeatable.",
    )(command)


def check_gates(conditions: Sequence[str], known: Collection[str]) -> None:
    """Refuse conditions of the wrong form, or on a figure that is not ``known``.

    Raises:
        UsageError: Such a condition.
    """
    for name, _, _ in map(_gate, conditions):
        if name not in known:
            from tiltkit.config import nearest

            raise UsageError(f"There is no figure {name!r}.", nearest(name, known))


def gates_met(conditions: Sequence[str], figures: Mapping[str, Any]) -> list[str]:
    """Those of the ``NAME<VALUE`` conditions that hold.

    A figure that is NaN, or that this run does not have, speaks for nothing: its condition holds.
    """
    met = []
    for text in conditions:
        name, sign, limit = _gate(text)
        value = float(figures.get(name, math.nan))
        if math.isnan(value):
            met.append(f"{text} ({name} is not known)")
        elif value < limit if sign == "<" else value > limit:
            met.append(text)
    return met


def _gate(text: str) -> tuple[str, str, float]:
    """Figure, ``<`` or ``>``, and limit of a condition."""
    match = re.fullmatch(r"\s*([\w.]+)\s*([<>])\s*([-+.\deE]+)\s*", text)
    try:
        if match:
            return RENAMED.get(match[1], match[1]), match[2], float(match[3])
    except ValueError:
        pass
    raise UsageError(f"The condition {text!r} is not understood.", "write it like 'chi2>1.5'.")
