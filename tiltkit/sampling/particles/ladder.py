"""Noise ladders: decreasing noise levels ``s_0 > ... > s_K`` from the first level to ``tau``."""

from __future__ import annotations

import numpy as np

from tiltkit.errors import UsageError

__all__ = ["bounds", "ladder"]


def ladder(sigma_max: float, tau: float, levels: int, rho: float = 7.0) -> list[float]:
    """``levels`` noise levels from ``sigma_max`` to ``tau``, evenly spaced in ``sigma^(1/rho)``.

    Karras et al., arXiv:2206.00364, equation 5. A large ``rho`` gives a nearly constant ratio of
    neighbouring levels. A smaller one puts more levels at high noise, where modes separate.
    """
    steps = np.linspace(sigma_max ** (1 / rho), tau ** (1 / rho), levels)
    # The ends are the arguments themselves, so that they compare equal.
    return [sigma_max, *(float(s) for s in steps[1:-1] ** rho), tau]


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
