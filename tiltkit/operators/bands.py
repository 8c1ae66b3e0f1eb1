"""Bands of image coordinates, by eigenvalue or by spatial frequency, and sums over each band."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from tiltkit.operators.hartley import frequencies
from tiltkit.operators.inner import sum_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Bands", "octave_edges"]

# Most bands, and fewest coordinates of each: an average of 256 squares of Gaussian numbers has a
# standard error of 9 %.
_MOST_BANDS, _FEWEST_COORDINATES = 16, 256
# Fewest coordinates of the band of lowest frequencies. It is only one of many, so that a standard
# error of 18 % is enough.
FEWEST_INNERMOST = 64


@dataclass(frozen=True, slots=True)
class _Rows:
    """Coefficients in the order of their bands, in rows of equal width that belong to one band.

    Attributes:
        order: Index of each coefficient, (row * width,); some are repeated with weight 0.
        weight: Weight of each of them in a sum, float32.
        width: Coefficients per row.
        band: 1 in the column of the row's band, (row, band) float64.
    """

    order: Tensor
    weight: Tensor
    width: int
    band: Tensor


@dataclass(frozen=True, slots=True)
class Bands:
    """Partition of the coordinates of a particle into bands; one band for all without labels.

    The error of a denoised image differs between coarse and fine detail, and so does the gain of
    most measurements. One average over all coordinates would be wrong for both.

    Attributes:
        count: Number of bands.
        labels: Band of each coordinate, integers from 0 to ``count - 1``, in a shape that
            broadcasts to that of a particle.
        axes: Image axes whose Hartley coefficients are labelled; empty where the coordinates
            themselves are.
    """

    count: int = 1
    labels: Tensor | None = None
    axes: tuple[int, ...] = ()
    # By the shape of coefficients or particles; made on first use.
    _rows: dict[tuple[int, ...], _Rows] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _sizes: dict[tuple[int, ...], Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def by_eigenvalue(cls, eigenvalues: Tensor) -> Bands:
        """Bands of equally many coordinates in rising order of ``eigenvalues`` (...), all >= 0.

        Coordinates with eigenvalue 0, which are not measured, join the first band.
        """
        measured = eigenvalues[eigenvalues > 0]
        count = min(max(measured.numel() // _FEWEST_COORDINATES, 1), _MOST_BANDS)
        if count == 1:
            return cls()
        edges = measured.sort().values[[measured.numel() * i // count for i in range(1, count)]]
        return cls(count, torch.bucketize(eigenvalues, torch.unique(edges)))

    @classmethod
    def shells(
        cls, shape: tuple[int, ...], device: torch.device, innermost: int = FEWEST_INNERMOST
    ) -> Bands:
        """Bands of images (channel, *space) by spatial frequency, see `octaves`.

        They suit measurements that no transform diagonalises: most determine coarse detail better
        than fine detail.

        Args:
            shape: Shape of an image.
            device: Device of the labels.
            innermost: Fewest coefficients of the band of lowest frequencies.
        """
        space = shape[1:]
        if not space:
            return cls()
        bands = cls.octaves(frequencies(space).to(device), octave_edges(space, innermost))
        return replace(bands, axes=tuple(range(-len(space), 0))) if bands.count > 1 else bands

    @classmethod
    def octaves(cls, frequency: Tensor, edges: Tensor | None = None) -> Bands:
        """Bands of half an octave each, for coordinates with spatial frequencies (*space).

        The scale is logarithmic because the power spectrum of images falls as a power of the
        frequency.

        Args:
            frequency: Spatial frequencies.
            edges: Frequencies between the bands, rising; those of `frequency` when not given.
        """
        if edges is None:
            edges = _edges(frequency, FEWEST_INNERMOST)
        if not len(edges):
            return cls()
        return cls(len(edges) + 1, torch.bucketize(frequency, edges.to(frequency)))

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products (particle, band) in float64 of coordinates (particle, ...)."""
        same = a is b
        a = self.coefficients(a)
        return self.sums(a * (a if same else self.coefficients(b)))

    def coefficients(self, x: Tensor) -> Tensor:
        """What products for `sums` are made of: Fourier coefficients with `axes`, else ``x``.

        These are the real and imaginary parts, as a last axis of two, of the half that a real FFT
        gives. Hartley coefficients have the same inner products.
        """
        if not self.axes:
            return x
        return torch.view_as_real(torch.fft.rfftn(x, dim=self.axes, norm="ortho"))

    def sums(self, products: Tensor) -> Tensor:
        """Sums (particle, band) in float64 of products of `coefficients` (particle, ...).

        The order of the summation is fixed: sums are the same in every call on one device. Other
        numbers of particles change them by rounding in float64.
        """
        if self.labels is None:
            return sum_each(products)[:, None]
        shape = tuple(products.shape[1:])
        rows = self._rows.get(shape)
        if rows is None:
            rows = self._rows[shape] = self._arrange(shape)
        ordered = products.flatten(1).index_select(1, rows.order).mul_(rows.weight)
        by_row = sum_each(ordered.view(-1, rows.width)).view(len(ordered), -1)
        return by_row @ rows.band

    def _arrange(self, shape: tuple[int, ...]) -> _Rows:
        """Rows of coefficients of a particle of this shape."""
        assert self.labels is not None  # noqa: S101  (narrowing for the type checker)
        labels = self.labels.cpu()
        weight = torch.ones_like(labels, dtype=torch.float32)
        if self.axes:
            # The half of a real FFT stands for both, but for the columns that mirror themselves.
            side, half = labels.shape[-1], shape[-2]
            weight[..., 1 : (side + 1) // 2] = 2
            labels, weight = labels[..., :half, None], weight[..., :half, None]
        labels, weight = (t.expand(shape).flatten() for t in (labels, weight))
        counts = torch.bincount(labels, minlength=self.count).tolist()
        width = 2 ** math.ceil(math.log2(math.sqrt(len(labels))))
        orders, weights, bands = [], [], []
        for band, order in enumerate(torch.split(labels.argsort(stable=True), counts)):
            padding = (0, -len(order) % width)
            orders.append(F.pad(order, padding, value=int(order[0]) if len(order) else 0))
            weights.append(F.pad(weight[order], padding))
            bands += [band] * (len(orders[-1]) // width)
        of_band = F.one_hot(torch.tensor(bands), self.count).double()
        order, weight, of_band = (
            t.to(self.labels.device) for t in (torch.cat(orders), torch.cat(weights), of_band)
        )
        return _Rows(order, weight, width, of_band)

    def sizes(self, x: Tensor) -> Tensor:
        """Number of coordinates (band,) of a particle ``x`` in each band, float64."""
        if self.labels is None:
            return torch.tensor([x.numel()], dtype=torch.float64, device=x.device)
        shape = tuple(x.shape)
        if shape not in self._sizes:
            labels = self.labels.expand(shape).flatten()
            self._sizes[shape] = torch.bincount(labels, minlength=self.count).double()
        return self._sizes[shape]

    def broadcast(self, values: Sequence[float] | Tensor) -> Tensor | float:
        """The value of its band at every labelled coordinate, float32; the value for one band.

        Args:
            values: One value for each band.
        """
        if self.labels is None:
            return values[0]
        table = torch.as_tensor(values, dtype=torch.float32, device=self.labels.device)
        return table[self.labels]

    def scale(self, x: Tensor, factors: Tensor | float) -> Tensor:
        """Particles (particle, ...) with every labelled coordinate multiplied by its factor.

        Args:
            x: Particles.
            factors: As `broadcast` returns them.
        """
        if not self.axes or isinstance(factors, float) or factors.ndim == 0:
            return factors * x
        spectrum = torch.fft.rfftn(x, dim=self.axes, norm="ortho")
        # Opposite frequencies have equal factors, which Hartley and Fourier coefficients share.
        spectrum *= factors[..., : spectrum.shape[-1]].to(x)
        sides = [x.shape[axis] for axis in self.axes]
        scaled: Tensor = torch.fft.irfftn(spectrum, s=sides, dim=self.axes, norm="ortho")
        return scaled


def octave_edges(space: Sequence[int], innermost: int = FEWEST_INNERMOST) -> Tensor:
    """Frequencies between bands of half an octave for images (*space), rising.

    Args:
        space: Size of an image.
        innermost: Fewest coefficients of the band of lowest frequencies.
    """
    return _edges(frequencies(space), innermost)


def _edges(frequency: Tensor, innermost: int) -> Tensor:
    ordered = frequency.flatten().sort().values
    count = len(ordered)
    inside = (int(count / 2 ** (frequency.ndim * i / 2)) for i in range(1, 2 * _MOST_BANDS))
    edges: Tensor = torch.unique(ordered[[k for k in inside if k >= innermost]])
    return edges
