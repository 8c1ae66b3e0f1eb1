"""Noise ladders: from a level where the prior is all but Gaussian down to the smallest one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tiltkit.errors import UsageError

__all__ = ["bounds", "ladder", "adaptive_level"]


def ladder(sigma_max: float, tau: float, levels: int, rho: float = 7.0) -> list[float]:
    """``levels`` noise levels from ``sigma_max`` to ``tau``, evenly spaced in ``sigma^(1/rho)``.

    Karras et al., arXiv:2206.00364, equation 5. A large ``rho`` gives a constant ratio; a smaller
    one spends more levels on high noise, where modes are decided.
    """
    steps = np.linspace(sigma_max ** (1 / rho), tau ** (1 / rho), levels)
    # The ends exactly, so that they compare equal to what was asked for.
    return [sigma_max, *(float(s) for s in steps[1:-1] ** rho), tau]


def adaptive_level(
    path: Sequence[float],
    unevenness: Sequence[float],
    kl_of: Callable[[float], float],
    plan: Sequence[float],
    rho: float,
) -> float:
    """The next noise level, so that all levels make the weights about equally uneven.

    What a level adds to the KL of the weights grows with the square of its length, so its sum
    over a given number of levels is least where all levels add the same. Levels are a quarter to
    four times as long as planned, and as many as planned.

    Args:
        path: Noise levels so far.
        unevenness: What each of them added to the KL; 0 for the first.
        kl_of: What a level would add that goes to the given noise level.
        plan: The ladder as planned, with equal lengths in ``sigma^(1/rho)``.
        rho: Its shape.
    """
    u = [level ** (1 / rho) for level in (*path, plan[-1])]
    length = (plan[0] ** (1 / rho) - u[-1]) / (len(plan) - 1)
    left = len(plan) - len(path)
    if left <= 1:
        return plan[-1]
    even = (u[-2] - u[-1]) / (left * length)  # planned lengths for each level that is left
    past = [math.sqrt(max(kl, 0.0)) * length / (a - b) for a, b, kl in
            zip(u[:-2], u[1:-1], unevenness[1:], strict=True)]  # fmt: skip
    ahead = math.sqrt(max(kl_of(max(u[-2] - length, u[-1]) ** rho), 1e-12))
    usual = (sum(past) + ahead) / (len(past) + 1)
    factor = even * min(max(usual / ahead, 0.25), 4.0)
    # Never so long that a level is too few for what is left.
    chosen = u[-2] - min(factor, 0.5 * even * left) * length
    return max(float(chosen**rho), plan[-1])


def bounds(
    known: tuple[float, float], sigma_max: float | None, tau: float | None
) -> tuple[float, float]:
    """First and last noise level: the user's, or the range that the prior knows.

    Raises:
        UsageError: A level outside the prior's range, or in the wrong order.
    """
    low, high = known
    first = high if sigma_max is None else sigma_max
    last = low if tau is None else tau
    if first > 1e18:  # its square must fit single precision
        raise UsageError(
            f"The first noise level is {first:g}, beyond single precision.",
            "give the prior and the data other units, so that images are about 1.",
        )
    if not low <= last < first <= high:
        raise UsageError(
            f"The noise ladder from {first:g} to {last:g} does not lie within {high:g} to {low:g},"
            " the noise levels that the prior knows.",
            "leave out sampler.sigma_max and sampler.tau, or choose them inside that range.",
        )
    return first, last
