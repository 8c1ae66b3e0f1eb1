"""Camera noise: Poisson counts with gain, offset and Gaussian read noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
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

    With ``v = (read_noise / gain)^2``, the shifted reading ``(y - offset) / gain + v`` has the mean
    and the variance ``A x + background + v``. It is treated as Poisson with that rate (Snyder,
    Helstrom, Lanterman, Faisal and White, J. Opt. Soc. Am. A 12, 1995; for sCMOS cameras with a map
    of read noise Huang et al., Nature Methods 10, 2013). Mean and variance are exact, and the
    potential is convex. The skewness is that of the counts without read noise. Shifted readings
    below 0 are rare and set to 0.

    Attributes:
        operator: Linear forward operator ``A``, real, to expected electrons.
        y: Camera readings (1, *data) in digital units.
        gain: Digital units per electron, positive: a number or a tensor that broadcasts to ``y``.
        offset: Mean dark reading, in digital units.
        read_noise: Standard deviation of the readout, in digital units; infinite for dead pixels.
        background: Expected electrons that do not come from the image: dark current, stray light.

    Raises:
        UsageError: A parameter is negative, NaN or infinite.
        InputError: A reading is NaN or infinite, or all pixels are dead.
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
        """Poisson likelihood of the shifted readings."""
        background = checked("background", self.background, self.y) + self._shift
        y = self.readings.clamp_min(0).to(floating(self.y))  # keeps NaN, for the check of counts
        return PoissonLikelihood(self.operator, y, self._live.double(), background)

    @cached_property
    def readings(self) -> Tensor:
        """Shifted readings (1, *data) in electrons, float64; 0 for dead pixels."""
        y = (self.y.double() - self.offset) / checked("gain", self.gain, self.y)
        return torch.where(self._live, y + self._shift, 0.0)

    @cached_property
    def _shift(self) -> Tensor:
        gain = checked("gain", self.gain, self.y)
        if not bool((gain > 0).all()):
            raise UsageError(
                "The camera gain contains zeros.",
                "give a positive gain, and an infinite read noise for dead pixels.",
            )
        read_noise = torch.as_tensor(self.read_noise, dtype=torch.float64, device=self.y.device)
        read_noise = torch.where(self._live, read_noise, 0.0)
        return (checked("read noise", read_noise, self.y) / gain).square()

    @cached_property
    def _live(self) -> Tensor:
        read_noise = torch.as_tensor(self.read_noise, dtype=torch.float64, device=self.y.device)
        return ~read_noise.isposinf().expand(self.y.shape)

    def potential(self, x: Tensor) -> Tensor:
        """``R`` of images (batch, channel, *space), (batch,) float64."""
        return self.shifted.potential(x)

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of ``R``, shaped as ``x``."""
        return self.shifted.gradient(x)

    def chi2(self, x: Tensor) -> Tensor:
        """Pearson's chi-squared of the shifted readings, (batch,); 1 on average at the truth."""
        return pearson(self.readings, self.shifted.rate(x))

    def matched(self, mean: Tensor, variance: Tensor) -> GaussianLikelihood:
        """Gaussian approximation near images of given ``A x``; see `CountLikelihood`."""
        return self.shifted.matched(mean, variance)

    def approximation(self) -> GaussianLikelihood:
        """``(y - offset) / gain - background = A x + noise``, with the variance of the reading."""
        return self.shifted.approximation()
