"""Likelihoods: the measurement, its noise model, and the potential ``R(x) = -log p(y | x)``."""

from tiltkit.likelihoods.camera import PoissonGaussianLikelihood
from tiltkit.likelihoods.counts import CountLikelihood
from tiltkit.likelihoods.gaussian import GaussianLikelihood, gaussian
from tiltkit.likelihoods.poisson import PoissonLikelihood
from tiltkit.likelihoods.protocol import (
    Approximable,
    Likelihood,
    MomentMatched,
    linear_gaussian,
)
from tiltkit.likelihoods.repeat import combine, remeasure, simulate
from tiltkit.likelihoods.transmission import TransmissionPoissonLikelihood

__all__ = [
    "Approximable",
    "CountLikelihood",
    "GaussianLikelihood",
    "Likelihood",
    "MomentMatched",
    "PoissonGaussianLikelihood",
    "PoissonLikelihood",
    "TransmissionPoissonLikelihood",
    "combine",
    "gaussian",
    "linear_gaussian",
    "remeasure",
    "simulate",
]
