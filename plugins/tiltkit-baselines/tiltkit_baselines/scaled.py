"""A problem and its prior rescaled to image values between 0 and 1, for deepinv's samplers."""

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
    """A problem for one image ``z = (x - low) / width``, ``x`` an image of the prior.

    Attributes:
        target: The problem for ``x``.
        likelihood: Its likelihood.
        low: Image value of the prior that becomes 0.
        width: Difference of the image values that become 1 and 0.
    """

    target: Target
    likelihood: GaussianLikelihood
    low: float
    width: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise of the scaled measurement."""
        return float(self.likelihood.noise_var**0.5 / self.width)

    @property
    def y(self) -> Tensor:
        """Measurement ``(y - A low) / width`` (1, *data) of ``z``."""
        y = self.likelihood.y.clone()  # a tensor outside of inference mode, for autograd
        offset = torch.full((1, *self.target.problem.shape), self.low, **self._kind())
        return (y - self.likelihood.operator.forward(offset)) / self.width

    @property
    def start(self) -> Tensor:
        """Least-squares solution with the identity as prior covariance, (1, channel, *space)."""
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
        """Images ``x`` of the prior from ``z``."""
        return (self.low + self.width * z).to(self.target.dtype)

    def denoised(self, z: Tensor, sigma: float) -> Tensor:
        """The prior's denoiser for ``z`` with noise of standard deviation ``sigma``.

        Above the prior's noise range the noisy image is scaled down to the largest noise level,
        which is right where noise dominates. Below it the smallest level is used.
        """
        low, high = self.target.problem.prior.sigma_range
        level = self.width * sigma
        nearest = min(max(level, low), high)
        x = self.image(z) * (nearest / max(level, nearest))
        clean = x + nearest**2 * self.target.score(x, nearest)
        return ((clean - self.low) / self.width).to(z.dtype)

    def _kind(self) -> dict[str, Any]:
        return {"dtype": self.target.dtype, "device": self.target.device}


class Denoiser(torch.nn.Module):
    """The prior's denoiser with deepinv's interface: images, and a noise level."""

    def __init__(self, scaled: Scaled) -> None:
        super().__init__()
        self._scaled = scaled

    def forward(self, x: Tensor, sigma: Tensor | float, **_: Any) -> Tensor:
        """Denoised images ``E[z | noisy]``.

        Args:
            x: Noisy images (batch, channel, *space).
            sigma: Noise level: a number, or a tensor of equal numbers.
        """
        level = float(sigma.flatten()[0]) if isinstance(sigma, Tensor) else float(sigma)
        return self._scaled.denoised(x, level)
