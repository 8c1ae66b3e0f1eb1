"""The shapes of the parts: what a prior, an operator, a task, a reader and a metric must offer.

Conventions. Images are real tensors ``(batch, channel, *space)``; complex images carry two
channels (re, im). Measurements are real or complex tensors ``(batch, *data)``. The batch of
particles is always the first axis. Noise variances are per real component.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from tiltkit.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from pydantic import BaseModel
    from torch import Tensor

    from tiltkit.hookspecs import PriorEntry

__all__ = [
    "Axis", "Estimate", "TrainingDistance", "FourierOperator", "Layout", "LinearOperator", "Metric",
    "Operator", "PreconditionedOperator", "Prior", "PriorFactory", "Reader", "SpectralOperator",
]  # fmt: skip


@runtime_checkable
class Prior(Protocol):
    """A distribution over images, known through the scores of its noised versions.

    Its attributes may be plain ones; they are never set from outside.
    """

    @property
    def channels(self) -> int:
        """Channels of its images; 0 when any number is fine."""
        ...

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Smallest and largest noise level at which the score can be trusted."""
        ...

    @property
    def value_range(self) -> str:
        """Range of image values, as text for people: ``"magnitude 0 to about 1"``."""
        ...

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Gradient of ``log p_sigma`` at ``x`` (batch, channel, *space), same shape and dtype."""
        ...

    def to(self, device: torch.device) -> Prior:
        """The same prior on another device."""
        ...


@runtime_checkable
class TrainingDistance(Prior, Protocol):
    """A prior that can tell images unlike those that it was made from."""

    def training_distance(self, images: Tensor) -> Tensor | None:
        """Distance from the images it was made from, of ``images`` (batch, channel, *space).

        One number each (batch,); 1 is the most that is usual for unseen images of the same kind.
        None where the prior has no means to tell.
        """
        ...


@runtime_checkable
class Operator(Protocol):
    """A forward model, an immutable value."""

    def forward(self, x: Tensor) -> Tensor:
        """Noise-free measurement of images ``x`` (batch, channel, *space)."""
        ...


@runtime_checkable
class LinearOperator(Operator, Protocol):
    """A linear forward model ``A`` with its adjoint."""

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H y``: images (batch, channel, *space) of measurements (batch, *data)."""
        ...

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        ...

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b`` for ``alpha > 0, beta >= 0``."""
        ...


@runtime_checkable
class SpectralOperator(LinearOperator, Protocol):
    """A linear operator with ``A^H A = U diag(eigenvalues) U^H``, ``U`` unitary and known.

    Attributes:
        eigenvalues: Real, nonnegative, of a shape that broadcasts against spectral coordinates.
    """

    eigenvalues: Tensor

    def to_spectral(self, x: Tensor) -> Tensor:
        """``U^H x``: coordinates (batch, *spectral), real or complex."""
        ...

    def from_spectral(self, coordinates: Tensor) -> Tensor:
        """``U c``: back to images (batch, channel, *space)."""
        ...

    def spectral_white(self, xi: Tensor) -> Tensor:
        """Spectral coordinates of white noise, made from white noise images ``xi``.

        ``to_spectral(xi)`` is always right; where ``U`` maps circular white noise to circular
        white noise of the same shape, a view of ``xi`` is enough and saves a transform.
        """
        ...


@runtime_checkable
class FourierOperator(SpectralOperator, Protocol):
    """A spectral operator whose coordinates are spatial frequencies.

    Attributes:
        frequency: Of each coordinate, in cycles per pixel (*space); broadcasts against them.
    """

    frequency: Tensor


@runtime_checkable
class PreconditionedOperator(LinearOperator, Protocol):
    """A linear operator that knows roughly what ``A A^H`` does to measurements."""

    def data_preconditioner(
        self, variance: Tensor, c: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """Approximate inverse of ``diag(variance) + A C A^H`` on measurements (batch, *data).

        Self-adjoint and positive; it only decides how many iterations a solve takes. None where
        nothing better than the identity is known.

        Args:
            variance: Positive, of a shape that broadcasts against measurements.
            c: Positive; the number that ``C`` multiplies images with, or one for each of their
                Hartley coefficients (*space), see `tiltkit.operators.hartley`, the same for
                opposite frequencies.
        """
        ...


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the output images: its name, the coordinate of each pixel centre, its unit."""

    name: str
    coordinates: Sequence[float]
    units: str = ""
    long_name: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the result of a whole scan looks like, known before any sampling.

    Attributes:
        axes: Slice axis first, then the axes of one image: ``z, y, x``.
        units: Unit of the image values, empty for arbitrary units.
        long_name: What the values are, for axis labels: ``"magnitude"``.
        title: Title of the result.
        metadata: What is copied from the input into the result: nested mappings of scalars,
            strings and arrays (``{"ismrmrd_header": "<xml...>"}``).
        unusable: Slices that must be left out, and why (``"all pixels are 7"``), where that is
            known without preparing them.

    Raises:
        InputError: An axis is empty: there is nothing to sample.
    """

    axes: tuple[Axis, ...]
    units: str = ""
    long_name: str = "posterior mean"
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unusable: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.axes or 0 in self.shape:
            sizes = ", ".join(f"{axis.name} {len(axis.coordinates)}" for axis in self.axes)
            raise InputError(
                f"The scan holds no images: its axes are {sizes or 'none'}.",
                "see what the file holds with 'tiltkit show'.",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(slices, *image): the shape of the whole result."""
        return tuple(len(axis.coordinates) for axis in self.axes)


class Reader(Protocol):
    """Reads one file layout. What `open` gives is agreed by the entry's ``gives``."""

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether the file has this layout; looks at structure, never reads whole arrays."""
        ...

    @staticmethod
    def open(path: Path) -> AbstractContextManager[Any]:
        """Open the file read-only."""
        ...


class PriorFactory(Protocol):
    """Makes a prior from its options and its entry (which knows the weights file)."""

    Options: ClassVar[type[BaseModel]]

    def __call__(self, options: Any, entry: PriorEntry) -> Prior:
        """The prior, on the CPU."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """One slice of a result as metrics see it: images (ny, nx) or (nz, ny, nx), several samples."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    quantiles: Mapping[float, NDArray[np.float32]]
    samples: NDArray[np.float32]
    baseline: NDArray[np.float32]
    diagnostics: Mapping[str, Any]


class Metric(Protocol):
    """A quality figure of one slice against its truth, shaped as its mean."""

    def __call__(self, estimate: Estimate, truth: NDArray[np.float32]) -> float:
        """One number; both images in the same units, never rescaled to fit."""
        ...
