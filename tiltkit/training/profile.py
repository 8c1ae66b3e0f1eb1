"""The profile of the training images, for warnings about images that differ from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.profile import Look, Profile, describe, profile_of
from tiltkit.training.augment import draw_crop
from tiltkit.training.images import Image
from tiltkit.training.job import Job

__all__ = ["training_profile"]

# Pieces over all subjects, at least this many of each; subjects, and pixels along a side, at most.
_PIECES, _FEWEST, _SUBJECTS, _SIDE = 320, 4, 160, 384
_AT_ONCE = 8  # pieces per call of the network: memory


def training_profile(job: Job, network: ScoreUNet, device: torch.device) -> Profile | None:
    """The profile of all subjects, held-out ones included, at most 160 evenly chosen.

    Its images are the largest squares that fit into all images, augmented as in training. None for
    noisy training images: samples of a run have no noise and would differ from them.

    Args:
        job: The training.
        network: The trained network in evaluation mode, on the device.
        device: Device of the network.
    """
    if job.recipe.data.noise:
        return None
    subjects = [*job.split.train, *job.split.held_out]
    subjects = subjects[:: math.ceil(len(subjects) / _SUBJECTS)]
    side = min(_SIDE, *(n for s in subjects for x in s.images for n in x.values.shape[-2:]))
    count = max(_FEWEST, _PIECES // len(subjects))
    looks: list[list[Look]] = []
    for k, subject in enumerate(subjects):
        rng = np.random.default_rng((job.recipe.seed, 3, k))
        looks.append([
            describe(network, batch.to(device), seed=int(rng.integers(2**31)))
            for batch in _pieces(subject.images, count, side, job, rng)
        ])  # fmt: skip
    return profile_of([[(a.cpu(), b.cpu()) for a, b in subject] for subject in looks])


def _pieces(
    images: Sequence[Image], count: int, side: int, job: Job, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Batches of pieces (batch, channel, side, side) of one subject."""
    for first in range(0, count, _AT_ONCE):
        drawn = rng.integers(len(images), size=min(_AT_ONCE, count - first))
        augment = job.recipe.data.augment
        pieces = [draw_crop(images[i].values, side, augment, rng) for i in drawn]
        yield torch.from_numpy(np.stack(pieces).astype(np.float32))
