"""Small volumes that look a little like anatomy, and recipes that train for seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltkit.training.recipe import TrainRecipe, resolve

Recipe = Callable[..., TrainRecipe]


def volume(seed: int, slices: int = 4, height: int = 36, width: int = 32) -> np.ndarray:
    """Ellipses of several brightnesses, different for every seed and slice."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    out = np.zeros((slices, height, width))
    for image in out:
        for _ in range(6):
            a, b, r, value = *rng.uniform(-0.6, 0.6, 2), rng.uniform(0.1, 0.5), rng.uniform(0.3, 1)
            image[(x - a) ** 2 + (y - b) ** 2 < r**2] = value
    return (1000 * out).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four subjects, one .npy volume each."""
    data = tmp_path / "heads"
    data.mkdir()
    for seed in range(4):
        np.save(data / f"head{seed}.npy", volume(seed))
    return data


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """``recipe(path, data={...}, training={...})``: a tiny network, a few steps, the CPU."""

    def make(path: Path, **tables: Any) -> TrainRecipe:
        values = {
            "output": str(tmp_path / "prior.safetensors"),
            "device": "cpu",
            "data": {"paths": [str(path)]},
            "network": {"widths": [8, 16], "blocks": [1, 1]},
            "training": {
                "steps": 6, "checks": 2, "crop": 16, "batch": 4, "precision": "float32",
                "workers": 0,
            },
        }  # fmt: skip
        for name, table in tables.items():
            values[name] = {**values.get(name, {}), **table} if isinstance(table, dict) else table
        return resolve(values)

    return make
