"""``tiltkit prior check``: parse its options, check the prior, print the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from tiltkit.cli.prior_facts import full_precision_options, prior_facts
from tiltkit.cli.shared import call_plugins, print_tree
from tiltkit.errors import UsageError
from tiltkit.io.images import read_images
from tiltkit.priors.check import Report, check_prior, from_images, from_prior, levels_of
from tiltkit.priors.check.findings import Finding, overall
from tiltkit.sampling.run import pick_devices

__all__ = ["check_by_name", "parse_levels", "parse_scale", "print_report"]


def check_by_name(
    name: str, settings: Sequence[str], *, quiet: bool, images: Sequence[Path], levels: str | None,
    count: int, scale: str, samples: int, size: int, seed: int, device: str,
) -> Report:  # fmt: skip
    """Create a prior by name, choose test images, and measure it."""
    wanted, divisor = parse_levels(levels), parse_scale(scale)
    plugins = call_plugins()
    options = full_precision_options(plugins, name, settings)
    prior = plugins.create("prior", name, options)
    generator = torch.Generator().manual_seed(seed)
    if images:
        material = from_images(
            read_images(images, prior.channels), ", ".join(path.name for path in images),
            prior.channels, count, divisor, generator,
        )  # fmt: skip
    else:
        material = from_prior(prior, size, count, generator)
    where = pick_devices(device)[0]
    return check_prior(
        name,
        prior.to(where),
        material,
        levels_of(prior, wanted),
        facts=prior_facts(plugins, name, prior, options),
        samples=samples,
        seed=seed,
        device=where,
        announce=lambda text: None if quiet else click.echo(f"{text} ...", err=True),
    )


def print_report(report: Report, found: list[Finding]) -> None:
    """Print facts, a table by noise level, and the findings in words."""
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


def parse_levels(text: str | None) -> list[float] | None:
    """Parse noise levels such as ``"0.02,0.1"``.

    Raises:
        UsageError: The text is not a list of positive numbers.
    """
    if text is None:
        return None
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0 < level < math.inf for level in levels):
        raise UsageError(
            f"The levels {text!r} are not positive numbers.", "write --levels 0.02,0.1."
        )
    return levels


def parse_scale(text: str) -> Any:
    """Parse a positive number; ``auto`` and ``none`` are returned unchanged.

    Raises:
        UsageError: Any other text.
    """
    if text in ("auto", "none"):
        return text
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < math.inf:
        raise UsageError(
            f"The scale {text!r} is not a positive number.", "use auto, none or a number."
        )
    return scale
