"""The posterior mean, from samples and from denoised means (Rao-Blackwell)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from tiltkit.posterior.average import MeanEstimate, StreamingMean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PosteriorMean", "shrink"]


class PosteriorMean:
    """Estimate of E[x0 | y] with less variance than the mean of a few samples.

    By the law of total expectation, E[x0 | y] is the mean of the denoised means E[x0 | x_a, y]
    over the particles x_a of any noise level ``a``. At high noise levels these vary less from
    particle to particle than samples do (Rao-Blackwell). They are more biased there, since the
    likelihood given x_a is approximate.

    The estimate therefore starts from the denoised means of the first level and is moved towards
    those of each later level, and at last towards the samples. In each band of spatial frequency
    it moves only by the part of the difference that the sampling variance does not explain: see
    `shrink`. With many samples their variance is small, and the estimate is their mean.
    """

    def __init__(self) -> None:
        self._denoised: MeanEstimate | None = None
        self.restart_samples()

    def add_denoised_mean(self, new: MeanEstimate) -> None:
        """Take in the mean of E[x0 | x_a, y] over the particles of the next noise level."""
        self._denoised = new if self._denoised is None else shrink(self._denoised, new)

    def add_samples(self, images: Tensor, projected: Tensor | None = None) -> None:
        """Take in a round of samples (particle, *image); rounds may be correlated.

        Args:
            images: The samples.
            projected: The same samples as nonnegative images, whose mean is estimated instead.
        """
        ones = torch.ones(len(images), dtype=torch.float64)
        self._samples.add(images, ones)
        self._rounds.add(images.mean(0, keepdim=True), ones[:1])
        if projected is not None:
            self._projected.add(projected, ones)
            self._positive.add((projected > 0).to(projected), ones)

    @property
    def image(self) -> Tensor:
        """The estimate (*image), float64; the mean of the samples without any denoised mean.

        Raises:
            ValueError: There were no samples.
        """
        samples = self._sample_mean()
        if self._denoised is None:
            return self._projected.image if self._projected.count else samples.image
        mean = shrink(self._denoised, samples)
        if self._projected.count:
            # Control variate: the regression of a projected value on the value itself has about
            # the share of positive values as its slope. Clipping the estimate instead would add
            # light, as its negative values are noise and ringing about 0.
            change = self._positive.image * (mean.image - samples.image)
            return (self._projected.image + change).clamp_min(0)
        # Each band moves by its own factor, which may take a mean of positive images below zero.
        return mean.image.clamp_min(mean.minimum)

    def restart_samples(self) -> None:
        """Leave out the samples taken in so far; denoised means stay."""
        self._samples, self._rounds = StreamingMean(), StreamingMean()
        self._projected, self._positive = StreamingMean(), StreamingMean()

    @property
    def round_scatter(self) -> Tensor:
        """(band,) scatter of the samples of a round about its mean, averaged over rounds.

        Raises:
            ValueError: There were no samples.
        """
        return (self._samples.scatter - self._rounds.scatter).clamp_min(0)

    def _sample_mean(self) -> MeanEstimate:
        """Mean of the samples of all rounds, and its sampling variance by band.

        The mean of one round of ``n`` particles has the variance ``scatter / (n - 1)``. The part of
        it that the rounds do not show among themselves is common to all of them and does not
        average out; at the least, the variance is that of independent rounds. A single particle
        gives no estimate of a variance: 0.
        """
        rounds = self._rounds.count
        dof = self._samples.count / max(rounds, 1) - 1
        per_round = self._samples.scatter * (1 / dof if dof > 0 else 0.0)
        variance = torch.maximum(per_round - self._rounds.scatter, per_round / rounds)
        return MeanEstimate(self._samples.image, variance, self._samples.minimum)

    def _means(self) -> dict[str, StreamingMean]:
        return {
            "samples": self._samples,
            "rounds": self._rounds,
            "projected": self._projected,
            "positive": self._positive,
        }

    def dump(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Tensors and numbers that `restore` takes."""
        parts = {name: mean.dump() for name, mean in self._means().items()}
        if self._denoised is not None:
            parts["denoised"] = asdict(self._denoised)
        return {f"{p}.{name}": t for p, part in parts.items() for name, t in part.items()}, {}

    def restore(self, tensors: Mapping[str, Tensor], _numbers: Mapping[str, int]) -> None:
        """Continue from what `dump` returned."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): t for name, t in tensors.items()
                if name.startswith(prefix)
            }  # fmt: skip

        for name, mean in self._means().items():
            mean.restore(part(f"{name}."))
        denoised = part("denoised.")
        self._denoised = MeanEstimate(**denoised) if denoised else None


def shrink(old: MeanEstimate, new: MeanEstimate) -> MeanEstimate:
    """The old mean, moved towards a newer one by James-Stein shrinkage in each band.

    Both estimate the same mean; the old one may be biased. Their difference ``d`` in a band of
    ``k`` coefficients estimates that bias, with the variance ``v`` by which the new estimate is
    the less certain one. The old mean moves by ``max(1 - (1 - 2 / k) v / |d|^2, 0) d``: the
    positive part of the estimator of James and Stein (4th Berkeley Symposium, 1961).
    """
    bands = old.bands
    difference = (new.image - old.image)[None]
    squares = bands.inner(difference, difference)[0]
    shrinkage = (1 - 2 / bands.sizes(difference[0])).clamp_min(0)
    excess = (new.variance - old.variance).clamp_min(0)
    step = torch.where(squares > 0, 1 - shrinkage * excess / squares, 0.0).clamp(0, 1)
    image = old.image + bands.scale(difference, bands.broadcast(step))[0]
    # A whole step gives the new mean, whose variance may be the smaller one.
    variance = torch.where(step < 1, old.variance + step.square() * excess, new.variance)
    return MeanEstimate(image, variance, torch.minimum(old.minimum, new.minimum))
