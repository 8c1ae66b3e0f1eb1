"""The inverse problem of one slice, as the engine is given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import Likelihood
    from tiltkit.protocols import Prior

__all__ = ["Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A prior, a measurement, and the way back to the user's images.

    Attributes:
        prior: Distribution over images in the prior's own value range.
        likelihood: The measurement, its operator and its noise, in the prior's value range.
        shape: Shape of one image as the prior sees it, ``(channel, *space)``.
        to_image: From particles ``(n, channel, *space)`` to real images ``(n, *image)`` in the
            user's units: undoes the scaling, crops, takes the magnitude.
        baseline: Plain reconstruction without a prior, ``(*image)`` in the user's units
            (zero-filled MRI, filtered back-projection), for comparison.
        phase: From the posterior mean of the particles ``(channel, *space)`` to its phase
            ``(*image)`` in radians; None for real images.
        facts: What was estimated on the way, for the diagnostics: noise level, scale.
    """

    prior: Prior
    likelihood: Likelihood
    shape: tuple[int, ...]
    to_image: Callable[[Tensor], Tensor]
    baseline: Tensor
    phase: Callable[[Tensor], Tensor] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
