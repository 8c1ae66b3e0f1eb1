"""Stripe filters take stripes, and hardly anything of the object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.stripes import remove_stripes


@pytest.fixture
def clean(project: Callable[..., Any]) -> Any:
    return project(np.pi * np.arange(180) / 180, 255, 130.0, 100).astype(np.float32)


def rms(x: Any) -> float:
    return float(np.sqrt(np.mean(x**2)))


@pytest.mark.parametrize("kind", ["sort", "wavelet"])
def test_a_sinogram_without_stripes_stays_as_it_is(clean: Any, kind: Any) -> None:
    assert rms(remove_stripes(clean, kind) - clean) < 0.01 * rms(clean)


@pytest.mark.parametrize(("kind", "left"), [("sort", 0.66), ("wavelet", 0.6)])
def test_narrow_stripes_get_weaker(clean: Any, kind: Any, left: float) -> None:
    stripes = 0.02 * np.random.default_rng(0).normal(size=clean.shape[1]).astype(np.float32)
    filtered = remove_stripes(clean + stripes, kind)
    assert filtered.dtype == np.float32
    assert rms(filtered - clean) < left * rms(stripes)


def test_single_strong_stripes_vanish(clean: Any) -> None:
    stripes = np.zeros(clean.shape[1], np.float32)
    stripes[[100, 150, 170]] = 0.3
    filtered = remove_stripes(clean + stripes, "sort")
    assert rms(filtered - clean) < 0.2 * rms(stripes)


def test_stripes_of_the_given_width_vanish(clean: Any) -> None:
    stripes = np.zeros(clean.shape[1], np.float32)
    stripes[110:115] = 0.3
    filtered = remove_stripes(clean + stripes, "sort", width=9)
    assert rms(filtered - clean) < 0.3 * rms(stripes)
    assert rms(remove_stripes(clean + stripes, "sort", width=2) - clean) > 0.8 * rms(stripes)


def test_none_gives_back_the_sinogram(clean: Any) -> None:
    assert remove_stripes(clean, "none") is clean
