"""Projection of samples onto nonnegative images that keeps what the data measure.

A sample ``x`` is replaced by the nonnegative image that is nearest to it in the metric of the data:

    z = argmin over z >= 0 of  |A (z - x)|^2 / noise_var + RIDGE |z - x|^2 / v

``v`` is the mean square of the negative values of the sample. Combinations of pixels that the data
measure, such as a total flux, are kept as well as the data know them. What the data do not measure
changes as little as possible. An image without negative values is not changed.

Samples are then those of the posterior projection (Patra and Dunson, arXiv:1812.05741; for
linear-Gaussian problems Bardsley and Fox, Inverse Problems 2012, and Everink, Dong and Andersen,
SIAM/ASA J. Uncertainty Quantification 2023): a value of 0 has a positive probability. Clipping
negative values, or reflecting them, adds their sum to the total flux. A prior noised up to some
level has much of its mass below 0, so that reflection at every level of a noise ladder brightens
also images that are positive without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.operators.inner import per_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["project_nonnegative"]

# Weight of the change of the image. Measured on 60 stars whose flux the data know to 0.6 %: 1
# brightens them by 3 %, 0.1 by 0.8 %, 0.01 by 0.4 %, clipping by 30 %.
RIDGE = 0.01
# Root mean square of the projected gradient at which iterations stop, over its value for an error
# of ``sqrt(v)`` in directions that are not measured. Measured on the same stars: 0.05 takes 350
# iterations, 0.5 takes 110 for the same flux within 0.5 %, 2 takes 40 and brightens by 2 %.
TOLERANCE = 0.5
MOST_ITERATIONS = 500


def project_nonnegative(
    x: Tensor, precision: Callable[[Tensor], Tensor] | None, largest: float
) -> Tensor:
    """Nonnegative images near images ``x`` in the metric of the data, see this module.

    By projected gradient steps with momentum, restarted where it points uphill (FISTA: Beck and
    Teboulle 2009; O'Donoghue and Candes, arXiv:1204.3982).

    Args:
        x: Images (particle, channel, *space).
        precision: ``A^H A / noise_var`` on batches of images; None clips at 0.
        largest: Its largest eigenvalue, or an upper bound.
    """
    negative = x.clamp_max(0).flatten(1)
    todo = (negative < 0).any(1)
    if not bool(todo.any()):
        return x
    if precision is None:
        return x.clamp_min(0)
    done = x.clone()
    square = negative[todo].double().square().sum(1) / (negative[todo] < 0).sum(1)
    done[todo] = _project(x[todo], precision, largest, per_image(RIDGE / square, x))
    return done


def _project(
    x: Tensor, precision: Callable[[Tensor], Tensor], largest: float, ridge: Tensor
) -> Tensor:
    """The projection of images that all have negative values, with ``RIDGE / v`` of each."""
    bound = largest + ridge
    # The gradient of an error of sqrt(v) is ridge sqrt(v), and v is RIDGE / ridge.
    limit = TOLERANCE**2 * RIDGE * x[0].numel() * ridge.flatten()
    z = x.clamp_min(0)
    ahead, momentum = z, torch.ones_like(ridge)
    running = torch.ones_like(ridge, dtype=torch.bool)
    for _ in range(MOST_ITERATIONS):
        change = ahead - x
        new = (ahead - (precision(change) + ridge * change) / bound).clamp_min(0)
        gradient = bound * (ahead - new)
        uphill = _sum(gradient * (new - z)) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        step = torch.where(uphill, 0.0, (momentum - 1) / following)
        near = _sum(gradient.square()).flatten() <= limit
        z, ahead = torch.where(running, new, z), new + step * (new - z)
        running &= ~near.view_as(running)
        if not bool(running.any()):
            break
        momentum = following
    return z


def _sum(images: Tensor) -> Tensor:
    return per_image(images.flatten(1).sum(1, dtype=torch.float64), images)
