"""Scalar functions of images, for ranks that see more than single pixels.

Every function treats the true image and the samples alike, so that its ranks are uniform under a
right sampler. Ranks of image values alone cannot tell a posterior from a prior; those of the
log-likelihood can (Modrak et al., Bayesian Analysis 2023, arXiv:2211.02383).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.operators.bands import Bands

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.calibration.regions import Regions

__all__ = ["GROUPS", "functions_of", "tolerance"]

GROUPS = {
    "projections": "products with random images",
    "components": "products with the principal components of truth and samples",
    "bands": "power in bands of spatial frequency",
    "means": "means of regions",
    "likelihood": "log-likelihood of the data",
}
"""Groups of functions, whose ranks are tested together, and what is in them."""


def tolerance(draws: int) -> float:
    """Standard deviation of the noise of sums of squares, over the scatter of these sums.

    Power and log-likelihood sum so many squares that their ranks would show errors of a variance of
    one per cent. Noise, which keeps ranks uniform, hides them. It grows with the number of draws,
    over which it averages out: the log-likelihood then shows an error of a quarter of the variance
    at five standard errors, and one of a tenth at two. The factor is chosen by hand.
    """
    return 0.1 * math.sqrt(draws / 2)


# Numbers of random projections and of principal components.
_PROJECTIONS, _COMPONENTS = 8, 3


def functions_of(
    members: NDArray[Any], regions: Regions, seed: int, rng: np.random.Generator, noise: float
) -> dict[str, NDArray[np.float64]]:
    """Values (member, function) of all groups but the likelihood.

    Args:
        members: The truth, then the samples (member, *image).
        regions: Regions of the means; found from all members alike.
        seed: Of the random projections, which are the same for all images.
        rng: Random numbers for noise of sums of squares.
        noise: See `tolerance`.
    """
    flat = np.asarray(members, np.float64).reshape(len(members), -1)
    sizes = regions.sizes()
    sums = np.stack([regions.sums(image.reshape(members.shape[1:])) for image in flat])
    groups: Mapping[str, NDArray[np.float64]] = {
        "projections": flat @ _white(flat.shape[1], seed).T,
        "components": _component_values(flat),
        "bands": _band_powers(flat.reshape(members.shape), rng, noise),
        "means": sums[:, sizes > 0] / sizes[sizes > 0],
    }
    return {name: values for name, values in groups.items() if values.shape[1]}


def _white(pixels: int, seed: int) -> NDArray[np.float64]:
    """Random images (projection, pixel), no more than there are pixels."""
    rng = np.random.default_rng([seed, 1])
    return rng.standard_normal((min(_PROJECTIONS, pixels), pixels))


def _component_values(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products (member, component) with the first principal components of all members.

    They separate the explanations that differ most, such as the modes of a mixture.
    """
    count = min(_COMPONENTS, len(flat) - 2, flat.shape[1])
    centred = flat - flat.mean(0)
    # Left singular vectors, from the small Gram matrix: images may have many pixels.
    powers, vectors = np.linalg.eigh(centred @ centred.T)
    order = np.argsort(-powers)[: max(count, 0)]
    values: NDArray[np.float64] = vectors[:, order] * np.sqrt(powers[order].clip(0))
    return values


def _band_powers(
    images: NDArray[np.float64], rng: np.random.Generator, noise: float
) -> NDArray[np.float64]:
    """Squared norms (member, band) of images (member, *image) by spatial frequency, and noise."""
    x = torch.from_numpy(np.ascontiguousarray(images))[:, None]
    bands = Bands.shells(tuple(x.shape[1:]), torch.device("cpu"))
    powers: NDArray[np.float64] = bands.inner(x, x).numpy()
    deviations = x - x.mean(0, keepdim=True)
    scatter = bands.inner(deviations, deviations).mean(0).numpy()
    return powers + noise * scatter * rng.standard_normal(powers.shape)
