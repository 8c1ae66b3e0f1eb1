"""Profile of a network's training images, to detect images that differ from them.

An image is noised to a few levels and denoised by the network. Two sets of values are computed over
the object: the share of the noise that the network leaves and its error, and mean and standard
deviation of its features at a noise level that hides all but the large structures. Both are
compared with those of the training images by the Mahalanobis distance in principal directions, as
in Lee et al., arXiv:1807.03888.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from tiltkit.priors.network import ScoreUNet

__all__ = ["Cloud", "Profile", "describe", "profile_of"]

# Noise levels, in root mean squares of the training images; features are noted at the last one.
_LEVELS = (0.1, 1 / 3, 1.0, 10 / 3)
# Smallest magnitude of the object, where bright pixels are about 1: darker ones are background.
_OBJECT = 0.1
# Side in pixels of the middle part that is compared: memory does not grow with the image.
_SIDE = 384
# Principal directions, at most, and at most this share of all directions and of the images.
_DIRECTIONS, _SHARE, _PER_IMAGE = 32, 0.75, 0.25
# Share of images of other subjects that are within the limit of a profile.
_WITHIN = 0.98
_FOLDS = 8  # of the cross-validation that sets the limit

Look = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Cloud:
    """A Gaussian in few principal directions, isotropic in all others.

    Attributes:
        centre, spread: Mean and standard deviation of each of the d values.
        axes: Principal directions (k, d) of standardised values.
        variance: Along these (k,).
        rest: Variance along every other direction ().
        unit: Distance that counts as 1 ().
    """

    centre: Tensor
    spread: Tensor
    axes: Tensor
    variance: Tensor
    rest: Tensor
    unit: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Cloud:
        """The cloud of values (n, d), at least 8 of them; distances in standard deviations."""
        n, d = values.shape
        centre, spread = values.mean(0), values.std(0).clamp_min(1e-6)
        _, size, axes = torch.linalg.svd((values - centre) / spread, full_matrices=False)
        k = max(1, min(_DIRECTIONS, int(_SHARE * d), int(_PER_IMAGE * n)))
        variance = size.square() / n
        rest = (variance[k:].sum() / max(d - k, 1)).clamp_min(1e-6)
        return cls(
            centre,
            spread,
            axes[:k].contiguous(),
            variance[:k].clamp_min(1e-6),
            rest,
            torch.ones(()),
        )

    def distance(self, values: Tensor) -> Tensor:
        """Distances (n,) of values (n, d), both kinds of directions with equal weight."""
        z = (values - self.centre) / self.spread
        along = z @ self.axes.T
        k, d = self.axes.shape
        beside = (z.square().sum(1) - along.square().sum(1)).clamp_min(0) / self.rest
        total = (along.square() / self.variance).mean(1) + beside / max(d - k, 1)
        return (total / 2).sqrt() / self.unit


@dataclass(frozen=True, slots=True)
class Profile:
    """Distributions of the values of `describe` over the training images.

    Attributes:
        residual: Distribution of the remaining noise and of the error.
        features: Distribution of the moments of the network's features.
    """

    residual: Cloud
    features: Cloud

    def training_distance(self, network: ScoreUNet, images: Tensor) -> Tensor:
        """Distance (batch,) of images (batch, channel, h, w) from the training images.

        98 % of training images have less than 1 under the profile of all other subjects.
        """
        return self.distance(*describe(network, images))

    def distance(self, residual: Tensor, features: Tensor) -> Tensor:
        """The same for the values of `describe`, on the CPU."""
        return torch.maximum(
            self.residual.distance(residual.cpu()), self.features.distance(features.cpu())
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by name, for a file."""
        parts = {"residual": self.residual, "features": self.features}
        return {
            f"{part}.{name}": getattr(cloud, name)
            for part, cloud in parts.items()
            for name in Cloud.__slots__
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Profile:
        """The profile from its `tensors`.

        Raises:
            KeyError: A tensor is missing.
        """
        return cls(*(
            Cloud(**{name: tensors[f"{part}.{name}"] for name in Cloud.__slots__})
            for part in ("residual", "features")
        ))  # fmt: skip


def profile_of(looks: Sequence[Sequence[Look]]) -> Profile:
    """The profile of training images.

    The limit comes from cross-validation: each group of subjects is compared with the profile of
    all others, as an image of a new subject would be.

    Args:
        looks: Values of `describe` for the images of each subject, two subjects at least.
    """
    groups = [looks[fold::_FOLDS] for fold in range(min(_FOLDS, len(looks)))]
    parts = [[_values(group, part) for group in groups] for part in range(2)]
    held_out = [torch.cat(list(_left_out(part))) for part in parts]
    clouds = [Cloud.of(torch.cat(part)) for part in parts]
    # Each part gets its own unit; then the larger of the two distances is scaled to the limit.
    units = [distances.quantile(_WITHIN) for distances in held_out]
    worst = torch.stack([d / u for d, u in zip(held_out, units, strict=True)]).amax(0)
    limit = worst.quantile(_WITHIN)
    return Profile(*(replace(c, unit=u * limit) for c, u in zip(clouds, units, strict=True)))


def _values(group: Iterable[Sequence[Look]], part: int) -> Tensor:
    return torch.cat([look[part] for subject in group for look in subject])


def _left_out(groups: Sequence[Tensor]) -> Iterable[Tensor]:
    """Distances of every group from the cloud of all others."""
    for k, group in enumerate(groups):
        others = [other for j, other in enumerate(groups) if j != k]
        yield Cloud.of(torch.cat(others)).distance(group)


@torch.inference_mode()
def describe(network: ScoreUNet, images: Tensor, seed: int = 0) -> Look:
    """Response of a network to noised images.

    Args:
        network: The network in evaluation mode, on the device of the images.
        images: (batch, channel, h, w), bright pixels about 1.
        seed: Seed of the noise; batches of a profile need different ones.

    Returns:
        Residual noise (batch, 2 per noise level) and features (batch, d), in float32.
    """
    x = _middle(images.float())
    size = x.norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    residual = []
    for level in _LEVELS:
        sigma = min(max(level * network.sigma_data, network.sigma_min), network.sigma_max)
        xi = torch.randn(x.shape, generator=generator).to(x.device)
        noisy = x + sigma * xi
        error = (network(noisy, sigma) - x) / sigma
        residual.append(_residual(error, xi, _object(size)))
    features = [
        _moments(h, size, 2 ** (k + 1)) for k, h in enumerate(network.features(noisy, sigma))
    ]
    return torch.cat(residual, 1), torch.cat(features, 1)


def _middle(x: Tensor) -> Tensor:
    for axis in (-2, -1):
        spare = max(0, x.shape[axis] - _SIDE)
        x = x.narrow(axis, spare // 2, x.shape[axis] - spare)
    return x


def _residual(error: Tensor, xi: Tensor, where: Tensor) -> Tensor:
    """Log of the mean squared error, and share of the noise that is left, by image (batch, 2).

    Both over the object, the error in noise levels. How the noise that is left is spread over
    coarse and fine detail would discriminate more, but depends on contrast: it refused a real scan.
    """
    return torch.stack([
        _mean(error.square(), where).clamp_min(1e-9).log(),
        _mean(error * xi, where),
    ], 1)  # fmt: skip


def _moments(h: Tensor, size: Tensor, cell: int) -> Tensor:
    """Mean and spread of features (batch, width, h', w') over the object (batch, 2 width).

    Every feature belongs to a cell of pixels; the network pads images below and on the right.
    """
    below, right = (cell * h.shape[axis] - size.shape[axis] for axis in (-2, -1))
    where = _object(F.avg_pool2d(F.pad(size, (0, right, 0, below)), cell))
    total = where.sum((2, 3))
    mean = (h * where).sum((2, 3)) / total
    variance = ((h - mean[:, :, None, None]).square() * where).sum((2, 3)) / total
    return torch.cat([mean, variance.sqrt()], 1)


def _object(size: Tensor) -> Tensor:
    """1 where the object is; everywhere in an image without any."""
    where = (size > _OBJECT).to(size.dtype)
    return torch.where(where.sum((2, 3), keepdim=True) > 0, where, 1.0)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over channels and the object (batch,)."""
    return (values * where).sum((1, 2, 3)) / (where.sum((1, 2, 3)) * values.shape[1])
