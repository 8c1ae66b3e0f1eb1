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
from pydantic import BaseModel
from torch import Tensor

from tiltkit.priors.score import score_of

if TYPE_CHECKING:
    from tiltkit.sampling.state import Sampler
    from tiltkit.sampling.target import Target

__all__ = ["ProblemDigest", "digest_of"]

# Relative. Sums in another order differ by 1e-6, networks in half precision by more.
_OPERATOR_TOLERANCE = 1e-4
_PRIOR_TOLERANCE = 1e-3
# Of random images, in units of the prior: small enough for the exponentials of count likelihoods.
_AMPLITUDE = 0.1


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
            and _close(operator, self.operator, _OPERATOR_TOLERANCE)
            and _close(prior, self.prior, _PRIOR_TOLERANCE)
        )


def digest_of(target: Target, sampler: Sampler, seed: Sequence[int]) -> ProblemDigest:
    """The digest of what a sampler does; costs two network calls for one image."""
    problem = target.problem
    likelihood, constraint, prior = problem.likelihood, problem.constraint, problem.prior
    settings = {
        "sampler": f"{type(sampler).__module__}.{type(sampler).__qualname__}",
        "options": _settings(sampler),
        "seed": list(seed),
        "n": target.n,
        "shape": list(problem.shape),
        "dtype": str(target.dtype),
        "likelihood": type(likelihood).__qualname__,
        "noise_var": str(getattr(likelihood, "noise_var", None)),
        "nonnegative": bool(constraint and constraint.nonnegative),
        "sigma_range": list(prior.sigma_range),
    }
    total = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for tensor in (getattr(likelihood, "y", None), constraint and constraint.support):
        if isinstance(tensor, Tensor):
            total.update(str((tensor.shape, tensor.dtype)).encode() + _bytes(tensor))
    with torch.inference_mode():
        return ProblemDigest(total.hexdigest(), _operator_values(target), _prior_values(target))


def _settings(sampler: Sampler) -> Any:
    options = getattr(sampler, "options", None)
    return options.model_dump() if isinstance(options, BaseModel) else repr(options)


def _bytes(tensor: Tensor) -> bytes:
    content = tensor.detach().cpu().contiguous()
    return content.flatten().view(torch.uint8).numpy().tobytes()


def _operator_values(target: Target) -> tuple[float, ...]:
    """The likelihood's gradient at zero and at a random image, and that image in user's units.

    For Gaussian noise the gradient is ``A^H (A x - y) / noise_var``.
    """
    problem, (x, other) = target.problem, _random_images(target)
    likelihood = problem.likelihood
    gradients = [likelihood.gradient(x * 0), likelihood.gradient(x)]
    user = problem.to_image(x).double()
    return (
        *_projections(gradients, other),
        _finite(likelihood.potential(x)[0]),
        _finite(user.norm()),
        _finite(user.amax()),
    )


def _prior_values(target: Target) -> tuple[float, ...]:
    """The score at a medium and at the highest noise level."""
    prior, (x, other) = target.problem.prior, _random_images(target)
    low, high = prior.sigma_range
    levels = (math.sqrt(low * high), high)
    return _projections([level * score_of(prior, x * level, level) for level in levels], other)


def _random_images(target: Target) -> tuple[Tensor, Tensor]:
    """A positive random image and a white one (1, channel, *space)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((2, *target.problem.shape), generator=generator, dtype=target.dtype)
    images = images.to(target.device)
    return _AMPLITUDE * images[:1].abs(), images[1:]


def _projections(images: Sequence[Tensor], other: Tensor) -> tuple[float, ...]:
    """Two numbers per image: its norm, and its product with a white image beside that norm."""
    values = []
    for image in images:
        norm, product = image.double().norm(), (image.double() * other.double()).sum()
        # The product is normal with the norm as its standard deviation: the sum is not near 0.
        values += [_finite(norm), _finite(4 * norm + product)]
    return tuple(values)


def _finite(value: Tensor) -> float:
    return float(value.double().nan_to_num())


def _close(found: Sequence[float], own: Sequence[float], tolerance: float) -> bool:
    return len(found) == len(own) and all(
        math.isclose(a, b, rel_tol=tolerance) for a, b in zip(found, own, strict=True)
    )
