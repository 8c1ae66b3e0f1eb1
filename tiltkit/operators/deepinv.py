"""deepinv's linear physics as operators of tiltkit.

Only `A` and `A_adjoint` of a private copy are ever called, and never with keywords: those would
change the physics (deepinv 0.5). The noise model is left out: tiltkit's likelihood owns the noise.
deepinv's masked measurements lie on the full grid with zeros; here they hold the measured values
only, so that the noise model and chi2 count the right number of values.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import InputError, UsageError
from tiltkit.operators.cg import conjugate_gradient

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics
    from torch import Tensor

__all__ = ["DeepinvOperator"]


class DeepinvOperator:
    """Adapter of a deepinv physics to a linear forward operator.

    Args:
        physics: Any ``deepinv.physics.LinearPhysics``. It is copied: later changes to it, such as
            ``physics.update(mask=...)``, have no effect here.
        shape: Image shape ``(channel, *space)``; complex images have two channels, as in deepinv.
        rtol: Largest difference of ``<A x, y>`` and ``<x, A^H y>``, relative to their typical size.
        device: Device of the copy.

    Raises:
        UsageError: The physics is not linear, does not accept images of this shape, or its adjoint
            does not belong to its forward operator.
    """

    def __init__(
        self,
        physics: LinearPhysics,
        shape: tuple[int, ...],
        *,
        rtol: float = 1e-3,
        device: torch.device | str = "cpu",
    ) -> None:
        for name in ("A", "A_adjoint", "clone"):
            if not callable(getattr(physics, name, None)):
                raise UsageError(
                    f"{type(physics).__name__} is no linear physics: it has no {name}.",
                    "give a deepinv.physics.LinearPhysics.",
                )
        self.shape = shape
        self._physics = physics.clone().to(device).eval().requires_grad_(requires_grad=False)
        g = torch.Generator().manual_seed(0)
        x = torch.randn(1, *shape, generator=g).to(device)
        full = self._measure(x)
        self._grid = tuple(full.shape[1:])
        self._measured = (full[0] != 0).flatten().nonzero().squeeze(1)
        self._check_adjoint(x, g, rtol)

    def gather(self, y: Tensor) -> Tensor:
        """A measurement of the physics as `forward` lays it out, (batch, measured values)."""
        if y.shape[1:] != self._grid:
            raise InputError(
                f"The measurement has shape {tuple(y.shape[1:])}, but the physics gives"
                f" {self._grid}.",
                "check that the measurement belongs to this physics.",
            )
        return y.flatten(1)[:, self._measured]

    def forward(self, x: Tensor) -> Tensor:
        """Noise-free measurement (batch, measured values), without entries that are always zero."""
        return self._measure(x).flatten(1)[:, self._measured]

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H y``: images (batch, channel, *space)."""
        # Tomography differentiates its forward operator, which inference mode forbids.
        with torch.inference_mode(mode=False), torch.enable_grad():
            full = y.new_zeros(len(y), prod(self._grid))
            full[:, self._measured] = y
            x: Tensor = self._physics.A_adjoint(full.view(-1, *self._grid))
        return x.detach()

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        return self.adjoint(self.forward(x))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b`` by batched conjugate gradients."""
        return conjugate_gradient(self.normal, b, alpha, beta)[0]

    def _measure(self, x: Tensor) -> Tensor:
        try:
            y: Tensor = self._physics.A(x)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise UsageError(
                f"{type(self._physics).__name__} cannot measure images of shape {self.shape}:"
                f" {error}.",
                "give the image shape (channel, *space) of the physics.",
            ) from error
        return y

    def _check_adjoint(self, x: Tensor, g: torch.Generator, rtol: float) -> None:
        name = type(self._physics).__name__
        ax = self.forward(x)
        y = torch.randn(ax.shape, generator=g, dtype=ax.dtype).to(ax.device)
        aty = self.adjoint(y)
        if aty.shape != x.shape:
            raise UsageError(
                f"The adjoint of {name} gives images of shape {tuple(aty.shape[1:])},"
                f" not {self.shape}.",
                "give the image shape (channel, *space) of the physics.",
            )
        there = float(torch.vdot(y.flatten(), ax.flatten()).real)
        back = float(torch.vdot(aty.flatten(), x.flatten()).real)
        # Inner products of random vectors are nearly zero: their standard deviation is the unit.
        typical = float(ax.norm() * y.norm()) / ax.numel() ** 0.5
        mismatch = abs(there - back) / max(typical, torch.finfo(x.dtype).tiny)
        if not mismatch <= rtol:
            raise UsageError(
                f"A_adjoint of {name} is not the adjoint of A: inner products differ by"
                f" {mismatch:.1e} of their typical size.",
                "use adjoint_via_backprop=True for tomography, or correct the physics.",
            )
