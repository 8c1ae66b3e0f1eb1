"""Regions of an image, over whose pixels ranks and coverage are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["ALL", "Regions", "labelled_regions", "segment"]

ALL = "all pixels"
"""Name of the region of all pixels, which comes first."""

# Names of the regions that `segment` finds.
_FOUND = ("air", "object", "edges")
# Standard deviation in pixels of the smoothing before gradients are taken.
_SMOOTHING = 1.0


@dataclass(frozen=True, slots=True)
class Regions:
    """A partition of the pixels of an image.

    Attributes:
        names: Names of the regions; `ALL` comes before them in every table.
        labels: Region of each pixel (*image), integers from 0 to ``len(names) - 1``.
    """

    names: tuple[str, ...]
    labels: NDArray[np.integer[Any]]

    @property
    def rows(self) -> tuple[str, ...]:
        """`ALL` and the names: the rows of every table."""
        return (ALL, *self.names)

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sums (row, ...) of values (*image, ...) over the pixels of each region."""
        flat = values.reshape(self.labels.size, -1).astype(np.float64)
        labels = self.labels.ravel()
        parts = [flat[labels == k].sum(0) for k in range(len(self.names))]
        shape = values.shape[self.labels.ndim :]
        return np.stack([flat.sum(0), *parts]).reshape(len(self.rows), *shape)

    def sizes(self) -> NDArray[np.float64]:
        """Number of pixels (row,) of each region."""
        return self.sums(np.ones(self.labels.shape))


def segment(mean: NDArray[np.floating[Any]]) -> Regions:
    """Divide an image into air, object and edges, by its posterior mean.

    Air is darker than Otsu's threshold of the magnitudes. Edges are pixels where the gradient of
    the smoothed image exceeds Otsu's threshold of all gradients. The rule uses nothing but the
    mean, so that images of the same kind are divided alike.

    Args:
        mean: Posterior mean (*image).
    """
    from scipy.ndimage import gaussian_gradient_magnitude

    size = np.abs(np.nan_to_num(np.asarray(mean, np.float64)))
    labels = (size > _threshold(size)).astype(np.uint8)
    steep = gaussian_gradient_magnitude(size, _SMOOTHING) if size.ndim else size
    labels[steep > _threshold(steep)] = 2
    return Regions(_FOUND, labels)


def labelled_regions(labels: NDArray[Any], shape: Sequence[int]) -> Regions:
    """Regions of labels that a user gives, named by their numbers.

    Args:
        labels: Whole numbers, shaped as an image.
        shape: Shape of an image.

    Raises:
        InputError: Another shape, or values that are no whole numbers.
    """
    if labels.shape != tuple(shape):
        raise InputError(
            f"The labels of the regions have shape {labels.shape}, but images {tuple(shape)}.",
            "give one whole number for each pixel of the image.",
        )
    if labels.dtype.kind not in "iub":
        raise InputError(
            f"The labels of the regions are {labels.dtype}, not whole numbers.",
            "save them as integers.",
        )
    found, inverse = np.unique(labels, return_inverse=True)
    names = tuple(f"region {value}" for value in found.tolist())
    return Regions(names, inverse.reshape(labels.shape).astype(np.int64))


def _threshold(values: NDArray[np.float64]) -> float:
    """Otsu's threshold; infinite where all values are equal."""
    from skimage.filters import threshold_otsu

    if values.size == 0 or np.ptp(values) == 0:
        return float("inf")
    otsu: Callable[[NDArray[np.float64]], float] = threshold_otsu
    return float(otsu(values))
