"""Protocols of priors, operators, readers and metrics, and the records that they exchange.

Conventions. Images are real tensors ``(batch, channel, *space)``; complex images carry two
channels (re, im). Measurements are real or complex tensors ``(batch, *data)``. The batch of
particles is always the first axis. Noise variances are per real component.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
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
    """A distribution of images, given by the scores of its noised versions ``p_sigma``.

    ``p_sigma`` is the density of ``x0 + sigma xi`` with white noise ``xi`` (variance-exploding
    convention). A denoiser ``D`` gives the score ``(D(x, sigma) - x) / sigma^2``. The properties
    may be plain attributes; tiltkit never sets them.
    """

    @property
    def channels(self) -> int:
        """Number of image channels; 0 for any number."""
        ...

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Smallest and largest noise level at which the score is valid, in image units."""
        ...

    @property
    def value_range(self) -> str:
        """Range of image values as text: ``"magnitude 0 to about 1"``."""
        ...

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Gradient of ``log p_sigma`` at ``x`` (batch, channel, *space), same shape and dtype."""
        ...

    def to(self, device: torch.device) -> Prior:
        """The same prior on another device."""
        ...


@runtime_checkable
class TrainingDistance(Prior, Protocol):
    """A prior that measures the distance of images from its training images."""

    def training_distance(self, images: Tensor) -> Tensor | None:
        """Distance of ``images`` (batch, channel, *space) from the training images, (batch,).

        In units of the distance that nearly all unseen images of the same kind stay below. None
        where the prior has no reference to compare with.
        """
        ...


@runtime_checkable
class Operator(Protocol):
    """A forward model; immutable."""

    def forward(self, x: Tensor) -> Tensor:
        """Noise-free measurement of images ``x`` (batch, channel, *space)."""
        ...


@runtime_checkable
class LinearOperator(Operator, Protocol):
    """A linear forward model ``A`` with its adjoint."""

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H y``: from measurements (batch, *data) to images (batch, channel, *space)."""
        ...

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``, shaped as ``x``."""
        ...

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b`` for ``alpha > 0, beta >= 0``, shaped as ``b``."""
        ...


@runtime_checkable
class SpectralOperator(LinearOperator, Protocol):
    """A linear operator with ``A^H A = U diag(eigenvalues) U^H``, ``U`` unitary and known.

    Attributes:
        eigenvalues: Real and nonnegative; broadcasts against spectral coordinates.
    """

    eigenvalues: Tensor

    def to_spectral(self, x: Tensor) -> Tensor:
        """``U^H x``: coordinates (batch, *spectral), real or complex."""
        ...

    def from_spectral(self, coordinates: Tensor) -> Tensor:
        """``U c``: images (batch, channel, *space) of spectral coordinates."""
        ...

    def spectral_white(self, xi: Tensor) -> Tensor:
        """White noise in spectral coordinates, from white noise images ``xi``.

        ``to_spectral(xi)`` is always correct. Where coordinates are white noise of the same shape,
        a view of ``xi`` has the same distribution and saves a transform.
        """
        ...


@runtime_checkable
class FourierOperator(SpectralOperator, Protocol):
    """A spectral operator whose coordinates are spatial frequencies.

    Attributes:
        frequency: Absolute frequency of each coordinate in cycles per pixel (*space); broadcasts
            against spectral coordinates.
    """

    frequency: Tensor


@runtime_checkable
class PreconditionedOperator(LinearOperator, Protocol):
    """A linear operator with a preconditioner for solves in data space."""

    def data_preconditioner(
        self, variance: Tensor, c: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """Approximate inverse of ``diag(variance) + A C A^H`` on measurements (batch, *data).

        Self-adjoint and positive. It affects only the number of iterations of a solve. None where
        nothing better than the identity is available.

        Args:
            variance: Positive; broadcasts against measurements.
            c: Diagonal of ``C``, positive: one number, or one per Hartley coefficient (*space) of
                an image (`tiltkit.operators.hartley`), equal for opposite frequencies.
        """
        ...


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the result.

    Attributes:
        name: Short name: ``"x"``.
        coordinates: Coordinate of each pixel centre.
        units: Unit of the coordinates; empty for pixel numbers.
        long_name: Name for axis labels; empty for `name`.
    """

    name: str
    coordinates: Sequence[float]
    units: str = ""
    long_name: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape, axes and labels of the result of a whole scan, known before sampling.

    Attributes:
        axes: Slice axis first, then the axes of one image: ``z, y, x``.
        units: Unit of the image values; empty for arbitrary units.
        long_name: Name of the values for axis labels: ``"magnitude"``.
        title: Title of the result.
        metadata: Metadata copied from the input to the result: nested mappings of scalars, strings
            and arrays (``{"ismrmrd_header": "<xml...>"}``). Arrays (row, column) or (plane, row,
            column) in the mapping ``pictures`` are shown by ``tiltkit check --picture`` and on the
            page: a point spread function.
        unusable: Slices that must be left out, by index, with the reason (``"all pixels are 7"``).

    Raises:
        InputError: An axis is empty.
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
    """Reads one file layout. The entry's ``gives`` names the type of object that `open` returns."""

    @staticmethod
    def matches(path: Path) -> bool:
        """True where the file has this layout; reads structure and attributes, no arrays."""
        ...

    @staticmethod
    def open(path: Path) -> AbstractContextManager[Any]:
        """Open the file read-only."""
        ...


class PriorFactory(Protocol):
    """Makes a prior from its options and its entry, which names the weights file."""

    Options: ClassVar[type[BaseModel]]

    def __call__(self, options: Any, entry: PriorEntry) -> Prior:
        """The prior, on the CPU."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """One slice of a result, for metrics. Images are (ny, nx) or (nz, ny, nx), in the user's units.

    Attributes:
        mean: Posterior mean.
        std: Posterior standard deviation.
        quantiles: Quantile images by level in (0, 1).
        samples: Posterior samples (n, *image).
        baseline: Reconstruction without a prior.
        diagnostics: The certificate.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    quantiles: Mapping[float, NDArray[np.float32]]
    samples: NDArray[np.float32]
    baseline: NDArray[np.float32]
    diagnostics: Mapping[str, Any]


class Metric(Protocol):
    """A quality figure of one slice against its truth, shaped as its mean."""

    def __call__(self, estimate: Estimate, truth: NDArray[np.float32]) -> float:
        """The figure; both images are in the same units and must not be rescaled."""
        ...


# Protocols that moved to `tiltkit.problem`, by their names in release 0.1.
_MOVED = ("Scan", "Task")


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    text = f"tiltkit.protocols.{name} is now tiltkit.problem.{name}."
    warnings.warn(text, FutureWarning, stacklevel=2)
    return getattr(import_module("tiltkit.problem"), name)
