"""tiltkit: posterior samples, uncertainty and a certificate from instrument files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiltkit.api import calibrate, load_calibration, load_result, reconstruct, sample
    from tiltkit.config import Recipe
    from tiltkit.errors import TiltkitError
    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.plugins import load_plugins
    from tiltkit.problem import Problem
    from tiltkit.recon.result import Result
    from tiltkit.recon.scan import run_scan

__version__ = "0.1.0"

__all__ = [
    "GaussianLikelihood", "Problem", "Recipe", "Result", "TiltkitError", "__version__",
    "calibrate", "load_calibration", "load_plugins", "load_result", "reconstruct", "run_scan",
    "sample",
]  # fmt: skip

# Where the public names live: loaded on first use, so that `import tiltkit` costs nothing.
_PUBLIC = {
    "GaussianLikelihood": "tiltkit.likelihoods",
    "Problem": "tiltkit.problem",
    "Recipe": "tiltkit.config",
    "Result": "tiltkit.recon.result",
    "TiltkitError": "tiltkit.errors",
    "calibrate": "tiltkit.api",
    "load_calibration": "tiltkit.api",
    "load_plugins": "tiltkit.plugins",
    "load_result": "tiltkit.api",
    "reconstruct": "tiltkit.api",
    "run_scan": "tiltkit.recon.scan",
    "sample": "tiltkit.api",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tiltkit' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
