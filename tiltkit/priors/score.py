"""What a prior answers when it is asked for a score, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from tiltkit.errors import TiltkitError

if TYPE_CHECKING:
    from tiltkit.protocols import Prior

__all__ = ["score_of"]


def score_of(prior: Prior, x: Tensor, sigma: float) -> Tensor:
    """The score of images ``x`` (batch, channel, *space) at noise level ``sigma``.

    Whether it is finite is not asked: that would wait for the device at every call.

    Raises:
        TiltkitError: The prior fails on these images, or what it gives is no score of them.
    """
    try:
        score: object = prior.score(x, sigma)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, SystemExit) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise TiltkitError(
            f"The prior failed on {tuple(x.shape)} images at noise {sigma:.3g}: {reason}",
            "check that it is a prior for images of this shape and this device.",
        ) from error
    if isinstance(score, Tensor) and score.shape == x.shape and score.dtype == x.dtype:
        return score
    what = type(score).__name__
    if isinstance(score, Tensor):
        what = f"{score.dtype} {tuple(score.shape)}"
    raise TiltkitError(
        f"The prior's score of {x.dtype} {tuple(x.shape)} images is {what}.",
        "correct the prior: the score has the shape and type of its images.",
    )
