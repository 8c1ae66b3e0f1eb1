"""Noise ladders: decreasing noise levels ``s_0 > ... > s_K``, fixed or adapted to the weights.

The first level is one where the noised prior is nearly Gaussian; the last one is ``tau``, where the
run stops early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tiltkit.errors import UsageError

__all__ = ["bounds", "ladder", "adaptive_level"]


def ladder(sigma_max: float, tau: float, levels: int, rho: float = 7.0) -> list[float]:
    """``levels`` noise levels from ``sigma_max`` to ``tau``, evenly spaced in ``sigma^(1/rho)``.

    Karras et al., arXiv:2206.00364, equation 5. A large ``rho`` gives a nearly constant ratio of
    neighbouring levels. A smaller one puts more levels at high noise, where modes separate.
    """
    steps = np.linspace(sigma_max ** (1 / rho), tau ** (1 / rho), levels)
    # The ends are the arguments themselves, so that they compare equal.
    return [sigma_max, *(float(s) for s in steps[1:-1] ** rho), tau]


# Length of an adapted level over that of a planned one. Chosen by hand: one noisy estimate of the
# KL divergence must not use up the ladder.
SHORTEST, LONGEST = 0.25, 4.0


def adaptive_level(
    path: Sequence[float],
    kls: Sequence[float],
    predicted_kl: Callable[[float], float],
    plan: Sequence[float],
    rho: float,
) -> float:
    """The next noise level of a ladder whose levels contribute equally to the path's KL divergence.

    The contribution of a level grows with the square of its length. The sum over a given number of
    levels is therefore least where all contributions are equal. The ladder has as many levels as
    planned, each `SHORTEST` to `LONGEST` times as long as planned.

    Args:
        path: Noise levels so far.
        kls: Contribution of each of them in nats (`path_kl`); 0 for the first.
        predicted_kl: From a noise level to the contribution of a level that ends there.
        plan: The planned ladder, evenly spaced in ``sigma^(1/rho)``.
        rho: Exponent of the ladder.
    """
    u = [level ** (1 / rho) for level in (*path, plan[-1])]
    length = (plan[0] ** (1 / rho) - u[-1]) / (len(plan) - 1)
    left = len(plan) - len(path)
    if left <= 1:
        return plan[-1]
    even = (u[-2] - u[-1]) / (left * length)  # planned lengths per remaining level
    # The square root of a contribution is proportional to the length: compare both at one length.
    past = [math.sqrt(max(kl, 0.0)) * length / (a - b) for a, b, kl in
            zip(u[:-2], u[1:-1], kls[1:], strict=True)]  # fmt: skip
    ahead = math.sqrt(max(predicted_kl(max(u[-2] - length, u[-1]) ** rho), 1e-12))
    average = (sum(past) + ahead) / (len(past) + 1)
    factor = even * min(max(average / ahead, SHORTEST), LONGEST)
    # At most half of the remaining distance, so that no later level has to be very long.
    chosen = u[-2] - min(factor, 0.5 * even * left) * length
    return max(float(chosen**rho), plan[-1])


def bounds(
    sigma_range: tuple[float, float], sigma_max: float | None, tau: float | None
) -> tuple[float, float]:
    """First and last noise level: the options, or the ends of the prior's noise range.

    Args:
        sigma_range: The prior's smallest and largest noise level.
        sigma_max: First level; None for the prior's largest.
        tau: Last level; None for the prior's smallest.

    Raises:
        UsageError: A level is outside the prior's noise range, the order is wrong, or the first
            level is beyond single precision.
    """
    low, high = sigma_range
    first = high if sigma_max is None else sigma_max
    last = low if tau is None else tau
    if first > 1e18:  # its square must fit single precision
        raise UsageError(
            f"The first noise level is {first:g}, and its square is beyond single precision.",
            "rescale the prior and the data so that image values are about 1.",
        )
    if not low <= last < first <= high:
        raise UsageError(
            f"The noise ladder from {first:g} to {last:g} does not lie within {high:g} to {low:g},"
            " the noise range of the prior.",
            "leave out sampler.sigma_max and sampler.tau, or choose them inside that range.",
        )
    return first, last
