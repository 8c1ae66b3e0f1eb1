"""What a prior's training images are like, as its own network sees them; how far another one is.

Mahalanobis distance in the space of a network's features (Lee, Lee, Lee and Shin, NeurIPS 2018,
arXiv:1807.03888), for one class and with a ridge, because images are few. The residual noise along
the ladder cannot do this alone: a smooth image of something else fits the prior of heads well at
every noise level, and is reported with honest intervals, but its anatomy is not one that the prior
has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiltkit.errors import TiltkitError

__all__ = ["FALSE_ALARMS", "LEVEL", "Profile", "profile_of"]

# Share of training-like images that is allowed to lie beyond the limit.
FALSE_ALARMS = 0.02
# Noise level that the network takes images to have: the coarse features of the object remain.
LEVEL = 0.2
# Of the variances of standardised features: directions that few images fill count less.
_RIDGE = 0.1
# Features of a mean image with almost no spread carry rounding errors only.
_LEAST = 1e-4
_MOST_FOLDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Where the features of images lie that a prior was trained for.

    Attributes:
        mean: (feature,).
        whiten: (feature, feature); lengths after it are distances, 1 is the limit.
    """

    mean: Tensor
    whiten: Tensor

    def distance(self, features: Tensor) -> Tensor:
        """How unlike the training images features (batch, feature) are; 1 is the limit."""
        centred = features.double().cpu() - self.mean.double()
        return (centred @ self.whiten.double()).norm(dim=1)


def profile_of(
    subjects: Sequence[Tensor],
    *,
    augmented: Sequence[Tensor] = (),
    others: Sequence[Tensor] = (),
) -> Profile:
    """The profile of training images, its limit set by subjects that it has not seen.

    Each subject's images are compared with a profile of all others; the limit is the distance that
    `FALSE_ALARMS` of them exceed. Subjects count alike, however many images they have.

    Args:
        subjects: Features (image, feature) of the images of each subject that was trained on.
        augmented: More of each of them, of images changed as in training: these widen the profile,
            and do not set the limit.
        others: Of subjects that were held out: they set the limit, and are not in the profile.

    Raises:
        TiltkitError: Fewer than two subjects.
    """
    if len(subjects) + len(others) < 2:
        raise TiltkitError("One subject cannot tell how much subjects differ.", "give two or more.")
    own = [part.double() for part in subjects]
    more = [part.double() for part in augmented]
    all_of = [torch.cat(pair) for pair in zip(own, more, strict=True)] if more else own
    whole = _fitted(all_of)
    found = [whole.distance(part) for part in others]
    folds = min(len(own), _MOST_FOLDS)
    for fold in range(folds if folds > 1 else 0):
        kept = [part for k, part in enumerate(all_of) if k % folds != fold]
        found += [_fitted(kept).distance(part) for part in own[fold::folds]]
    weights = torch.cat([torch.full_like(d, 1 / len(d)) for d in found])
    limit = _quantile(torch.cat(found), weights, 1 - FALSE_ALARMS)
    return Profile(whole.mean.float(), (whole.whiten / limit).float().contiguous())


def _fitted(parts: Sequence[Tensor]) -> Profile:
    """Mean and inverse square root of the covariance, without a limit."""
    weights = torch.cat([torch.full((len(p),), 1 / len(p) / len(parts)) for p in parts]).double()
    features = torch.cat(list(parts))
    mean = weights @ features
    centred = features - mean
    std = (weights @ centred.square()).sqrt().clamp_min(_LEAST)
    scaled = centred / std
    variances, directions = torch.linalg.eigh(scaled.T @ (weights[:, None] * scaled))
    whiten = directions * (variances.clamp_min(0) + _RIDGE).rsqrt()
    return Profile(mean, whiten / std[:, None])


def _quantile(values: Tensor, weights: Tensor, share: float) -> Tensor:
    """The smallest value that a share of the weight does not exceed."""
    ordered, order = values.sort()
    reached = weights[order].cumsum(0) / weights.sum()
    return ordered[(reached < share).sum().clamp_max(len(ordered) - 1)]
