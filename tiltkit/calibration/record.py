"""A calibration: its draws, its plan, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tiltkit.calibration.conformal import GUARANTEE, conformal_factors
from tiltkit.calibration.exchange import Curve, central_intervals, exchange_test
from tiltkit.calibration.verdict import Verdict, judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.calibration.draw import Draw

__all__ = ["Calibration", "Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a calibration does: all that its draws depend on.

    Attributes:
        kind: ``posterior`` for posterior SBC, ``images`` for reference images.
        draws: Number of draws.
        settings: The resolved recipe.
        image_shape: Shape of an image in the prior's units (channel, *space).
        data_shape: Shape of a measurement.
        noise: Standard deviation of Gaussian noise in the prior's units; 0 for counts.
        rows: Names of the regions, all pixels first.
        weights_sha256: Digest of the prior's weights; empty where it has none.
        raw_sha256: Digest of the scan.
        images_sha256: Digests of the reference images and of the labels of regions.
    """

    kind: Literal["posterior", "images"]
    draws: int
    settings: Mapping[str, Any]
    image_shape: tuple[int, ...]
    data_shape: tuple[int, ...]
    noise: float
    rows: tuple[str, ...]
    weights_sha256: str = ""
    raw_sha256: str = ""
    images_sha256: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """A calibration, complete or not.

    Attributes:
        plan: What it does.
        provenance: Input, versions and command, as nested mappings.
        mean: Posterior mean (*image) of the scan, or of the first reference image.
        labels: Regions (*image) of `mean`; see `tiltkit.calibration.regions.Regions`.
        given_labels: True where the user gave the labels, which then hold for all images.
        known: Known images (draw, channel, *space) in the prior's units.
        variances: Posterior variances (slice, *image) of the scan; empty for reference images.
        draws: Finished draws by number.
    """

    plan: Plan
    provenance: Mapping[str, Any]
    mean: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    given_labels: bool
    known: NDArray[np.float32]
    variances: NDArray[np.float32]
    draws: Mapping[int, Draw] = field(default_factory=dict)

    def with_draw(self, number: int, draw: Draw) -> Calibration:
        """The calibration with one more finished draw."""
        return replace(self, draws={**self.draws, number: draw})

    @property
    def samples(self) -> int:
        """Number of samples of a draw."""
        return int(self.plan.settings["samples"])

    def test(self) -> tuple[list[Curve], Verdict]:
        """Curves of all regions and groups of functions, and the verdict on the finished draws."""
        draws = [self.draws[k] for k in sorted(self.draws)]
        seed = int(self.plan.settings["seed"])
        curves, p = exchange_test([one.ranks for one in draws], self.plan.rows, seed)
        pixels = np.stack([one.ranks.pixels[0].sum(-1) for one in draws])
        gains = np.average([one.gain for one in draws], axis=0, weights=np.maximum(pixels, 1e-9))
        by_row = dict(zip(self.plan.rows, gains.tolist(), strict=True))
        return curves, judge(curves, p, self.samples, by_row, len(draws))

    def factors(self) -> dict[str, dict[str, float]]:
        """Conformal factors by region and level; empty for posterior SBC."""
        if self.plan.kind != "images" or len(self.draws) < self.plan.draws:
            return {}
        losses = [self.draws[k].exceedance for k in sorted(self.draws)]
        return conformal_factors(losses, self.plan.rows)

    def report(self) -> dict[str, Any]:
        """Verdict, coverage and factors as plain values, for JSON."""
        curves, verdict = self.test()
        held = np.mean([one.held for one in self.draws.values()], axis=0)
        found: dict[str, Any] = {
            "kind": self.plan.kind,
            "draws": len(self.draws),
            "samples": self.samples,
            "seconds": sum(one.seconds for one in self.draws.values()),
            "verdict": verdict.status,
            "text": verdict.text,
            "p_value": verdict.p_value,
            "regions": [_finite(asdict(one)) for one in verdict.spreads],
            "stored_intervals": dict(zip(self.plan.rows, held.tolist(), strict=True)),
            "curves": {curve.name: _curve(curve, self.samples) for curve in curves},
        }
        if factors := self.factors():
            found |= {"factors": {n: _finite(row) for n, row in factors.items()}}
            found |= {"guarantee": GUARANTEE}
        return found


def _curve(curve: Curve, samples: int) -> dict[str, Any]:
    """A curve as lists."""
    return {
        "outside": curve.score > 1,
        "nominal": central_intervals(samples).tolist(),
        "coverage": curve.coverage.tolist(),
        "coverage_band": curve.coverage_band.tolist(),
        "cumulative": curve.cumulative.tolist(),
        "cumulative_band": curve.cumulative_band.tolist(),
    }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with None for numbers that JSON does not know."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
