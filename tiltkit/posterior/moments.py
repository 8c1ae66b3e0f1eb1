"""Streaming statistics of equally weighted samples, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Moments", "Quantiles", "interpolate_quantile"]

# Samples kept per pixel before the sketch of the quantiles halves itself: quantiles of at most 256
# samples are exact, and a slice needs the memory of at most 256 images.
CAPACITY = 256


class Moments:
    """Mean and standard deviation, by Welford's update in float64.

    Images are taken in by rounds. The rounds of a group of particles may be correlated or not, so
    that the scatter of their means is no part of the standard deviation.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None
        self._between: Tensor | None = None  # the part of the squares between means of rounds

    def add(self, images: Tensor) -> None:
        """Take in a round of images (n, *image)."""
        batch = images.double()
        new = Moments()
        new.count, new._mean = len(batch), batch.mean(0)
        new._squares = (batch - new._mean).square().sum(0)
        new._between = torch.zeros_like(new._squares)
        whole = self.merged(new, same_group=True)
        self.count, self._mean = whole.count, whole._mean
        self._squares, self._between = whole._squares, whole._between

    def merged(self, other: Moments, *, same_group: bool = False) -> Moments:
        """Moments of the samples of both; neither is changed.

        Args:
            other: Further samples.
            same_group: True for further rounds of the same particles, false for other particles.
        """
        both = Moments()
        if self._mean is None or self._squares is None or not other.count:
            return self if self.count else other
        assert other._mean is not None and other._squares is not None  # noqa: S101, PT018
        assert self._between is not None and other._between is not None  # noqa: S101, PT018
        both.count = self.count + other.count
        mean, squares = other._mean.to(self._mean), other._squares.to(self._squares)
        shift, share = mean - self._mean, other.count / both.count
        both._mean = self._mean + share * shift
        apart = shift.square() * (self.count * share)
        both._squares = self._squares + squares + apart
        both._between = self._between + other._between.to(self._mean)
        if same_group:
            both._between += apart
        return both

    def dump(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Tensors and numbers that `restore` takes."""
        if self._mean is None or self._squares is None or self._between is None:
            return {}, {"count": 0}
        tensors = {"mean": self._mean, "squares": self._squares, "between": self._between}
        return tensors, {"count": self.count}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Continue from what `dump` returned."""
        self._mean, self._squares = tensors.get("mean"), tensors.get("squares")
        self._between = tensors.get("between")
        self.count = numbers["count"]

    @property
    def mean(self) -> Tensor:
        """Mean image, float64."""
        if self._mean is None:
            raise ValueError("no samples yet")
        return self._mean

    def std(self, independent: int | None = None) -> Tensor:
        """Standard deviation with Bessel's correction, float64; NaN for a single sample.

        Args:
            independent: Number of particles: the average over rounds of the variance within a
                round is corrected for it. All samples count as independent when None.
        """
        if self._squares is None or self._between is None:
            raise ValueError("no samples yet")
        share = 1 - 1 / (independent or self.count)
        squares = self._squares - self._between if independent else self._squares
        variance = squares.clamp_min(0) / self.count
        return (variance / share).sqrt() if share else variance * torch.nan


class Quantiles:
    """Quantiles of every pixel: exact up to 256 samples, a sketch beyond.

    When the sketch is full, each pixel's values are sorted, every second one is kept, and from
    then on only every second image is taken in (after Manku, Rajagopalan and Lindsay 1998).
    """

    def __init__(self) -> None:
        self._kept: list[Tensor] = []
        self._stride = 1
        self._count = 0

    def add(self, images: Tensor) -> None:
        """Take in images (n, *image)."""
        first = -self._count % self._stride
        self._kept.extend(image[None] for image in images[first :: self._stride])
        self._count += len(images)
        self._shrink()

    def merged(self, other: Quantiles) -> Quantiles:
        """Sketch of the images of both, which hold about as many; neither is changed."""
        fine, coarse = sorted((self, other), key=lambda sketch: sketch._stride)
        both = Quantiles()
        both._stride, both._count = coarse._stride, self._count + other._count
        kept = fine._kept
        if kept and fine._stride < coarse._stride:
            every = coarse._stride // fine._stride
            kept = list(torch.split(torch.cat(kept).sort(dim=0).values[every // 2 :: every], 1))
        both._kept = [image.to(self._kept[0]) for image in (*coarse._kept, *kept)]
        both._shrink()
        return both

    def _shrink(self) -> None:
        while len(self._kept) > CAPACITY:
            ordered = torch.cat(self._kept).sort(dim=0).values
            # Alternating between odd and even ranks keeps the errors from adding up.
            offset = self._stride.bit_length() % 2
            self._kept = list(torch.split(ordered[offset::2], 1))
            self._stride *= 2

    def dump(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Tensors and numbers that `restore` takes."""
        kept = {"kept": torch.cat(self._kept)} if self._kept else {}
        return kept, {"stride": self._stride, "count": self._count}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Continue from what `dump` returned."""
        self._kept = list(torch.split(tensors["kept"], 1)) if "kept" in tensors else []
        self._stride, self._count = numbers["stride"], numbers["count"]

    def at(self, levels: Sequence[float]) -> dict[float, Tensor]:
        """Quantile images at levels in (0, 1).

        Order statistic ``k`` of ``n`` stands for level ``k / (n + 1)``, so that an interval covers
        a further draw as often as it says; beyond the outermost ones the extremes are used.
        """
        ordered = torch.cat(self._kept).sort(dim=0).values
        return {level: interpolate_quantile(ordered, level) for level in levels}


def interpolate_quantile(ordered: Tensor, level: float) -> Tensor:
    """Quantile (*image) of images in rising order (n, *image); the rule is that of `Quantiles.at`.

    Args:
        ordered: Images, each pixel sorted along the first axis.
        level: Between 0 and 1.
    """
    last = len(ordered) - 1
    position = min(max(level * (last + 2) - 1, 0.0), float(last))
    low = int(position)
    return torch.lerp(ordered[low], ordered[min(low + 1, last)], position - low)
