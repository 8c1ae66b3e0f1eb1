"""The inverse problem of one slice, and the scans and tasks that state it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel
    from torch import Tensor

    from tiltkit.likelihoods import Likelihood
    from tiltkit.protocols import Layout, Prior

__all__ = [
    "AnnotatedScan", "Constraint", "Note", "Problem", "Scan", "Task", "Tile", "TiledScan",
    "plain_image",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Constraint:
    """What is known of every image besides the prior; for real images.

    Samplers apply it to their particles after every step. Negative values are reflected: seen on
    the line folded at 0 a step is an ordinary one, so that reflection by itself leaves densities
    on the positive side as they are wherever the step treats pixels one by one. Where it does not
    (data that mix pixels), and for weights, which do not know of the fold, this is an
    approximation of the size of a step; so are all noised priors cut at 0. Outside of the support
    pixels are set to 0: samples are those of the prior given zeros there.

    Attributes:
        nonnegative: Values are zero or more.
        support: (channel, *space), true where values may differ from 0; None for everywhere.
    """

    nonnegative: bool = False
    support: Tensor | None = None

    def apply(self, x: Tensor) -> Tensor:
        """Images (n, channel, *space) that meet the constraint."""
        return self.carry(x, x)

    def carry(self, change: Tensor, x: Tensor) -> Tensor:
        """What becomes of a change that is part of ``x`` when the constraint is applied to it."""
        if self.nonnegative:
            change = change.where(x >= 0, -change)
        return change if self.support is None else change.where(self.support, 0.0)


def plain_image(x: Tensor) -> Tensor:
    """Images as they are shown where a problem has no ``to_image``.

    Args:
        x: Images (n, channel, *space).

    Returns:
        Values of one channel (n, *space), magnitudes of two (re, im) likewise; images of more
        channels as they are.
    """
    if x.shape[1] > 2:
        return x
    return x[:, 0] if x.shape[1] == 1 else x[:, 0].hypot(x[:, 1])


def _plain_phase(x: Tensor) -> Tensor:
    """Phase (*space) in radians of an image (2, *space)."""
    return x[1].atan2(x[0])


@dataclass(frozen=True, slots=True)
class Note:
    """What was chosen, estimated or left out when a scan was read; no reason for a warning.

    Attributes:
        code: Short name for programs: ``"angles_assumed"``.
        text: A sentence for people: ``"There are no angles: 0 to 180 degrees are assumed."``
        assumed: It stands in for something that the file lacks, and may be wrong: the last line
            of a run repeats it.
    """

    code: str
    text: str
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A prior, a measurement, and the way back to the user's images.

    Attributes:
        prior: Distribution over images in the prior's own value range.
        likelihood: The measurement, its operator and its noise, in the prior's value range.
        shape: Shape of one image as the prior sees it, ``(channel, *space)``.
        to_image: From particles ``(n, channel, *space)`` to real images ``(n, *image)`` in the
            user's units: undoes the scaling, crops, takes the magnitude. By default `plain_image`.
        baseline: Plain reconstruction without a prior, ``(*image)`` in the user's units
            (zero-filled MRI, filtered back-projection), for comparison. By default the multiple
            of ``A^H y`` that fits ``y`` best.
        phase: From the posterior mean of the particles ``(channel, *space)`` to its phase
            ``(*image)`` in radians; None for real images. Where ``to_image`` is left out, images
            of two channels have the phase of ``re + i im``.
        facts: What was estimated on the way, for the diagnostics: noise level, scale.
        constraint: What else is known of the images; None for nothing.
        notes: What was chosen or assumed for this slice; those of the whole scan are in
            `AnnotatedScan`.
    """

    prior: Prior
    likelihood: Likelihood
    shape: tuple[int, ...]
    to_image: Callable[[Tensor], Tensor] = plain_image
    baseline: Tensor | None = None
    phase: Callable[[Tensor], Tensor] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    constraint: Constraint | None = None
    notes: Sequence[Note] = ()

    def __post_init__(self) -> None:
        if self.to_image is plain_image and self.phase is None and self.shape[0] == 2:
            object.__setattr__(self, "phase", _plain_phase)


class Scan(Protocol):
    """One input file, opened for one task; slices are read one at a time."""

    layout: Layout

    def problem(self, index: int, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of slice ``index``; reads just this slice."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What was found, for ``tiltkit check``: labels to short values, in reading order."""
        ...


@runtime_checkable
class AnnotatedScan(Protocol):
    """A `Scan` that records what was assumed or left out on reading.

    The notes are stored with every slice of a result and shown by ``tiltkit check``, on the page,
    and, where they are assumptions, in the last line of a run.
    """

    @property
    def notes(self) -> Sequence[Note]:
        """Notes on the whole scan, in reading order."""
        ...


class Task(Protocol):
    """What ``tiltkit run NAME`` does with a file."""

    Options: ClassVar[type[BaseModel]]
    default_prior: ClassVar[str]

    def __init__(self, options: Any) -> None: ...

    def open(self, path: Path) -> AbstractContextManager[Scan]:
        """Open a file read-only and check it; raises `tiltkit.errors.InputError`."""
        ...


class Tile(Protocol):
    """A part of an image.

    Attributes:
        window: Where its result belongs; the windows of all tiles partition the image.
    """

    @property
    def window(self) -> tuple[slice, ...]:
        """See above."""
        ...


@runtime_checkable
class TiledScan(Protocol):
    """A `Scan` whose images can be done in parts.

    Tiles see more than their window, as much as the operator and the prior reach, and crop it in
    ``to_image``. All tiles of an image are sampled with the same random numbers, so that a task
    can let neighbours meet the same ones at the same place.
    """

    def tiles(self, index: int, most: int) -> Sequence[Tile]:
        """Tiles of image ``index`` whose problems have at most so many values each.

        One tile where the whole image has no more.
        """
        ...

    def tile_problem(self, index: int, tile: Any, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of a tile; reads just what it sees."""
        ...
