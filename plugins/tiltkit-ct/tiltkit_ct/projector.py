"""Projectors: line integrals of images along the rays of a scan, and their exact adjoint."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.errors import UsageError
from tiltkit.operators.cg import conjugate_gradient
from tiltkit_ct.footprint import Shadow, overlaps

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MATRIX_BYTES", "Projector"]

# A matrix holds 4 bytes of index and one value for each pair of image and detector pixel that
# meet; it is kept twice, sorted for each direction.
MATRIX_BYTES = 4 * 2**30


class Projector(ABC):
    """Base of scans in one plane with a straight detector.

    The projection of a pixel is spread over detector pixels by the area that they share, and the
    adjoint is the transpose of the very same numbers. They are kept as sparse matrices where
    these fit into ``matrix_bytes``, and computed again for every projection where not.

    Args:
        angles: Angles of the projections (n_angles,) in radians, any spacing and range; device
            and number type of the operator are theirs.
        shape: Shape of the image (ny, nx).
        n_columns: Pixels of the detector.
        axis: Detector column onto which the rotation axis projects, pixel centres at 0, 1, ...;
            anywhere, also outside of the detector; None for the middle.
        pixel: Side of an image pixel, in the unit of length that images are densities in.
        pitch: Side of a detector pixel, the same unit; None for that of an image pixel.
        matrix_bytes: Largest size of the matrices.

    Images are (n, 1, ny, nx), projections (n, angle, column). Image pixel (i, j) lies at
    ``x = (j - (nx - 1) / 2) pixel``, ``y = (i - (ny - 1) / 2) pixel`` around the rotation axis.
    """

    def __init__(
        self,
        angles: Tensor,
        shape: tuple[int, int],
        n_columns: int,
        *,
        axis: float | None = None,
        pixel: float = 1.0,
        pitch: float | None = None,
        matrix_bytes: int = MATRIX_BYTES,
    ) -> None:
        self.angles = angles
        self.shape = shape
        self.n_columns = n_columns
        self.axis = (n_columns - 1) / 2 if axis is None else float(axis)
        self.pixel = float(pixel)
        self.pitch = self.pixel if pitch is None else float(pitch)
        self.matrix_bytes = matrix_bytes
        self._check()

    @abstractmethod
    def _shadow(self, angle: Tensor, x: Tensor, y: Tensor) -> Shadow:
        """Shadows of pixels at ``x, y`` (pixel,), float64, in a projection."""

    @property
    @abstractmethod
    def _n_overlaps(self) -> float:
        """Approximate number of pairs of image and detector pixels that overlap."""

    def forward(self, x: Tensor) -> Tensor:
        """Line integrals (n, angle, column), each the mean over a detector pixel."""
        flat = x.flatten(1)
        if self._matrices is not None:
            return _product(self._matrices[0], flat).reshape(len(x), *self._data_shape)
        return torch.stack([self.project(flat, *spread) for spread in self.spreads()], dim=1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-projections (n, 1, ny, nx)."""
        if self._matrices is not None:
            flat = _product(self._matrices[1], y.flatten(1))
        else:
            flat = y.new_zeros(self.shape[0] * self.shape[1], len(y))
            for row, (columns, means) in zip(y.unbind(1), self.spreads(), strict=True):
                padded = torch.nn.functional.pad(row, (0, 1)).T.contiguous()
                for column, mean in zip(columns, means, strict=True):
                    flat.addcmul_(mean[:, None], padded[column])
            flat = flat.T
        return flat.reshape(-1, 1, *self.shape)

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        return self.adjoint(self.forward(x))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b`` by conjugate gradients."""
        return conjugate_gradient(self.normal, b, alpha, beta, max_iter=1000)[0]

    @property
    def _data_shape(self) -> tuple[int, int]:
        return len(self.angles), self.n_columns

    @cached_property
    def _matrices(self) -> tuple[Tensor, Tensor] | None:
        """The projector and its transpose, sparse, where they are not too large."""
        size = 2 * self._n_overlaps * (4 + self.angles.element_size())
        return self._assemble() if size <= self._largest_matrices else None

    @property
    def _largest_matrices(self) -> int:
        """Largest size of the matrices in bytes."""
        return self.matrix_bytes

    def _assemble(self) -> tuple[Tensor, Tensor]:
        """The projector and its transpose, assembled on the CPU, on the device."""
        from scipy.sparse import csr_matrix, vstack

        pixels = self.shape[0] * self.shape[1]
        number = torch.empty(0, dtype=self.angles.dtype).numpy().dtype
        blocks = []
        for columns, means in self.spreads(torch.device("cpu")):
            kept = ((columns < self.n_columns) & (means > 0)).numpy()
            pixel = np.broadcast_to(np.arange(pixels, dtype=np.int32), kept.shape)[kept]
            column = columns.numpy()[kept].astype(np.int32)
            entries = means.numpy()[kept].astype(number), (column, pixel)
            blocks.append(csr_matrix(entries, shape=(self.n_columns, pixels)))
        matrix = vstack(blocks, format="csr")
        return self._to_device(matrix), self._to_device(matrix.T.tocsr())

    def _to_device(self, matrix: Any) -> Tensor:
        """A scipy matrix in compressed rows as a tensor."""
        first, columns, values = (
            torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data)
        )
        # Not within catch_warnings, which would change the filters of other threads.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            first,
            columns,
            values,
            size=matrix.shape,
            device=self.angles.device,
            check_invariants=False,
        )

    def spreads(
        self, device: torch.device | None = None, pixels: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each angle: the detector columns that pixels meet, and their means, (k, pixel).

        Columns that are not on the detector have the index ``n_columns``.
        """
        device = device or self.angles.device
        every = torch.arange(self.shape[0] * self.shape[1]) if pixels is None else pixels
        x, y = self.centres(every.to(device))
        for angle in self.angles.to(device, torch.float64):
            first, means = overlaps(self._shadow(angle, x, y))
            columns = first + torch.arange(len(means), device=device)[:, None]
            outside = (columns < 0) | (columns >= self.n_columns)
            yield columns.masked_fill_(outside, self.n_columns), means.to(self.angles.dtype)

    def centres(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Positions x and y of pixels, counted along the rows of the image, float64."""
        ny, nx = self.shape
        x, y = (pixels % nx).double() - (nx - 1) / 2, (pixels // nx).double() - (ny - 1) / 2
        return self.pixel * x, self.pixel * y

    def project(self, flat: Tensor, columns: Tensor, means: Tensor) -> Tensor:
        """One projection (n, column) of images (n, pixel)."""
        row = flat.new_zeros(self.n_columns + 1, len(flat))
        for column, mean in zip(columns, means, strict=True):
            row.index_add_(0, column, mean[:, None] * flat.T)
        return row[:-1].T

    def _check(self) -> None:
        angles = self.angles
        if angles.ndim != 1 or not len(angles) or not angles.is_floating_point():
            raise UsageError(
                f"The angles have shape {tuple(angles.shape)} and type {angles.dtype}.",
                "give one angle in radians for each projection, as floating-point numbers.",
            )
        if not bool(angles.isfinite().all()):
            raise UsageError(
                f"{int((~angles.isfinite()).sum())} of {len(angles)} angles are not finite.",
                "leave out projections whose angle is not known.",
            )
        if min(self.shape) < 1 or self.n_columns < 1:
            raise UsageError(
                f"An image of {self.shape[0]} x {self.shape[1]} pixels before a detector of"
                f" {self.n_columns} pixels cannot be projected.",
                "give sizes of at least 1.",
            )
        lengths = {"pixel": self.pixel, "pitch": self.pitch}
        for name, length in lengths.items():
            if not 0 < length < float("inf"):
                raise UsageError(
                    f"The {name} size is {length}, but must be positive and finite.",
                    "give the sides of image and detector pixels in the same unit of length.",
                )
        if not np.isfinite(self.axis):
            raise UsageError(
                f"The rotation axis is at column {self.axis}.",
                "give the detector column onto which the axis projects, a finite number.",
            )


def _product(matrix: Tensor, flat: Tensor) -> Tensor:
    """A sparse matrix times each row of (n, k)."""
    if len(flat) == 1:  # a vector is twice as fast as a matrix of one column
        return torch.mv(matrix, flat[0])[None]
    return torch.mm(matrix, flat.T).T
