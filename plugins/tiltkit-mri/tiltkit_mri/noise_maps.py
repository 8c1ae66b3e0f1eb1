"""Maps of signal-to-noise ratio and noise amplification, computed from operator and posterior.

The g-factor is that of SENSE (Pruessmann et al., Magn Reson Med 42:952, 1999),

    g_i = sqrt([(A^H A)^-1]_ii [A^H A]_ii),

the factor by which noise in least squares without a prior exceeds that of a fully sampled scan,
beside the square root of the acceleration. With the posterior covariance C in place of
``sigma^2 (A^H A)^-1`` it is the same ratio for a reconstruction with this prior,

    sqrt(C_ii [A^H A]_ii) / sigma,

1 where the spread is that of a fully sampled scan of the same duration, and below 1 where
the prior knows more than the data. Without a prior both are equal. Both are what the standard
deviation over pseudo replicas estimates for linear methods (Robson et al., Magn Reson Med 60:895,
2008).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from tiltkit.errors import UsageError
from tiltkit.problem import ImageMap, Note

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InverseDiagonal", "NormalDiagonal", "describe_g_factor", "noise_maps"]


@runtime_checkable
class NormalDiagonal(Protocol):
    """An operator with a known diagonal of ``A^H A``."""

    def normal_diagonal(self) -> Tensor:
        """``[A^H A]_ii`` (ny, nx)."""
        ...


@runtime_checkable
class InverseDiagonal(NormalDiagonal, Protocol):
    """An operator with known diagonals of ``A^H A`` and of its inverse."""

    def inverse_diagonal(self) -> Tensor:
        """``[(A^H A)^-1]_ii`` (ny, nx); infinite where the data do not determine the pixel."""
        ...


def noise_maps(
    names: Collection[str],
    operator: Any,
    noise_level: float,
    pixels: Callable[[Tensor], Tensor],
    gain: float,
    field_of_view: Callable[[Tensor], Tensor] = lambda values: values,
    shading: Tensor | None = None,
) -> dict[str, ImageMap]:
    """The maps that are asked for, by name.

    Args:
        names: ``snr``, ``g_factor``, ``posterior_g_factor``; others are ignored.
        operator: Forward operator, a `NormalDiagonal`.
        noise_level: Standard deviation of the noise per real component of the data.
        pixels: From images (..., row, column) of the operator to those of the result.
        gain: Factor by which ``pixels`` changes the standard deviation of white noise.
        field_of_view: From values (row, column) of images of the operator, which may be wider than
            the field of view, to those that ``pixels`` takes.
        shading: Factor (row, column) from images of the operator to those of the result; 1 when
            None.

    Raises:
        UsageError: The g-factor is asked for, and the operator is no `InverseDiagonal`.
    """
    found = {}
    if "snr" in names:
        found["snr"] = ImageMap(
            lambda mean, std: mean / std, "posterior mean over posterior standard deviation"
        )
    if "g_factor" in names:
        if not isinstance(operator, InverseDiagonal):
            raise UsageError(
                "The map g_factor needs a Cartesian scan with whole columns of k-space.",
                "take posterior_g_factor in task.output.",
            )
        inverse: InverseDiagonal = operator

        def g_factor(mean: Tensor, _std: Tensor) -> Tensor:
            g = (inverse.inverse_diagonal() * inverse.normal_diagonal()).sqrt()
            return _at(pixels, field_of_view(g)).to(mean)

        found["g_factor"] = ImageMap(g_factor, "g-factor of least squares (SENSE)")
    if "posterior_g_factor" in names:
        normal: NormalDiagonal = operator

        def posterior_g_factor(_mean: Tensor, std: Tensor) -> Tensor:
            sensitivity = normal.normal_diagonal().sqrt()
            if shading is not None:
                sensitivity = sensitivity / shading.clamp_min(1e-30)
            full = _at(pixels, field_of_view(sensitivity))
            return std * full.to(std) / (noise_level * gain)

        found["posterior_g_factor"] = ImageMap(posterior_g_factor, "g-factor of the posterior")
    return found


def describe_g_factor(names: Collection[str], operator: Any) -> tuple[Note, ...]:
    """A note where the g-factor is asked for, and is infinite in a part of the image."""
    if "g_factor" not in names or not isinstance(operator, InverseDiagonal):
        return ()
    unknown = operator.inverse_diagonal().isinf()[operator.normal_diagonal() > 0]
    share = float(unknown.float().mean())
    if not share:
        return ()
    text = (
        f"The g-factor is infinite in {100 * share:.0f} % of the pixels: coils and sampling alone"
        " do not determine them. posterior_g_factor is finite everywhere."
    )
    return (Note("g_factor_infinite", text),)


def _at(pixels: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Values (ny, nx) at the pixels of the result.

    They may be interpolated there; NaN and infinite values then reach half a pixel far.
    """
    found = pixels(values.nan_to_num(0.0, 0.0))
    known = pixels(values.isfinite().to(values))
    found = torch.where(known > 0.5, found / known, torch.inf)
    outside = pixels(values.isnan().to(values)) > 0.5
    return torch.where(outside, torch.nan, found)
