"""Test that the adjoint and the normal operator belong to the forward operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiltkit.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["check_adjoint"]

# Largest relative difference. Projectors in single precision agree to 1e-6, unmatched pairs of a
# projector and a back projector differ by percents.
_MISMATCH = 0.01


def check_adjoint(operator: LinearOperator, x: Tensor, ax: Tensor) -> None:
    """Refuse an operator for which ``<A x, A x>`` is not ``<x, A^H A x>``.

    ``A^H A x`` is computed as ``adjoint(forward(x))`` and as ``normal(x)``.

    Args:
        operator: The operator.
        x: An image (1, channel, *space) with every frequency: white noise.
        ax: ``A x``.

    Raises:
        PluginError: They differ by more than 1 %, or the result has another shape or type.
    """
    energy = float(ax.abs().double().square().sum())
    for name, back in (("adjoint", operator.adjoint(ax)), ("normal", operator.normal(x))):
        if back.shape != x.shape or back.dtype != x.dtype:
            raise PluginError(
                f"The operator's {name} gives {back.dtype} {tuple(back.shape)}, but images are"
                f" {x.dtype} {tuple(x.shape)}.",
                f"correct the operator: {name}() gives images.",
            )
        found = float((x.double() * back).sum())
        if not abs(found - energy) <= _MISMATCH * energy:
            raise PluginError(
                f"The operator's {name} does not fit its forward: <x, A^H A x> is {found:.5g} by"
                f" {name}(), but <A x, A x> is {energy:.5g}.",
                "correct the operator: the adjoint must be exact, with every factor of forward().",
            )
