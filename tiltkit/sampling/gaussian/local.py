"""Local Gaussian approximations of likelihoods of counts, one for each particle and noise level.

At noise level a the image given a particle has about the distribution ``N(D, C)`` (`Conditioning`:
``D`` the denoised image, ``C`` its error covariance). A measurement ``t = a_i . x0`` then has the
mean ``(A D)_i`` and the variance ``(A C A^H)_ii``. `MomentMatched.matched` replaces its likelihood
by the Gaussian with the same posterior moments of ``t``. As the level falls, ``C`` shrinks, and the
approximation follows each particle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.sampling.gaussian.iterative import IterativeConditioning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.likelihoods import MomentMatched
    from tiltkit.operators.bands import Bands

__all__ = ["LocalGaussian"]

# Images of at most so many values are probed one value at a time, which is exact.
EXACT = 256
# White images that probe the energies of the rows of larger operators, to 25 % for one row; and
# those that probe the mean energy in one band, to 25 % for a band of four coefficients.
PROBES, BAND_PROBES = 32, 8
# Values of the probes that are in memory at once.
AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class LocalGaussian:
    """The likelihood with what its local approximations need of its operator.

    Attributes:
        likelihood: The likelihood.
        bands: Bands of images in which error variances are given.
        shape: Shape of an image.
        profile: Energies ``|a_i|^2`` of the rows of ``A`` over their mean, (1, *data).
        energies: Mean energy of the rows in each band.
    """

    likelihood: MomentMatched
    bands: Bands
    shape: tuple[int, ...]
    profile: Tensor
    energies: Sequence[float]

    @classmethod
    def of(
        cls,
        likelihood: MomentMatched,
        bands: Bands,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> LocalGaussian:
        """The energies of rows, by probe images."""
        g, size = torch.Generator().manual_seed(0), math.prod(shape)
        exact = size <= EXACT
        if exact:
            probes = math.sqrt(size) * torch.eye(size, dtype=dtype).view(size, *shape)
        else:
            probes = torch.randn((PROBES, *shape), generator=g, dtype=dtype)

        def row_energies(images: Tensor) -> Tensor:
            sums = [
                likelihood.operator.forward(part.to(device)).double().square().sum(0, keepdim=True)
                for part in torch.split(images, max(1, AT_ONCE // size))
            ]
            return torch.stack(sums).sum(0) / len(images)

        rows = row_energies(probes)
        energies = []
        for band in range(bands.count):
            one = bands.broadcast([float(other == band) for other in range(bands.count)])
            part = bands.scale((probes if exact else probes[:BAND_PROBES]).to(device), one)
            energies.append(float(row_energies(part).mean()))
        return cls(likelihood, bands, shape, rows / rows.mean().clamp_min(1e-300), energies)

    def conditioning(self, denoised: Tensor, variance: Sequence[float]) -> IterativeConditioning:
        """Gaussian conditioning on the data near denoised images.

        Args:
            denoised: Denoised images ``D`` (particle, channel, *space).
            variance: ``C``: one value for each of the `bands`.
        """
        mean = self.likelihood.operator.forward(denoised)
        average = sum(v * e for v, e in zip(variance, self.energies, strict=True))
        # Rows without energy are not measured, but a variance must be positive.
        spread = (average * self.profile).clamp_min(1e-12 * average + 1e-300)
        matched = self.likelihood.matched(mean, spread)
        return IterativeConditioning(matched, self.shape, denoised.dtype)
