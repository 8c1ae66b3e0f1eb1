"""A Gaussian mixture from a file as a prior: exact scores of known images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.errors import InputError
from tiltkit.priors.arrays import read_arrays
from tiltkit.priors.closed_form import Mixture

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry

__all__ = ["MixtureOptions", "mixture_prior"]


class MixtureOptions(BaseModel):
    """Settings of the mixture prior."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(description="npz, HDF5 or safetensors file with means (component, channel,"
                       " h, w), a variance and, if not equal, weights (component,)")  # fmt: skip
    sigma_min: float = Field(0.01, gt=0, description="smallest noise level to be used")
    sigma_max: float = Field(5.0, gt=0, description="largest noise level to be used")


def mixture_prior(options: MixtureOptions, entry: PriorEntry) -> Mixture:
    """The mixture in a file.

    Raises:
        InputError: The file lacks an array, or its values are no mixture.
    """
    arrays = read_arrays(options.file)
    lacks = [name for name in ("means", "variance") if name not in arrays]
    if lacks:
        raise InputError(
            f"{options.file} has no {' and no '.join(lacks)}; it holds {', '.join(arrays)}.",
            "write means (component, channel, h, w), variance and weights (component,).",
        )
    means = np.asarray(arrays["means"], np.float32)
    if means.ndim == 3:
        means = means[:, None]
    weights = np.asarray(arrays.get("weights", np.ones(len(means))), np.float32)
    variance = np.asarray(arrays["variance"], np.float64)
    if variance.size != 1 or not variance >= 0:
        raise InputError(
            f"The variance in {options.file} is {variance}.", "give one number, 0 or more."
        )
    if means.ndim != 4 or weights.shape != means.shape[:1] or not (weights > 0).all():
        raise InputError(
            f"{options.file} has means {means.shape} and weights {weights.shape}.",
            "give means (component, channel, h, w) and a positive weight for each.",
        )
    low, high = float(means.min()), float(means.max())
    return Mixture(
        torch.from_numpy(means),
        variance.item(),
        torch.from_numpy(weights),
        sigma_range=(options.sigma_min, options.sigma_max),
        value_range=f"{low:.3g} to {high:.3g}, images of {means.shape[-2]} x {means.shape[-1]}",
    )


mixture_prior.Options = MixtureOptions  # type: ignore[attr-defined]
