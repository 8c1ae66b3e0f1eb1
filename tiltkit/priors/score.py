"""The checked score of a prior, and the reverse kernel that it implies between noise levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from tiltkit.errors import PluginError

if TYPE_CHECKING:
    from tiltkit.protocols import Prior

__all__ = ["reverse_variance", "score_of"]


def score_of(prior: Prior, x: Tensor, sigma: float) -> Tensor:
    """The score of images ``x`` (batch, channel, *space) at noise level ``sigma``.

    Finiteness is not checked, because that would wait for the device at every call.

    Raises:
        PluginError: The prior fails on these images, or returns another shape or type.
    """
    try:
        score: object = prior.score(x, sigma)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, SystemExit) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise PluginError(
            f"The prior failed on {tuple(x.shape)} images at noise {sigma:.3g}: {reason}",
            "check that it is a prior for images of this shape and this device.",
        ) from error
    if isinstance(score, Tensor) and score.shape == x.shape and score.dtype == x.dtype:
        return score
    what = type(score).__name__
    if isinstance(score, Tensor):
        what = f"{score.dtype} {tuple(score.shape)}"
    raise PluginError(
        f"The prior's score of {x.dtype} {tuple(x.shape)} images is {what}.",
        "correct the prior: the score has the shape and type of its images.",
    )


def reverse_variance(a: float, b: float, mean_jacobian: float = 0.0) -> float:
    """Variance per value of the reverse kernel of a prior from noise level ``a`` to ``b < a``.

    The kernel is ``p(x_b | x_a)`` with the mean ``x_a + (a^2 - b^2) score_a(x_a)``. Given the clean
    image its variance is ``b^2 gap / a^2`` with ``gap = a^2 - b^2``; the posterior variance of the
    clean image, ``a^2 mean_jacobian``, adds ``(gap / a^2)^2`` of itself. Exact for Gaussian priors.

    Args:
        a: The higher noise level.
        b: The lower one, nonnegative.
        mean_jacobian: Mean diagonal of the denoiser's Jacobian at ``a``, ``tr J / dim``; 0 leaves
            out the variance of the clean image.
    """
    gap = a**2 - b**2
    return (b**2 + gap * mean_jacobian) * gap / a**2
