"""One image between 0 and 1, as deepinv's samplers want it: the problem and its prior, scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.sampling.target import Target

__all__ = ["Denoiser", "Scaled"]


@dataclass(frozen=True, slots=True)
class Scaled:
    """A problem for one image between 0 and 1.

    Attributes:
        target: The problem as it is.
        likelihood: Its likelihood.
        low: Image value that becomes 0.
        width: How much becomes 1.
    """

    target: Target
    likelihood: GaussianLikelihood
    low: float
    width: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise."""
        return float(self.likelihood.noise_var**0.5 / self.width)

    @property
    def y(self) -> Tensor:
        """The measurement, without the share of ``low``."""
        y = self.likelihood.y.clone()  # of this moment, so that autograd may use it
        offset = torch.full((1, *self.target.problem.shape), self.low, **self._kind())
        return (y - self.likelihood.operator.forward(offset)) / self.width

    @property
    def start(self) -> Tensor:
        """Least squares with the identity as prior covariance, (1, channel, *space)."""
        back = self.likelihood.operator.adjoint(self.y)
        solved = self.likelihood.operator.solve(self.sigma**2, 1.0, back)
        return torch.as_tensor(solved).clone()

    def physics(self) -> Any:
        """The operator as deepinv's linear physics."""
        from deepinv.physics import GaussianNoise, LinearPhysics

        operator = self.likelihood.operator
        noise = GaussianNoise(torch.tensor(self.sigma, device=self.target.device))
        physics = LinearPhysics(
            A=lambda x, **_: operator.forward(x.to(self.target.dtype)),
            A_adjoint=lambda y, **_: operator.adjoint(y),
            noise_model=noise,
        )
        physics.prox_l2 = lambda z, y, gamma, **_: operator.solve(
            float(1 / gamma), 1.0, operator.adjoint(y) + z / gamma
        )
        return physics.to(self.target.device)

    def image(self, z: Tensor) -> Tensor:
        """Back to the prior's values."""
        return (self.low + self.width * z).to(self.target.dtype)

    def denoised(self, z: Tensor, sigma: float) -> Tensor:
        """The prior's denoiser. Outside of its noise range it does the next best.

        Above, the image is shrunk together with the noise, which is exact where noise is all that
        is seen; below, the smallest level that it knows is used.
        """
        low, high = self.target.problem.prior.sigma_range
        level = self.width * sigma
        known = min(max(level, low), high)
        x = self.image(z) * (known / max(level, known))
        clean = x + known**2 * self.target.score(x, known)
        return ((clean - self.low) / self.width).to(z.dtype)

    def _kind(self) -> dict[str, Any]:
        return {"dtype": self.target.dtype, "device": self.target.device}


class Denoiser(torch.nn.Module):
    """What deepinv asks of a denoiser: images and one noise level, as a number or a tensor."""

    def __init__(self, scaled: Scaled) -> None:
        super().__init__()
        self._scaled = scaled

    def forward(self, x: Tensor, sigma: Tensor | float, **_: Any) -> Tensor:
        """The posterior mean of clean images between 0 and 1."""
        level = float(sigma.flatten()[0]) if isinstance(sigma, Tensor) else float(sigma)
        return self._scaled.denoised(x, level)
