"""Reconstruction without a prior: the baseline of a posterior, or a result of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.likelihoods import linear_gaussian
from tiltkit.posterior.outcome import QUANTILES, Outcome
from tiltkit.posterior.verdict import Half, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.problem import Problem

__all__ = ["baseline_outcome", "to_host", "without_prior"]

_NONE = Half("not tested", "a reconstruction without a prior has none")


def baseline_outcome(problem: Problem, seed: int, device: torch.device) -> Outcome:
    """The reconstruction without a prior, in the form of a posterior of one sample.

    It is the mean and the only sample; standard deviation and quantiles are NaN.
    """
    start = time.perf_counter()
    with torch.inference_mode():
        found = without_prior(problem, torch.zeros((1, *problem.shape), device=device))
    image = to_host(found.float(), problem)
    unknown = np.full_like(image, np.nan)
    verdict: dict[str, Any] = dict(Verdict(_NONE, _NONE).figures())
    return Outcome(
        mean=image,
        std=unknown,
        quantiles=dict.fromkeys(QUANTILES, unknown),
        samples=image[None],
        baseline=image,
        phase=None,
        diagnostics=dict(problem.facts)
        | verdict
        | {
            "baseline_only": 1,
            "seconds": time.perf_counter() - start,
            "device": str(device),
            "seed": seed,
            "notes": problem.notes,
            "warnings": [],
        },
    )


def without_prior(problem: Problem, x: torch.Tensor) -> torch.Tensor:
    """Reconstruction without a prior (*image): the baseline of the problem, or a backprojection.

    The backprojection is the multiple of ``A^H y`` with the smallest residual (first step of
    steepest descent); in MRI the zero-filled image. It is zero if the likelihood has no linear
    approximation.

    Args:
        problem: The problem.
        x: An image (1, channel, *space) of the right type and device.
    """
    if problem.baseline is not None:
        return problem.baseline
    linear = linear_gaussian(problem.likelihood)
    if linear is None:
        return problem.to_image(torch.zeros_like(x))[0]
    back = linear.operator.adjoint(linear.y)
    ax = linear.operator.forward(back).flatten()
    energy = float(torch.linalg.vector_norm(ax)) ** 2
    fit = float((ax.conj() * linear.y.flatten()).real.sum()) / energy if energy else 0.0
    return problem.to_image(back * fit)[0]


def to_host(image: torch.Tensor, problem: Problem) -> NDArray[Any]:
    """An image or several (..., *image) as an array, with NaN outside of the field of view."""
    view, found = problem.field_of_view, image.cpu()
    array: NDArray[Any] = (found if view is None else found.where(view.cpu(), torch.nan)).numpy()
    return array
