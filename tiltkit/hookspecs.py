"""The plugin interface: eight hooks, and the records that they return.

Hooks take no arguments and return records, so that plugins keep working when hooks or fields are
added. A record names its code as ``"module:attribute"``. That code is imported on first use; the
hook module itself must not import torch, numpy or h5py.
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
        name: Name in lower case: ``prefix.thing`` (``mri.cartesian``), or one short word for tasks
            and commands.
        target: Location of the code, ``"module:attribute"``.
        summary: One line for ``tiltkit list``.
        requires: Importable packages that the target needs beyond its plugin's requirements; a
            missing one is named in the error.
        extra: Extra of the plugin's distribution that installs them (``"nifti"``); may be empty.
        cite: Papers to cite when the entry was used, as one-line references.
    """

    name: str
    target: str
    summary: str
    requires: tuple[str, ...] = ()
    extra: str = ""
    cite: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorEntry(Entry):
    """A prior over images.

    Attributes:
        channels: Number of image channels; 2 for complex images (re, im), 0 for any number. The
            prior of the target has the same number, or 0.
        weights: Weights file ``"package:path/inside.safetensors"``; empty for closed forms.
        sha256: SHA-256 of the weights file in hexadecimal; checked before use.
        licence: SPDX identifier of the licence of the weights.
        fallback: Name of a prior for images that this one does not describe; warnings propose it.
        url: Address of weights that are not in the package, which ``tiltkit prior fetch``
            downloads; needs ``sha256`` and an empty ``weights``.
    """

    channels: int = 0
    weights: str = ""
    sha256: str = ""
    licence: str = ""
    fallback: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderEntry(Entry):
    """A reader of one file layout.

    Attributes:
        gives: Name of the type of object that the reader returns, which tasks require
            (``"mri.kspace"``).
        patterns: Usual file name patterns of the layout (``"*.h5"``).
    """

    gives: str = ""
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterEntry(Entry):
    """A writer of results.

    Attributes:
        suffix: Suffix of the output file or folder (``".h5"``).
        beside: Suffixes of further output files, which are not overwritten either.
        optional: Suffixes of further output files that depend on the result or on options; ``*``
            stands for any name (``".map-*.nii.gz"``).
        folder: Where the output is a folder, patterns of all paths in it (``"posterior-*.dcm"``;
            ``*`` stands for slashes, too). A folder that holds other files is never replaced.
        merge: Files are added to a folder that exists, as to a dataset of several subjects; without
            it the whole folder is replaced.
    """

    suffix: str = ""
    beside: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    folder: tuple[str, ...] = ()
    merge: bool = False


@hookspec
def tiltkit_tasks() -> Iterable[Entry]:
    """Tasks of ``tiltkit run``. Target: a `tiltkit.problem.Task` class."""
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
    """Result writers.

    Target: a function ``(result_path, output_path) -> None``, or with ``Options``, a pydantic
    model, ``(result_path, output_path, options) -> None``. It may return sentences for the user.
    Its attribute ``check`` may be a function of the same arguments. It is called before sampling,
    with a result without finished slices, and raises the errors of results that cannot be written.
    """
    return ()


@hookspec
def tiltkit_metrics() -> Iterable[Entry]:
    """Quality metrics. Target: a `tiltkit.protocols.Metric` function."""
    return ()


@hookspec
def tiltkit_commands() -> Iterable[Entry]:
    """Further commands of the command line. Target: a ``click.Command``."""
    return ()
