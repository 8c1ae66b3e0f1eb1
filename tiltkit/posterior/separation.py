"""Separate explanations of the data among samples: a test that needs no reference.

A posterior with one explanation, ``p(x) exp(-|y - A x|^2 / (2 noise_var))`` with a log-concave
prior ``p``, has covariance ``(A^H A / noise_var)^-1`` at most (Brascamp and Lieb, J. Funct. Anal.
22, 1976). Noise-free data ``A x`` of its samples then vary by ``noise_var`` at most, along any
direction. Samples that vary by more are of a posterior with separate parts, or are wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.likelihoods import GaussianLikelihood

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import Likelihood

__all__ = ["MOST_SEPARATION", "separation", "separation_report"]

# Largest `separation` that chance explains: of 3000 sets of Gaussian samples with the largest
# covariance that one explanation allows, 1 of 1000 is above (4 to 64 samples, 1 to 1000 measured
# values; the largest of these quantiles is 1.4, for 16 samples and one value).
MOST_SEPARATION = 1.3


def separation(likelihood: GaussianLikelihood, x: Tensor, chunk: int) -> float:
    """Largest variance of samples in the data, over the largest that one explanation allows.

    The largest eigenvalue of the sample covariance of ``A x / sqrt(noise_var)`` is that of the
    covariance, at most 1, enlarged by the scatter of few samples: ``(1 + sqrt(t / (n - 1)))^2`` for
    an effective number ``t`` of measured values (Marchenko-Pastur law). The trace stands for ``t``.

    Args:
        likelihood: Likelihood of the data.
        x: Samples (n, channel, *space), two or more.
        chunk: Number of samples that the operator is applied to at once.
    """
    parts = [likelihood.operator.forward(part).flatten(1) for part in torch.split(x, chunk)]
    data = torch.cat(parts)
    data = (torch.view_as_real(data) if data.is_complex() else data).flatten(1)
    data = (data - data.mean(dim=0)) / math.sqrt(likelihood.noise_var)
    # The samples' Gram matrix has the nonzero eigenvalues of their covariance.
    gram = (data @ data.T).double().cpu() / (len(x) - 1)
    largest, trace = float(torch.linalg.eigvalsh(gram)[-1]), float(gram.trace())
    return largest / (1 + math.sqrt(trace / (len(x) - 1))) ** 2


def separation_report(likelihood: Likelihood, x: Tensor, chunk: int) -> dict[str, Any]:
    """Figures of the certificate: ``separation``, and what it means for the shares of explanations.

    Empty for a single sample and for noise that is not Gaussian.

    Args:
        likelihood: See `separation`.
        x: See `separation`.
        chunk: See `separation`.
    """
    if len(x) < 2 or not isinstance(likelihood, GaussianLikelihood):
        return {}
    found = separation(likelihood, x, chunk)
    if found <= MOST_SEPARATION:
        return {"separation": found}
    text = f"samples lie {found:.1f} times further apart than one explanation of the data allows"
    return {"separation": found, "shares_not_tested": text}
