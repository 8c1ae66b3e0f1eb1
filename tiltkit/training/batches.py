"""Batches of training pairs, drawn by step and place, so that a resumed run draws the same."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tiltkit.training.augment import draw_crop
from tiltkit.training.images import Image
from tiltkit.training.recipe import Augmentation

__all__ = ["Batch", "Batches", "batches", "pair"]

Array = NDArray[np.float32]
# A piece's (input, target, sigma, noise of the target's image).
Batch = tuple[Tensor, Tensor, Tensor, Tensor]

# Largest factor by which a piece is brightened; `tiltkit prior check` tests the same range.
_BRIGHTEST = 10.0


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """The batch of a step, by its number.

    Every piece has a generator of its own, seeded by round, step and its place in the batch of all
    devices: no state has to be saved, and the batch does not depend on the number of devices.

    Attributes:
        images: Images to draw from, each with the same probability.
        crop: Side of a piece in pixels.
        batch: Pieces per step over all devices.
        augment: Kind of augmentation.
        sigma_range: Smallest and largest noise level.
        sigma_data: Root mean square of the images.
        seed: Seed of all random numbers.
        bright: Share of the pieces that are made up to ten times too bright, as samples may be on
            their way to the data. Only for images without noise of their own.
        round: Number of the round; each draws other pieces and noise.
        rank: Number of this device.
        ranks: Number of devices.
    """

    images: Sequence[Image]
    crop: int
    batch: int
    augment: Augmentation
    sigma_range: tuple[float, float]
    sigma_data: float
    seed: int
    bright: float = 0.0
    round: int = 0
    rank: int = 0
    ranks: int = 1

    def __getitem__(self, step: int) -> Batch:
        """The pairs of one step: two times (batch, channel, crop, crop), two times (batch,)."""
        rows = [self._row(step, place) for place in range(self.rank, self.batch, self.ranks)]
        noisy, target, sigma, noise = zip(*rows, strict=True)
        return (
            torch.from_numpy(np.stack(noisy)),
            torch.from_numpy(np.stack(target)),
            torch.tensor(sigma, dtype=torch.float32),
            torch.tensor(noise, dtype=torch.float32),
        )

    def _row(self, step: int, place: int) -> tuple[Array, Array, float, float]:
        rng = np.random.default_rng((self.seed, step, place, self.round))
        image = self.images[int(rng.integers(len(self.images)))]
        given = draw_crop(image.values, self.crop, self.augment, rng)
        sigma = self._draw_sigma(rng)
        if self.bright and rng.random() < self.bright:
            given = given * np.float32(_BRIGHTEST ** rng.random())
        xi = rng.standard_normal(given.shape, dtype=np.float32)
        return *pair(given, image.noise, sigma, xi), sigma, image.noise

    def _draw_sigma(self, rng: np.random.Generator) -> float:
        """Mostly log-normal around a third of the images' size, else log-uniform."""
        low, high = map(math.log, self.sigma_range)
        if rng.random() < 0.75:
            log = math.log(self.sigma_data / 3) + 1.2 * rng.standard_normal()
        else:
            log = rng.uniform(low, high)
        return math.exp(min(max(log, low), high))


def pair(
    given: Array,
    noise: float,
    sigma: float,
    xi: Array,
) -> tuple[Array, Array]:
    """Input of noise level ``sigma`` and target for a denoiser, from one image.

    An image with noise of its own is split into two whose noises are independent (recorrupted to
    recorrupted, Pang et al., CVPR 2021), so the best guess of the target is that of the clean
    image. Without noise of its own the target is the image: plain denoising score matching.

    Args:
        given: Image of any shape.
        noise: Standard deviation of its own noise, below ``sigma``.
        sigma: Noise level of the input.
        xi: Standard normal, shaped as the image.
    """
    added = math.sqrt(sigma**2 - noise**2)
    return given + np.float32(added) * xi, given - np.float32(noise**2 / added) * xi


def batches(source: Batches, first: int, workers: int, *, pin: bool) -> Iterator[Batch]:
    """The batches of the steps from ``first`` on, without end, drawn ahead by worker processes."""
    steps = range(first, 2**62)
    loader = DataLoader(
        source,
        sampler=steps,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=8 if workers else None,
        worker_init_fn=ignore_sigint,
        generator=torch.Generator(),  # else it would draw from the global one
    )
    return iter(loader)


def ignore_sigint(_worker: int) -> None:
    """Leave signals that reach every process to the main one, which saves its state first."""
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
