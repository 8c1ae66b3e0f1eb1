"""Small results, made without sampling."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltkit.cli.signals import NAMES
from tiltkit.hookspecs import Entry
from tiltkit.io.result import ResultWriter
from tiltkit.plugins import Plugin
from tiltkit.posterior.outcome import Outcome
from tiltkit.protocols import Axis, Layout

from .blurred import blurred
from .modes import two_modes

__all__ = ["blurred", "two_modes"]  # fixtures

SLICES, NY, NX, SAMPLES = 3, 12, 10, 4
RECIPE: dict[str, Any] = {
    "seed": 1,
    "samples": SAMPLES,
    "device": "auto",
    "memory_gb": None,
    "task": {"name": "mri-recon", "maps": "espirit"},
    "prior": {"name": "mri.brain"},
}
PROVENANCE: dict[str, Any] = {
    "command": "tiltkit run mri-recon scan.h5",
    "date": "2026-01-02T03:04:05+00:00",
    "raw_file": "scan.h5",
    "raw_size": 1234,
    "raw_sha256": "ab" * 32,
    "versions": {"tiltkit": "0.1.0", "torch": "2.14.1"},
    "plugins": {"tiltkit-mri": "0.1.0"},
}


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Commands keep their handlers until the process ends; tests put the former ones back."""
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before, hook = {number: signal.getsignal(number) for number in numbers}, sys.unraisablehook
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook


@pytest.fixture
def recipe() -> dict[str, Any]:
    """The settings that made the results here."""
    return dict(RECIPE)


@pytest.fixture
def provenance() -> dict[str, Any]:
    """Where the results here come from."""
    return dict(PROVENANCE)


@pytest.fixture
def layout() -> Layout:
    """Three slices of 12 x 10 pixels."""
    return Layout(
        axes=(
            Axis("z", [0.0, 5.0, 10.0], "mm", "slice position"),
            Axis("y", np.arange(NY) * 1.2, "mm"),
            Axis("x", np.arange(NX) * 1.2, "mm"),
        ),
        title="brain",
        metadata={"ismrmrd_header": "<xml/>", "scanner": {"field_t": 3.0}},
    )


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    """A posterior of one slice whose samples agree with its mean and spread."""

    def make(seed: int = 0, levels: int = 7, **changes: Any) -> Outcome:
        rng = np.random.default_rng(seed)
        samples = rng.normal(1e-6, 1e-7, (SAMPLES, NY, NX)).astype(np.float32)
        values: dict[str, Any] = {
            "mean": samples.mean(0),
            "std": samples.std(0, ddof=1),
            "quantiles": {
                q: np.quantile(samples, q, axis=0).astype(np.float32) for q in (0.05, 0.5, 0.95)
            },
            "samples": samples,
            "baseline": samples[0] * np.float32(0.9),
            "phase": rng.uniform(-3, 3, (NY, NX)).astype(np.float32),
            "diagnostics": {
                "noise_level": np.geomspace(10, 0.01, levels),
                "ess": list(np.linspace(3.9, 2.5, levels)),
                "ess_min": 2.5,
                "chi2": 1.02,
                "network_calls": 98,
                "device": "cpu",
                "verdict": "ok",
            },
        }
        return Outcome(**values | changes)

    return make


@pytest.fixture
def start(tmp_path: Path, layout: Layout) -> Callable[..., ResultWriter]:
    """Opens a writer of ``out.h5``; keyword arguments change how."""

    def make(**changes: Any) -> ResultWriter:
        arguments: dict[str, Any] = {
            "layout": layout,
            "samples": SAMPLES,
            "recipe": RECIPE,
            "provenance": PROVENANCE,
            "resume": False,
            "overwrite": False,
        }
        return ResultWriter.open(tmp_path / "out.h5", **arguments | changes)

    return make


@pytest.fixture
def result(
    tmp_path: Path, start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> Path:
    """A complete result file."""
    with start() as writer:
        for index in range(SLICES):
            writer.write(index, outcome(index))
        writer.finish()
    return tmp_path / "out.h5"


class FakePlugins:
    """A minimal plugin host: entries of one kind, and the objects that their targets name."""

    def __init__(self, kind: str, targets: dict[Entry, Any]) -> None:
        self.kind = kind
        self.targets = targets

    def entries(self, kind: str) -> list[Entry]:
        return list(self.targets) if kind == self.kind else []

    def owner(self, kind: str, name: str) -> Plugin:
        return Plugin("lab", "lab-parts", "1.0", "lab_parts")

    def load(self, kind: str, name: str) -> Any:
        target = next(t for entry, t in self.targets.items() if entry.name == name)
        if isinstance(target, Exception):
            raise target
        return target


@pytest.fixture
def fake_plugins() -> type[FakePlugins]:
    """Makes a plugin host: ``fake_plugins(kind, {entry: target})``."""
    return FakePlugins
