"""What a plugin may add to tiltkit: eight hooks, and the records that they return.

Hooks take no arguments and return records, so a plugin written today keeps working when hooks are
added. A record names its code as ``"module:attribute"``; that code is imported on first use only,
so a hook module must import nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pluggy

__all__ = ["KINDS", "Entry", "PriorEntry", "ReaderEntry", "WriterEntry", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("tiltkit")
hookimpl = pluggy.HookimplMarker("tiltkit")

KINDS = ("task", "operator", "prior", "sampler", "reader", "writer", "metric", "command")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that a plugin adds.

    Attributes:
        name: ``prefix.thing`` (``mri.cartesian``); tasks and commands are one short word. All in
            lower case.
        target: Where the code is, ``"module:attribute"``; imported on first use.
        summary: One line for ``tiltkit list``.
        requires: Names of importable packages that the target needs beyond its plugin's own
            requirements, for a good message when one is missing.
        cite: Papers to cite when this was used, as one-line references.
    """

    name: str
    target: str
    summary: str
    requires: tuple[str, ...] = ()
    cite: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorEntry(Entry):
    """A prior over images.

    Attributes:
        channels: Image channels; 2 for complex images (re, im), 0 for any number. The prior that
            the target makes must have as many, or 0.
        weights: Weights file as ``"package:path/inside.safetensors"``, empty for closed forms.
        sha256: Digest of the weights file, checked before use.
        licence: SPDX name of the licence of the weights.
        url: Where weights that are too large to ship can be downloaded, by ``tiltkit prior fetch``
            only; ``sha256`` must be given and ``weights`` be empty.
    """

    channels: int = 0
    weights: str = ""
    sha256: str = ""
    licence: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderEntry(Entry):
    """A reader of one file layout.

    Attributes:
        gives: What the reader returns, as a name that tasks ask for (``"mri.kspace"``).
        patterns: File name patterns that the layout usually has (``"*.h5"``).
    """

    gives: str = ""
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterEntry(Entry):
    """A writer of results.

    Attributes:
        suffix: The file name suffix it writes (``".h5"``).
        beside: Suffixes of further files that it writes, so that none is replaced unasked.
    """

    suffix: str = ""
    beside: tuple[str, ...] = ()


@hookspec
def tiltkit_tasks() -> Iterable[Entry]:
    """Tasks: what ``tiltkit run`` can do. Target: a `tiltkit.problem.Task` class."""
    return ()


@hookspec
def tiltkit_operators() -> Iterable[Entry]:
    """Forward operators. Target: a `tiltkit.protocols.Operator` class."""
    return ()


@hookspec
def tiltkit_priors() -> Iterable[PriorEntry]:
    """Priors. Target: a factory ``(options, entry) -> Prior`` with an ``Options`` model."""
    return ()


@hookspec
def tiltkit_samplers() -> Iterable[Entry]:
    """Posterior samplers. Target: a `tiltkit.sampling.state.Sampler` class."""
    return ()


@hookspec
def tiltkit_readers() -> Iterable[ReaderEntry]:
    """File readers. Target: a `tiltkit.protocols.Reader` class."""
    return ()


@hookspec
def tiltkit_writers() -> Iterable[WriterEntry]:
    """Result writers. Target: a function ``(result_path, output_path) -> None``."""
    return ()


@hookspec
def tiltkit_metrics() -> Iterable[Entry]:
    """Quality metrics. Target: a `tiltkit.protocols.Metric` function."""
    return ()


@hookspec
def tiltkit_commands() -> Iterable[Entry]:
    """Further commands of the command line. Target: a ``click.Command``."""
    return ()
