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
    "AnnotatedScan", "CoarseScan", "Constraint", "ImageMap", "Note", "Problem", "Scan", "Task",
    "Tile", "TiledScan", "plain_image",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Constraint:
    """Hard constraint on real images: nonnegativity, support, or both.

    Nonnegativity is a property of images, not of particles with noise. Samplers do not apply it:
    their samples are projected onto nonnegative images, which keeps what the data measure
    (`tiltkit.sampling.gaussian.projection`). Where samples are positive anyway it changes nothing.

    The support is applied to particles after every step. Values outside of it are set to 0: samples
    are those of the prior conditioned on zeros there.

    Attributes:
        nonnegative: True where all values are zero or more.
        support: Mask (channel, *space) of values that may differ from 0; None for all.
    """

    nonnegative: bool = False
    support: Tensor | None = None

    def apply(self, x: Tensor) -> Tensor:
        """Images (n, channel, *space), or a part of them, with zeros outside of the support."""
        return x if self.support is None else x.where(self.support, 0.0)


def plain_image(x: Tensor) -> Tensor:
    """Default of `Problem.to_image`: real values, or magnitudes of complex ones.

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
    """A choice, estimate or omission made when a scan was read; not a warning.

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
class ImageMap:
    """A further image of a result, computed from mean and standard deviation of the posterior.

    Attributes:
        compute: From posterior mean and standard deviation (*image), in the user's units, to the
            values of the map (*image).
        long_name: Name of the values for axis labels.
        units: Unit of the values; empty for numbers without one.
    """

    compute: Callable[[Tensor, Tensor], Tensor]
    long_name: str
    units: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A prior, a measurement, and the way back to the user's images.

    Attributes:
        prior: Distribution of images, in the prior's own value range.
        likelihood: Measurement, operator and noise, for images in the prior's value range.
        shape: Shape of one image of the prior, ``(channel, *space)``.
        to_image: From particles ``(n, channel, *space)`` to real images ``(n, *image)`` in the
            user's units: undoes the scaling, crops, takes the magnitude. By default `plain_image`.
        baseline: Plain reconstruction without a prior, ``(*image)`` in the user's units
            (zero-filled MRI, filtered back-projection), for comparison. By default the multiple
            of ``A^H y`` that fits ``y`` best.
        phase: From the posterior mean of the particles ``(channel, *space)`` to its phase
            ``(*image)`` in radians; None for real images. Where ``to_image`` is left out, images
            of two channels have the phase of ``re + i im``.
        facts: Estimates for the diagnostics, by name: noise level, image scale.
        constraint: Hard constraint on the images; None for none.
        notes: Choices and assumptions for this slice; those of the whole scan are in
            `AnnotatedScan`.
        complex_image: From particles ``(n, channel, *space)`` to complex images ``(n, *image)`` in
            the user's units. The result then has complex samples, their mean, and the standard
            deviation of the phase; None for a result without them.
        maps: Further images of the result, by name.
        field_of_view: Mask (*image), true for pixels that the data determine; the others are NaN in
            the result. None where the data determine all pixels.
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
    complex_image: Callable[[Tensor], Tensor] | None = None
    maps: Mapping[str, ImageMap] = field(default_factory=dict)
    field_of_view: Tensor | None = None

    def __post_init__(self) -> None:
        if self.to_image is plain_image and self.phase is None and self.shape[0] == 2:
            object.__setattr__(self, "phase", _plain_phase)


class Scan(Protocol):
    """One input file, opened for one task; slices are read one at a time."""

    layout: Layout

    def problem(self, index: int, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of slice ``index``; reads only this slice."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Properties of the scan for ``tiltkit check``: labels to short values, in order."""
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


@runtime_checkable
class CoarseScan(Protocol):
    """A `Scan` of large images whose time ``tiltkit check`` measures at a coarser resolution."""

    def coarse(self, index: int, prior: Prior, device: torch.device, factor: int) -> Problem | None:
        """The problem of slice ``index`` with pixels ``factor`` times as large along each axis.

        Measured values become fewer as pixels do. None where there is no such problem.
        """
        ...

    def coarser(self, factor: int) -> str:
        """Options of the command line for a run with pixels ``factor`` times as large."""
        ...


class Task(Protocol):
    """Opens files of one kind as `Scan`, for ``tiltkit run NAME``.

    Attributes:
        Options: Model of the task's settings; an instance is the only argument of the constructor.
        default_prior: Name of the prior where the user names none.
    """

    Options: ClassVar[type[BaseModel]]
    default_prior: ClassVar[str]

    def __init__(self, options: Any) -> None: ...

    def open(self, path: Path) -> AbstractContextManager[Scan]:
        """Open a file read-only and check it.

        Raises:
            InputError: The file is damaged, or not of this kind.
        """
        ...


class Tile(Protocol):
    """A part of an image that is sampled separately."""

    @property
    def window(self) -> tuple[slice, ...]:
        """Position of the tile's result in the image. Windows of all tiles partition the image."""
        ...


@runtime_checkable
class TiledScan(Protocol):
    """A `Scan` whose images can be sampled in tiles.

    The problem of a tile covers its window and a margin as wide as the operator and the prior
    need; ``to_image`` crops the margin. All tiles of an image are sampled with the same random
    numbers, so that a task can arrange equal noise in the margins of neighbours.
    """

    def tiles(self, index: int, most: int) -> Sequence[Tile]:
        """Tiles of image ``index`` whose problems have at most ``most`` values each.

        A single tile where the whole image has no more values than that.
        """
        ...

    def tile_problem(self, index: int, tile: Any, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of a tile; reads only its part of the file."""
        ...
