"""Adaptive ladders: as many levels as planned, shorter where weights are uneven."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median

import pytest

from tiltkit.sampling.particles.ladder import adaptive_level, ladder


def walk(cost, levels=40, rho=7.0, first=10.0, last=0.01):
    """Follow `adaptive_level` where a level from a to b adds cost(a) * (log a/b)^2."""
    plan = ladder(first, last, levels, rho)
    path, kls = [first], [0.0]
    while path[-1] != last:
        a = path[-1]
        b = adaptive_level(path, kls, lambda x, a=a: cost(a) * math.log(a / x) ** 2, plan, rho)
        assert b < a
        kls.append(cost(a) * math.log(a / b) ** 2)
        path.append(b)
    return path, kls


def bump(level):
    return 1.0 + 30.0 * math.exp(-4 * math.log(level) ** 2)


def test_an_adaptive_ladder_has_as_many_levels_as_planned():
    assert abs(len(walk(bump)[0]) - 40) <= 2


def test_even_weights_leave_the_ladder_nearly_as_planned():
    path, _ = walk(lambda level: 1.0, rho=1000.0)
    planned = ladder(10.0, 0.01, 40, 1000.0)
    ratios = [math.log(a / b) for a, b in pairwise(path)]
    assert max(ratios) / min(ratios) < 1.5
    assert len(path) == pytest.approx(len(planned), abs=2)


def test_levels_are_shorter_where_weights_are_uneven_and_the_sum_is_smaller():
    path, kls = walk(bump, rho=1000.0)
    planned = ladder(10.0, 0.01, 40, 1000.0)
    before = sum(bump(a) * math.log(a / b) ** 2 for a, b in pairwise(planned))
    assert sum(kls) < before
    near = [math.log(a / b) for a, b in pairwise(path) if 0.7 < a < 1.4]
    far = [math.log(a / b) for a, b in pairwise(path) if a < 0.1]
    assert median(near) < median(far)
