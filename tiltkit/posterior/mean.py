"""The posterior mean, from samples and from what the way to them leaves to expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from tiltkit.posterior.average import Average, Averaging

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PosteriorMean", "shrunk"]


class PosteriorMean:
    """A mean with less chance in it than that of a few samples.

    A particle at a high noise level says little of its image; what it leaves to expect, given the
    data, differs less from particle to particle than samples do, and has the same mean (law of
    total expectation; Rao and Blackwell). On the way down the mean of these expectations wanders:
    by chance, since every level fixes more detail of every particle at random, and because early
    expectations are only roughly right. How far chance moves it is known from the particles, so
    that the estimate follows each level only by what is beyond that, see `shrunk`.

    With many samples chance moves little, and the estimate is their mean.
    """

    def __init__(self) -> None:
        self._expected: Average | None = None
        self._samples, self._rounds = Averaging(), Averaging()

    def expect(self, new: Average) -> None:
        """Take in the mean of what the particles of a level leave to expect."""
        self._expected = new if self._expected is None else shrunk(self._expected, new)

    def collect(self, images: Tensor) -> None:
        """Take in a round of samples (particle, *image), which need not differ much from others."""
        ones = torch.ones(len(images), dtype=torch.float64, device=images.device)
        self._samples.add(images, ones)
        self._rounds.add(images.mean(0, keepdim=True), ones[:1])

    @property
    def image(self) -> Tensor:
        """The estimate (*image), float64; the mean of samples where nothing else is known.

        Raises:
            ValueError: There were no samples.
        """
        samples = self._of_samples()
        if self._expected is None:
            return samples.image
        mean = shrunk(self._expected, samples)
        # Bands move by themselves, which may take a mean of positive images below zero.
        return mean.image.clamp_min(mean.least)

    def _of_samples(self) -> Average:
        """The mean of all rounds.

        Independent rounds scatter by as much as each is uncertain. What they scatter less, they
        have in common, and it does not average out. A single particle tells nothing of chance.
        """
        rounds = self._rounds.count
        others = self._samples.count / max(rounds, 1) - 1
        of_one = self._samples.scatter * (1 / others if others > 0 else 0.0)
        chance = torch.maximum(of_one - self._rounds.scatter, of_one / rounds)
        return Average(self._samples.image, chance, self._samples.least)

    def dump(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Tensors and numbers that `restore` takes."""
        parts = {"samples": self._samples.dump(), "rounds": self._rounds.dump()}
        if self._expected is not None:
            parts["expected"] = asdict(self._expected)
        return {f"{p}.{name}": t for p, part in parts.items() for name, t in part.items()}, {}

    def restore(self, tensors: Mapping[str, Tensor], _numbers: Mapping[str, int]) -> None:
        """Put back what `dump` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): t for name, t in tensors.items()
                if name.startswith(prefix)
            }  # fmt: skip

        self._samples.restore(part("samples."))
        self._rounds.restore(part("rounds."))
        expected = part("expected.")
        self._expected = Average(**expected) if expected else None


def shrunk(old: Average, new: Average) -> Average:
    """The old mean, moved towards a newer one by what chance does not explain.

    Both have the same expectation but for what is wrong with the old one. In each band of ``k``
    coefficients, ``d`` the difference and ``v`` by how much the new one's squared chance is larger,
    by ``(1 - (1 - 2 / k) v / |d|^2) d``, or not at all where that is negative: the positive part of
    James and Stein's estimator (Berkeley Symposium 1961) of what is wrong.
    """
    bands = old.bands
    difference = (new.image - old.image)[None]
    moved = bands.inner(difference, difference)[0]
    shrinking = (1 - 2 / bands.sizes(difference[0])).clamp_min(0)
    more = (new.chance - old.chance).clamp_min(0)
    follow = torch.where(moved > 0, 1 - shrinking * more / moved, 0.0).clamp(0, 1)
    image = old.image + bands.scale(difference, bands.spread_out(follow.tolist()))[0]
    # All of the way is the new mean, which may be the more certain one.
    chance = torch.where(follow < 1, old.chance + follow.square() * more, new.chance)
    return Average(image, chance, torch.minimum(old.least, new.least))
