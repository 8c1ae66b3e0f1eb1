"""Fit a patch mixture to images with scikit-learn: a minute or two."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from tiltkit.errors import InputError, UsageError
from tiltkit.priors.patches import PatchMixture

__all__ = ["Fit", "fit_patches", "patches_of"]

# Added to the variance along every axis, in squared units of images with values of about 1.
_FLOOR = 1e-6
# Steps between two reports.
_ROUND = 5


@dataclass(frozen=True, slots=True)
class Fit:
    """A mixture after some steps of a fit.

    Attributes:
        mixture: The mixture.
        step: Steps so far.
        log_likelihood: Mean log-likelihood of a patch under the mixture before the last step.
    """

    mixture: PatchMixture
    step: int
    log_likelihood: float


def patches_of(images: Sequence[Tensor], side: int, count: int, generator: Generator) -> Tensor:
    """Random patches (count, channel * side^2), as many of every image (channel, h, w).

    Raises:
        InputError: An image is smaller than a patch, or has other channels than the first.
    """
    share = -(-count // len(images))
    out = []
    for image in images:
        if len(image) != len(images[0]):
            raise InputError(
                f"An image has {len(image)} channels, the first one {len(images[0])}.",
                "fit images of one kind: all complex, or all real.",
            )
        rows, columns = (n - side + 1 for n in image.shape[-2:])
        if rows < 1 or columns < 1:
            raise InputError(
                f"An image has {image.shape[-2]} x {image.shape[-1]} pixels, a patch {side}.",
                "choose smaller patches with --side.",
            )
        at = torch.randint(rows * columns, (share,), generator=generator).tolist()
        out += [image[:, k // columns :, k % columns :][:, :side, :side].flatten() for k in at]
    return torch.stack(out)[:count]


def fit_patches(
    patches: Tensor, *, channels: int, side: int, components: int, steps: int, generator: Generator
) -> Iterator[Fit]:
    """Expectation and maximisation, begun from the clusters of k-means.

    Args:
        patches: (n, channels * side^2).
        channels: Image channels.
        side: Side of a patch in pixels.
        components: Gaussians of the mixture; at most half as many as patches.
        steps: Steps of expectation and maximisation.
        generator: Draws the seed of k-means.

    Yields:
        The mixture after every five steps, and after the last.

    Raises:
        InputError: There are too few patches, or all are the same.
        UsageError: scikit-learn is not installed.
    """
    variance = float(patches.var(0).sum())
    if len(patches) < 2 * components or not variance > _FLOOR:
        raise InputError(
            f"{len(patches)} patches of variance {variance:.2g} cannot be fitted by {components}"
            " Gaussians.",
            "give more images, or fewer --components.",
        )
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    model = _gaussian_mixture(components, seed)
    # Covariances of smooth patches are singular in single precision.
    values = patches.double().numpy()
    for first in range(0, steps, _ROUND):
        model.max_iter = min(_ROUND, steps - first)
        # A few steps do not converge. Not within catch_warnings, which would change the filters of
        # other threads.
        warnings.filterwarnings("ignore", message=".* did not converge", module=r"sklearn\.mixture")
        model.fit(values)
        yield Fit(_patch_mixture(model, channels, side), first + model.max_iter, model.lower_bound_)


def _gaussian_mixture(components: int, seed: int) -> Any:
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise UsageError(
            "Patch mixtures are fitted with scikit-learn, which is not installed.",
            "pip install 'tiltkit[train]'.",
        ) from error
    return GaussianMixture(
        components,
        tol=0.0,
        reg_covar=_FLOOR,
        init_params="kmeans",
        random_state=seed,
        warm_start=True,
    )


def _patch_mixture(model: Any, channels: int, side: int) -> PatchMixture:
    variances, axes = torch.linalg.eigh(torch.from_numpy(model.covariances_).double())
    return PatchMixture(
        torch.from_numpy(model.weights_).float(),
        torch.from_numpy(model.means_).float(),
        variances.clamp(min=_FLOOR).float(),
        axes.float(),
        channels,
        side,
    )
