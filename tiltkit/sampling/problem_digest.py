"""Is a checkpoint one of this problem? Everything that decides the samples, in a few numbers.

What is exact on every machine is hashed: settings, seed, shapes, the measurement and its noise.
Operator, prior and units are functions; a few values of them are compared up to rounding, because
sums on a GPU may come out differently each time.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tiltkit.likelihoods import linear_gaussian
from tiltkit.priors.score import score_of

if TYPE_CHECKING:
    from tiltkit.sampling.state import Sampler
    from tiltkit.sampling.target import Target

__all__ = ["ProblemDigest", "digest_of"]

# Relative; a network in bfloat16 rounds at 0.004.
_TOLERANCE = 0.01
_EXACT_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class ProblemDigest:
    """What a checkpoint belongs to.

    Attributes:
        sha256: Digest of settings, seed, shapes, measurement and noise.
        operator: Values of operator, likelihood and units at seeded random images.
        prior: Values of the prior's score at a seeded random image.
    """

    sha256: str
    operator: tuple[float, ...]
    prior: tuple[float, ...]

    def matches(self, sha256: str, operator: Sequence[float], prior: Sequence[float]) -> bool:
        """Return whether a problem with these values is this one, up to rounding."""
        return (
            sha256 == self.sha256
            and _close(operator, self.operator, _EXACT_TOLERANCE)
            and _close(prior, self.prior, _TOLERANCE)
        )


def digest_of(target: Target, sampler: Sampler, seed: Sequence[int]) -> ProblemDigest:
    """The digest of what a sampler does; costs two network calls for one image."""
    problem, linear = target.problem, linear_gaussian(target.problem.likelihood)
    constraint, prior = problem.constraint, problem.prior
    settings = {
        "sampler": f"{type(sampler).__module__}.{type(sampler).__qualname__}",
        "options": _settings(sampler),
        "seed": list(seed),
        "n": target.n,
        "shape": list(problem.shape),
        "dtype": str(target.dtype),
        "likelihood": type(problem.likelihood).__qualname__,
        "noise_var": linear.noise_var if linear else None,
        "nonnegative": bool(constraint and constraint.nonnegative),
        "sigma_range": list(prior.sigma_range),
    }
    total = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for tensor in (linear.y if linear else None, constraint.support if constraint else None):
        if tensor is not None:
            total.update(str((tensor.shape, tensor.dtype)).encode() + _bytes(tensor))
    with torch.inference_mode():
        return ProblemDigest(total.hexdigest(), _operator_values(target), _prior_values(target))


def _settings(sampler: Sampler) -> Any:
    options = getattr(sampler, "options", None)
    return options.model_dump() if hasattr(options, "model_dump") else repr(options)


def _bytes(tensor: Tensor) -> bytes:
    content = tensor.detach().cpu().contiguous()
    return content.flatten().view(torch.uint8).numpy().tobytes()


def _operator_values(target: Target) -> tuple[float, ...]:
    """The adjoint of the data and of noise, the likelihood, and an image in the user's units."""
    problem, (x, other) = target.problem, _random_images(target)
    linear = linear_gaussian(problem.likelihood)
    images = [problem.likelihood.gradient(x)]
    if linear:
        operator = linear.operator
        images += [operator.adjoint(linear.y), operator.adjoint(operator.forward(x))]
    values = [value for image in images for value in _projections(image, other)]
    values.append(float(problem.likelihood.potential(x)[0]))
    user = problem.to_image(x).double()
    return (*values, float(user.norm()), float(user.abs().amax()))


def _prior_values(target: Target) -> tuple[float, ...]:
    """The score at a low and at a high noise level."""
    prior, (x, other) = target.problem.prior, _random_images(target)
    low, high = prior.sigma_range
    levels = (math.sqrt(low * high), high)
    scores = [score_of(prior, x * level, level) * level for level in levels]
    return tuple(value for score in scores for value in _projections(score, other))


def _random_images(target: Target) -> tuple[Tensor, Tensor]:
    """Two white images (1, channel, *space)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((2, *target.problem.shape), generator=generator, dtype=target.dtype)
    first, second = images.to(target.device).split(1)
    return first, second


def _projections(image: Tensor, other: Tensor) -> tuple[float, float]:
    """The norm of an image, and its product with a random one, at the scale of the norm."""
    image, other = image.double(), other.double()
    norm = float(image.norm())
    return norm, norm + float((image * other).sum())


def _close(found: Sequence[float], own: Sequence[float], tolerance: float) -> bool:
    return len(found) == len(own) and all(
        math.isclose(a, b, rel_tol=tolerance) for a, b in zip(found, own, strict=True)
    )
