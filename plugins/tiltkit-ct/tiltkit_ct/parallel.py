"""Parallel-beam projections: synchrotrons, electron microscopes, rebinned fan beams."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit_ct.footprint import Shadow
from tiltkit_ct.projector import Projector
from tiltkit_ct.turns import Turns, turns_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ParallelBeam"]


class ParallelBeam(Projector):
    """Exact strip integrals of square pixels along parallel rays; see `Projector`.

    The point ``(x, y)`` projects onto column ``axis + (x cos(angle) + y sin(angle)) / pitch``.
    """

    def data_preconditioner(
        self, variance: Tensor, c: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """Approximate inverse of ``diag(variance) + A C A^H``; see `PreconditionedOperator`.

        One variance for all is exact up to `Turns`. Others scale it, so that its diagonal is right.
        For a ``C`` that differs between frequencies its mean stands in, weighted as projections
        see them; what each does to every eigenvector was tried and saves next to no iteration.
        """
        turns = self._turns
        if turns is None:
            return None
        if isinstance(c, torch.Tensor):
            c = _mean_seen(c)
        # Rather too large than too small: what it damps, data that no image explains, is hardly
        # in any solution. Dead rays are not to decide.
        common = variance.quantile(0.9)
        correct = ((common + c * turns.diagonal) / (variance + c * turns.diagonal)).sqrt()
        inverse = 1 / (common + c * turns.values)

        def apply(r: Tensor) -> Tensor:
            return correct * turns.apply(correct * r, inverse)

        return apply

    @cached_property
    def _turns(self) -> Turns | None:
        """Made once for all slices of a scan, where it does not need more memory than matrices."""
        size = 4 * len(self.angles) * self.n_columns**2 * self.angles.element_size()
        return turns_of(self) if size <= self.matrix_bytes else None

    def _shadow(self, angle: Tensor, x: Tensor, y: Tensor) -> Shadow:
        cos, sin = angle.cos(), angle.sin()
        wide, narrow = torch.maximum(cos.abs(), sin.abs()), torch.minimum(cos.abs(), sin.abs())
        centre = self.axis + (x * cos + y * sin) / self.pitch
        outer, inner = (wide + narrow) / 2, (wide - narrow) / 2
        edges = torch.stack([-outer, -inner, inner, outer]) * (self.pixel / self.pitch)
        return Shadow(centre + edges[:, None], self.pixel / wide)

    @property
    def _meetings(self) -> float:
        ny, nx = self.shape
        width = (self.angles.cos().abs() + self.angles.sin().abs()) * (self.pixel / self.pitch)
        return ny * nx * float((1 + width).sum())


def _mean_seen(c: Tensor) -> float:
    """Mean over frequencies (ny, nx), weighted by one over the frequency, as ``A^H A`` is."""
    cycles = [torch.fft.fftfreq(n, device=c.device) for n in c.shape]
    seen = 1 / torch.hypot(cycles[0][:, None], cycles[1]).clamp_min(0.5 / max(c.shape))
    return float((c * seen).sum() / seen.sum())
