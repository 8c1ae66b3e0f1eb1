"""Noise ladders: from a level where the prior is all but Gaussian down to the smallest one."""

from __future__ import annotations

import numpy as np

from tiltkit.errors import UsageError

__all__ = ["bounds", "ladder"]


def ladder(sigma_max: float, tau: float, levels: int, rho: float = 7.0) -> list[float]:
    """``levels`` noise levels from ``sigma_max`` to ``tau``, evenly spaced in ``sigma^(1/rho)``.

    Karras et al., arXiv:2206.00364, equation 5. A large ``rho`` gives a constant ratio; a smaller
    one spends more levels on high noise, where modes are decided.
    """
    steps = np.linspace(sigma_max ** (1 / rho), tau ** (1 / rho), levels)
    # The ends exactly, so that they compare equal to what was asked for.
    return [sigma_max, *(float(s) for s in steps[1:-1] ** rho), tau]


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
    if not low <= last < first <= high:
        raise UsageError(
            f"The noise ladder from {first:g} to {last:g} does not lie within {high:g} to {low:g},"
            " the noise levels that the prior knows.",
            "leave out sampler.sigma_max and sampler.tau, or choose them inside that range.",
        )
    return first, last
