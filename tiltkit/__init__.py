"""tiltkit: posterior samples, uncertainty and a certificate from instrument files."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public names and where they live; loaded on first use, so that `import tiltkit` costs nothing.
_PUBLIC = {
    "GaussianLikelihood": "tiltkit.likelihoods",
    "Problem": "tiltkit.problem",
    "Recipe": "tiltkit.config",
    "TiltkitError": "tiltkit.errors",
    "load_plugins": "tiltkit.plugins",
    "run_scan": "tiltkit.recon.scan",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tiltkit' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
