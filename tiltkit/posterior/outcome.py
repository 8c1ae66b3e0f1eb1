"""The posterior of one slice, as the engine returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["QUANTILES", "FurtherImage", "Outcome"]

# Levels of the quantile images; the outer two are the ends of the 90 % interval.
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True)
class FurtherImage:
    """An image beside those that every outcome has.

    Attributes:
        values: One image (*image), or one for each sample (n, *image); float32 or complex64.
        long_name: Name of the values for axis labels.
        units: Unit of the values; None for that of the result.
    """

    values: NDArray[Any]
    long_name: str
    units: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Posterior of one slice in the user's units, on the host.

    Images are float32, planes (ny, nx) or volumes (nz, ny, nx).

    Attributes:
        mean: Posterior mean, estimated from the samples and the denoised means E[x0 | x_a, y] of
            all levels (Rao-Blackwell): see `tiltkit.posterior.mean`.
        std: Posterior standard deviation (spread).
        quantiles: Level to image, for `QUANTILES`.
        samples: Equally weighted posterior samples (n, *image).
        baseline: Plain reconstruction without a prior.
        phase: Phase of the complex posterior mean in radians, or None for real images.
        diagnostics: The certificate: scalars (int, float, str) and per-level arrays, by name
            (``"noise_level"`` and ``"ess"`` have one value per level; ``"bands"`` are records;
            ``"ess_min"``, ``"chi2"``, ``"chi2_expected"``, ``"network_calls"``, ``"seconds"``, ...
            are scalars).
        particles: The samples in the prior's units (n, channel, *space), of which `samples` are the
            images; None where they are not kept.
        further: Further images by name: `tiltkit.posterior.further`.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    quantiles: Mapping[float, NDArray[np.float32]]
    samples: NDArray[np.float32]
    baseline: NDArray[np.float32]
    phase: NDArray[np.float32] | None
    diagnostics: Mapping[str, Any]
    particles: NDArray[np.float32] | None = None
    further: Mapping[str, FurtherImage] = field(default_factory=dict)
