"""Separate explanations of the data among samples: a test that needs no reference.

A posterior with one explanation, ``p(x) exp(-|y - A x|^2 / (2 noise_var))`` with a log-concave
prior ``p``, has covariance ``(A^H A / noise_var)^-1`` at most (Brascamp and Lieb, J. Funct. Anal.
22, 1976). Noise-free data ``A x`` of its samples then vary by ``noise_var`` at most, along any
direction. Samples that vary by more are of a posterior with separate parts, or are wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.likelihoods import GaussianLikelihood

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import Likelihood

__all__ = ["MOST_SEPARATION", "Separation", "find_separation", "separation_report"]

# Largest ratio that chance explains: of 3000 sets of Gaussian samples with the largest
# covariance that one explanation allows, 1 of 1000 is above (4 to 64 samples, 1 to 1000 measured
# values; the largest of these quantiles is 1.4, for 16 samples and one value).
MOST_SEPARATION = 1.3


# Largest number of measured values, for each sample, that importance weights can choose by. Weights
# differ more the more values do: in the problems with exact answers, of up to 6 for each sample,
# they bring the shares of explanations closer to the right ones; in tomograms, of 60, one sample of
# 16 gets all of the weight.
MOST_WEIGHED = 10.0


@dataclass(frozen=True)
class Separation:
    """How far apart samples lie in the data.

    Attributes:
        ratio: Largest variance of samples in the data, over the largest that one explanation
            allows.
        values: Effective number of measured values that samples differ in.
        n: Number of samples.
    """

    ratio: float
    values: float
    n: int

    @property
    def found(self) -> bool:
        """True where chance and a single explanation do not account for the ratio."""
        return self.ratio > MOST_SEPARATION

    @property
    def weighable(self) -> bool:
        """True where samples differ in few values, so that importance weights choose among them."""
        return self.values <= MOST_WEIGHED * (self.n - 1)


def find_separation(likelihood: GaussianLikelihood, x: Tensor, chunk: int) -> Separation:
    """Variance of samples in the data, beside the largest that one explanation allows.

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
    return Separation(largest / (1 + math.sqrt(trace / (len(x) - 1))) ** 2, trace, len(x))


def separation_report(likelihood: Likelihood, x: Tensor, chunk: int) -> dict[str, Any]:
    """Figures of the certificate: ``separation``, and what it means for the shares of explanations.

    Empty for a single sample and for noise that is not Gaussian.

    Args:
        likelihood: See `find_separation`.
        x: See `find_separation`.
        chunk: See `find_separation`.
    """
    if len(x) < 2 or not isinstance(likelihood, GaussianLikelihood):
        return {}
    found = find_separation(likelihood, x, chunk)
    if not found.found:
        return {"separation": found.ratio}
    text = (
        f"samples lie {found.ratio:.1f} times further apart than one explanation of the data allows"
    )
    return {"separation": found.ratio, "shares_not_tested": text}
