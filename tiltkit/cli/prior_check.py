"""``tiltkit prior check``: from its options to a report, and the report as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from tiltkit.cli.prior_facts import exact_options, facts_of
from tiltkit.cli.shared import call_plugins, print_tree
from tiltkit.errors import UsageError
from tiltkit.priors.check import Report, check_prior, from_files, from_prior, levels_of
from tiltkit.priors.check.verdict import Finding, overall
from tiltkit.sampling.run import pick_devices

__all__ = ["as_levels", "as_scale", "checked", "print_report"]


def checked(
    name: str, settings: Sequence[str], *, quiet: bool, images: Sequence[Path], levels: str | None,
    count: int, scale: str, samples: int, size: int, seed: int, device: str,
) -> Report:  # fmt: skip
    """Make the prior and its material, and measure."""
    wanted, divisor = as_levels(levels), as_scale(scale)
    plugins = call_plugins()
    options = exact_options(plugins, name, settings)
    made = plugins.create("prior", name, options)
    generator = torch.Generator().manual_seed(seed)
    if images:
        material = from_files(images, made.channels, count, divisor, generator)
    else:
        material = from_prior(made, size, count, generator)
    where = pick_devices(device)[0]
    return check_prior(
        name,
        made.to(where),
        material,
        levels_of(made, wanted),
        facts=facts_of(plugins, name, made, options),
        samples=samples,
        seed=seed,
        device=where,
        tell=lambda text: None if quiet else click.echo(f"{text} ...", err=True),
    )


def print_report(report: Report, found: list[Finding]) -> None:
    """Facts, a table by noise level, the findings in words."""
    print_tree({report.name: {**report.facts, "judged on": report.origin}})
    names = list(report.levels[0].baselines)
    click.echo("\n" + "".join(f"{title:>13}" for title in
               ("noise", "PSNR", *names, "error ratio", "drift", "asymmetry")))  # fmt: skip
    for level in report.levels:
        values = (level.psnr, *level.baselines.values())
        decibels = "".join(f"{value:>13.2f}" for value in values)
        laws = f"{level.error_ratio:>13.2f}{level.drift:>13.3f}{level.asymmetry:>13.3f}"
        click.echo(f"{level.sigma:>13g}{decibels}{laws}")
    click.echo("")
    for finding in found:
        click.echo(f"{finding.judgement:<5} {finding.about}: {finding.text}")
    click.echo(f"\n{overall(found)}")


def as_levels(text: str | None) -> list[float] | None:
    """Noise levels of ``"0.02,0.1"``.

    Raises:
        UsageError: No list of positive numbers.
    """
    if text is None:
        return None
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0 < level < math.inf for level in levels):
        raise UsageError(f"The levels {text!r} are no list of numbers.", "write --levels 0.02,0.1.")
    return levels


def as_scale(text: str) -> Any:
    """A positive number, or ``auto`` or ``none`` as they are.

    Raises:
        UsageError: None of these.
    """
    if text in ("auto", "none"):
        return text
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < math.inf:
        raise UsageError(
            f"The scale {text!r} is no positive number.", "use auto, none or a number."
        )
    return scale
