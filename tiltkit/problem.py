"""The inverse problem of one slice, as the engine is given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import Likelihood
    from tiltkit.protocols import Prior

__all__ = ["Constraint", "Problem"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """What is known of every image besides the prior; for real images.

    Samplers apply it to their particles after every step. Negative values are reflected: seen on
    the line folded at 0 a step is an ordinary one, so that reflection by itself leaves densities
    on the positive side as they are wherever the step treats pixels one by one. Where it does not
    (data that mix pixels), and for weights, which do not know of the fold, this is an
    approximation of the size of a step; so are all noised priors cut at 0. Outside of the support
    pixels are set to 0: samples are those of the prior given zeros there.

    Attributes:
        nonnegative: Values are zero or more.
        support: (channel, *space), true where values may differ from 0; None for everywhere.
    """

    nonnegative: bool = False
    support: Tensor | None = None

    def apply(self, x: Tensor) -> Tensor:
        """Images (n, channel, *space) that meet the constraint."""
        return self.carry(x, x)

    def carry(self, change: Tensor, x: Tensor) -> Tensor:
        """What becomes of a change that is part of ``x`` when the constraint is applied to it."""
        if self.nonnegative:
            change = change.where(x >= 0, -change)
        return change if self.support is None else change.where(self.support, 0.0)


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
        constraint: What else is known of the images; None for nothing.
    """

    prior: Prior
    likelihood: Likelihood
    shape: tuple[int, ...]
    to_image: Callable[[Tensor], Tensor]
    baseline: Tensor
    phase: Callable[[Tensor], Tensor] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    constraint: Constraint | None = None
