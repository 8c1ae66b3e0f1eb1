"""Use of a calibration by a run: is it of the same kind of run, its citation, wider intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltkit.calibration.conformal import GUARANTEE, widen
from tiltkit.calibration.regions import ALL, Regions, labelled_regions, segment
from tiltkit.digest import digest
from tiltkit.errors import UsageError
from tiltkit.io.calibration import load_calibration
from tiltkit.problem import Note

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.calibration.record import Calibration
    from tiltkit.config import Recipe
    from tiltkit.posterior.outcome import Outcome
    from tiltkit.problem import Problem

__all__ = ["Calibrated", "use_calibration"]

# Level of the intervals between the outer quantile images of a result.
_LEVEL = 0.9
# Largest relative difference of noise levels at which factors are used.
_NOISE_TOLERANCE = 0.1
# Code of the note on a slice whose intervals are widened.
_WIDENED = "intervals_widened"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration that fits the settings of a run.

    Attributes:
        calibration: The calibration.
        path: Its file.
        sha256: Digest of the file.
        text: Its verdict in words.
        status: ``passed``, ``failed`` or ``not tested``.
        factors: Conformal factor of each region for 90 % intervals; empty without widening.
    """

    calibration: Calibration
    path: Path
    sha256: str
    text: str
    status: str
    factors: Mapping[str, float]

    def citation(self, raw_sha256: str) -> dict[str, Any]:
        """Record for the provenance of the result."""
        plan = self.calibration.plan
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "kind": plan.kind,
            "draws": plan.draws,
            "same_scan": plan.raw_sha256 == raw_sha256,
            "verdict": self.status,
            "text": self.text,
            "settings": json.dumps(plan.settings, default=str),
            "widened": bool(self.factors),
            **({"factors": dict(self.factors), "guarantee": GUARANTEE} if self.factors else {}),
        }

    def check(self, problem: Problem, *, tile: bool) -> None:
        """Check that a problem has the shapes of this one; tiles may be smaller.

        Raises:
            UsageError: The image or the measurement differs.
        """
        plan = self.calibration.plan
        shapes = [("images", plan.image_shape, tuple(problem.shape))]
        y = getattr(problem.likelihood, "y", None)
        if y is not None and not tile:
            shapes.append(("measurements", plan.data_shape, tuple(y.shape)))
        for what, old, new in shapes:
            small = tile and len(old) == len(new) and all(map(int.__ge__, old, new))
            if old != new and not small:
                raise self._refusal(f"{what} of shape {new}", f"{old}")

    def notes(self, problem: Problem) -> Iterator[Note]:
        """Notes for a slice of the result; one of them says if its intervals are widened."""
        plan = self.calibration.plan
        noise = getattr(problem.likelihood, "noise_var", 0.0) ** 0.5
        about = "reference images" if plan.kind == "images" else "posterior samples"
        text = f"Calibration with {plan.draws} {about}, {self.status}: {self.text}"
        yield Note("calibrated", text, assumed=self.status == "failed")
        if not self.factors:
            return
        if not math.isclose(noise, plan.noise, rel_tol=_NOISE_TOLERANCE):
            text = (
                f"Intervals are not widened: the noise is {noise:.3g} in the prior's units, but was"
                f" {plan.noise:.3g} in the calibration."
            )
            yield Note("intervals_not_widened", text, assumed=True)
        else:
            numbers = ", ".join(f"{name} {value:.2f}" for name, value in self.factors.items())
            text = (
                f"The intervals between the 5 and 95 % quantiles are widened to the mean plus and"
                f" minus {numbers} standard deviations. {GUARANTEE}"
            )
            yield Note(_WIDENED, text, assumed=True)

    def widened(self, outcome: Outcome) -> Outcome:
        """An outcome with its outer quantiles widened, where `notes` say so."""
        if all(note.code != _WIDENED for note in outcome.diagnostics.get("notes", ())):
            return outcome
        low, *_, high = sorted(outcome.quantiles)
        ends = widen(
            (outcome.quantiles[low], outcome.quantiles[high]), outcome.mean, outcome.std,
            self._regions(outcome.mean), self.factors,
        )  # fmt: skip
        return replace(outcome, quantiles={**outcome.quantiles, low: ends[0], high: ends[1]})

    def _regions(self, mean: NDArray[Any]) -> Regions:
        """Regions by the rule of the calibration."""
        own = self.calibration
        if not own.given_labels:
            return segment(mean)
        return replace(labelled_regions(own.labels, mean.shape), names=own.plan.rows[1:])

    def _refusal(self, here: str, there: str) -> UsageError:
        return UsageError(
            f"The calibration {self.path} does not fit: this run has {here}, the calibration"
            f" {there}.",
            "calibrate with these settings: tiltkit calibrate TASK SCAN.",
        )


def use_calibration(recipe: Recipe, weights_sha256: str) -> Calibrated | None:
    """Read the calibration of a recipe, and check that it is of the same kind of run.

    Args:
        recipe: The resolved recipe.
        weights_sha256: Digest of the prior's weights.

    Returns:
        None where the recipe has no calibration.

    Raises:
        UsageError: Task, prior, sampler or number of samples differ; or there are no factors to
            widen with.
        InputError: The file cannot be read, or is no complete calibration.
    """
    if recipe.calibration is None:
        if recipe.widen:
            raise UsageError(
                "Intervals cannot be widened without a calibration.",
                "name one with --calibration FILE.",
            )
        return None
    path = Path(recipe.calibration)
    found = load_calibration(path)
    _check_settings(path, found, recipe, weights_sha256)
    verdict = found.test()[1]
    factors = _factors(path, found) if recipe.widen else {}
    return Calibrated(found, path, digest(path), verdict.text, verdict.status, factors)


def _factors(path: Path, calibration: Calibration) -> dict[str, float]:
    """Factors of the regions for 90 % intervals.

    Raises:
        UsageError: The calibration has none, or too few images for one.
    """
    table = calibration.factors()
    if not table:
        raise UsageError(
            f"{path} has no conformal factors: it was made without reference images.",
            "calibrate with --images FILE..., or leave out --widen.",
        )
    factors = {name: row[f"{_LEVEL:g}"] for name, row in table.items() if name != ALL}
    if not all(map(math.isfinite, factors.values())):
        raise UsageError(
            f"{path} has {calibration.plan.draws} reference images, too few for 90 % intervals.",
            "calibrate with more images: 9 at the least, 20 or more for a useful factor.",
        )
    return factors


def _check_settings(
    path: Path, calibration: Calibration, recipe: Recipe, weights_sha256: str
) -> None:
    """Compare the settings that decide samples.

    Raises:
        UsageError: The first difference, with both values.
    """
    old = calibration.plan.settings
    new = json.loads(json.dumps(recipe.model_dump(), default=str))
    pairs = [("samples", old["samples"], new["samples"]), ("runs", old["runs"], new["runs"])]
    for part in ("task", "prior", "sampler"):
        keys = sorted({*old[part], *new[part]}, key=lambda key: (key != "name", key))
        pairs += [(f"{part}.{key}", old[part].get(key), new[part].get(key)) for key in keys]
    pairs.append(("weights of the prior", calibration.plan.weights_sha256, weights_sha256))
    for name, before, now in pairs:
        if before != now:
            raise UsageError(
                f"The calibration {path} does not fit: {name} is {now!r} in this run, but"
                f" {before!r} in the calibration.",
                "use the settings of the calibration, or calibrate with these.",
            )
