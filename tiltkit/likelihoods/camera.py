"""Cameras: Poisson counts read out by an amplifier with Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import TiltkitError
from tiltkit.likelihoods.counts import checked, floating, pearson
from tiltkit.likelihoods.poisson import PoissonLikelihood

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods.gaussian import GaussianLikelihood
    from tiltkit.protocols import LinearOperator

__all__ = ["PoissonGaussianLikelihood"]


@dataclass(frozen=True)
class PoissonGaussianLikelihood:
    """``y = gain Poisson(A x + background) + offset + N(0, read_noise^2)``, shifted to Poisson.

    With ``v = (read_noise / gain)^2``, ``(y - offset) / gain + v`` has the mean and the variance
    ``A x + background + v``, so it is treated as Poisson of that rate (Snyder, Helstrom, Lanterman,
    Faisal and White, J. Opt. Soc. Am. A 12, 1995; for cameras with a map of read noise Huang et
    al., Nature Methods 10, 2013). First and second moments are exact, so chi2 is, and the
    potential is convex; the skewness is that of the counts alone. Shifted values below 0, which
    only read noise far out in its tail makes, are set to 0.

    Attributes:
        operator: Linear forward operator ``A``, real, to expected electrons.
        y: Readings (1, *data).
        gain: Readings per electron: a number or a tensor, positive.
        offset: Reading in the dark.
        read_noise: Standard deviation of the readout, in readings; infinite where a pixel is dead.
        background: In electrons: dark current, stray light.
    """

    operator: LinearOperator
    y: Tensor
    gain: float | Tensor = 1.0
    offset: float | Tensor = 0.0
    read_noise: float | Tensor = 0.0
    background: float | Tensor = 0.0

    def __post_init__(self) -> None:
        self.shifted  # noqa: B018  (checks)

    @cached_property
    def shifted(self) -> PoissonLikelihood:
        """The Poisson likelihood of the shifted readings."""
        background = checked("background", self.background, self.y) + self._shift
        y = self._readings.clamp_min(0).to(floating(self.y))  # keeps NaN, for the check of counts
        return PoissonLikelihood(self.operator, y, self._live.double(), background)

    @cached_property
    def _readings(self) -> Tensor:
        """Shifted readings, 0 where they are dead."""
        y = (self.y.double() - self.offset) / checked("gain", self.gain, self.y)
        return torch.where(self._live, y + self._shift, 0.0)

    @cached_property
    def _shift(self) -> Tensor:
        gain = checked("gain", self.gain, self.y)
        if not bool((gain > 0).all()):
            raise TiltkitError(
                "The gain of the camera holds zeros.",
                "give a positive gain, and dead pixels an infinite read noise.",
            )
        read_noise = torch.as_tensor(self.read_noise, dtype=torch.float64, device=self.y.device)
        read_noise = torch.where(self._live, read_noise, 0.0)
        return (checked("read noise", read_noise, self.y) / gain).square()

    @cached_property
    def _live(self) -> Tensor:
        read_noise = torch.as_tensor(self.read_noise, dtype=torch.float64, device=self.y.device)
        return ~read_noise.isposinf().expand(self.y.shape)

    def softened(self, variance: float) -> PoissonLikelihood:
        """The same readings where ``A x`` carries noise of a variance."""
        return self.shifted.softened(variance)

    def potential(self, x: Tensor) -> Tensor:
        """``R`` of images (batch, channel, *space), float64 (batch,)."""
        return self.shifted.potential(x)

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of ``R``, shaped as ``x``."""
        return self.shifted.gradient(x)

    def chi2(self, x: Tensor) -> Tensor:
        """Pearson's chi-squared of the shifted readings, 1 on average at the true image."""
        return pearson(self._readings, self.shifted.rate(x))

    def approximation(self) -> GaussianLikelihood:
        """``(y - offset) / gain - background = A x + noise``, variance from the reading itself."""
        return self.shifted.approximation()
