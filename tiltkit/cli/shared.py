"""Functions of several commands: plugins of a call, threads, printing."""

from __future__ import annotations

import json
import math
import os
import time
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tiltkit.plugins import load_plugins

if TYPE_CHECKING:
    from tiltkit.plugins import Plugins

__all__ = [
    "Command", "call_plugins", "json_option", "log", "print_json", "print_tree", "printable",
    "set_threads", "threads_option",
]  # fmt: skip

Command = TypeVar("Command", bound=Callable[..., Any])


def call_plugins(ctx: click.Context | None = None) -> Plugins:
    """Return the plugins of this call, without those of ``--no-plugins``; loaded once."""
    root = (ctx or click.get_current_context()).find_root()
    if "plugins" not in root.meta:
        found = root.meta["plugins"] = load_plugins(root.params.get("no_plugins"))
        for name in found.unknown_blocked:
            log(f"Note: --no-plugins names {name!r}, which is not a plugin.")
    plugins: Plugins = root.meta["plugins"]
    return plugins


def json_option(command: Command) -> Command:
    """Add the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print lines of JSON.")(command)


threads_option = click.option(
    "--threads",
    type=int,
    metavar="N",
    help="Threads of the CPU; all processors that this process may use when not given.",
)


def set_threads(given: int | None) -> None:
    """Set the number of CPU threads of torch.

    Args:
        given: That number. With None, ``OMP_NUM_THREADS`` is left to torch where it is set; else it
            is ``SLURM_CPUS_PER_TASK``, or the number of processors that this process may use.
    """
    import torch

    if given is None and os.environ.get("OMP_NUM_THREADS"):
        return
    torch.set_num_threads(given or _processors())


def _processors() -> int:
    """Number of processors of this batch job, or of those that this process may use."""
    job = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if job.isdecimal() and int(job) > 0:
        return int(job)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def log(text: str) -> None:
    """Print to standard error, behind the time of day; a failure to write is ignored."""
    with suppress(OSError):
        click.echo(f"{time.strftime('%H:%M:%S')} {printable(text)}", err=True)


def printable(text: str) -> str:
    """Replace control characters and invalid Unicode, for example of file names, in a text."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"
        else c
        for c in text
    )


def print_json(values: Mapping[str, Any]) -> None:
    """Print one line of JSON; NaN and infinity become null."""
    click.echo(json.dumps(_plain(values), default=str))


def print_tree(values: Mapping[str, Any], indent: str = "") -> None:
    """Print nested mappings as an aligned, indented list."""
    leaves = [str(key) for key, value in values.items() if not _is_branch(value)]
    width = max((len(key) for key in leaves), default=0)
    for key, value in values.items():
        if _is_branch(value):
            click.echo(f"{indent}{key}")
            print_tree(value, indent + "  ")
        else:
            click.echo(f"{indent}{key:<{width}}  {_short(value)}".rstrip())


def _is_branch(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value)) or "none"
    text = "not set" if value is None else str(value)
    return text if len(text) <= 400 else f"{text[:400]} ... ({len(text)} characters)"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
