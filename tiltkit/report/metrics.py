"""Metrics of a result against the true images.

Estimate and truth are compared in the units of their files, without rescaling. The data range is
the largest value of the truth. Pixels outside of the field of view of a result, where its mean is
NaN, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from tiltkit.errors import InputError, PluginError, TiltkitError
from tiltkit.io.images import is_image, read_contents
from tiltkit.io.reading import is_hdf5, open_hdf5, read_estimate, read_provenance, result_shape
from tiltkit.io.sniff import datasets
from tiltkit.plugins.isolation import isolate
from tiltkit.protocols import Estimate

if TYPE_CHECKING:
    from tiltkit.plugins import Plugins
    from tiltkit.protocols import Metric

__all__ = ["chi2", "coverage90", "evaluate", "foreground", "nrmse", "psnr", "spread_ratio", "ssim"]

Image = NDArray[np.float32]

# Pixels of each side of the windows of structural similarity.
_WINDOW = 7
# Usual names of true images in a file; the first one that exists is used.
TRUTH_NAMES = ("truth", "reconstruction_rss", "reconstruction_esc", "entry/data/data")


def psnr(estimate: Estimate, truth: Image) -> float:
    """Peak signal-to-noise ratio of the posterior mean in dB; infinite if it equals the truth."""
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):
        return _compare(partial(peak_signal_noise_ratio, data_range=1.0), estimate, truth)


def ssim(estimate: Estimate, truth: Image) -> float:
    """Structural similarity of the posterior mean, windows of 7 x 7 pixels (1 is equality).

    For volumes, the mean over planes: 3-D windows would mix unequal voxel sizes. Only windows
    within the image and the field of view count.
    """
    from scipy.ndimage import binary_erosion
    from skimage import metrics

    similarity: Callable[..., Any] = metrics.structural_similarity
    known = _known(estimate)
    filled = replace(estimate, mean=np.where(known, estimate.mean, np.float32(0)))
    windows = np.ones((1,) * (known.ndim - 2) + (_WINDOW, _WINDOW), np.bool_)
    inside = binary_erosion(known, windows)

    def measure(truth: Image, mean: Image) -> float:
        pairs = zip(
            truth.reshape(-1, *truth.shape[-2:]), mean.reshape(-1, *mean.shape[-2:]), strict=True
        )
        options = {"data_range": 1.0, "win_size": _WINDOW, "full": True}
        planes = np.stack([similarity(*pair, **options)[1] for pair in pairs])
        return float(planes[inside.reshape(planes.shape)].mean())

    return _compare(measure, filled, np.where(known, truth, np.float32(0)))


def nrmse(estimate: Estimate, truth: Image) -> float:
    """Root mean squared error of the posterior mean over the root mean square of the truth."""
    from skimage.metrics import normalized_root_mse

    return _compare(normalized_root_mse, estimate, truth)


def chi2(estimate: Estimate, truth: Image) -> float:
    """Data residual of the samples per measurement, in units of the noise; 1 is expected.

    Taken from the diagnostics of the result; the truth is not used.
    """
    return float(estimate.diagnostics.get("chi2", np.nan))


def coverage90(estimate: Estimate, truth: Image) -> float:
    """Share of foreground pixels where the truth lies between the 5 and 95 % quantiles.

    A calibrated posterior has 0.9, or (n - 1) / (n + 1) with n < 19 samples, whose extremes are
    used as quantiles.
    """
    low, high = estimate.quantiles.get(0.05), estimate.quantiles.get(0.95)
    if low is None or high is None:
        return float("nan")
    where = foreground(truth) & _known(estimate)
    inside = (low <= truth) & (truth <= high)
    # A single sample has NaN quantiles, which must not count as not covered.
    known = np.isfinite(low[where]) & np.isfinite(high[where])
    return float(inside[where].mean()) if known.all() else float("nan")


def spread_ratio(estimate: Estimate, truth: Image) -> float:
    """Root mean squared error over root mean squared spread, in the foreground.

    1 for a calibrated posterior; above 1 the standard deviation is too small.
    """
    where = foreground(truth) & _known(estimate)
    error = np.square(estimate.mean[where] - truth[where], dtype=np.float64).mean()
    spread = np.square(estimate.std[where], dtype=np.float64).mean()
    return float(np.sqrt(error / spread)) if spread > 0 else float("nan")


def _known(estimate: Estimate) -> NDArray[np.bool_]:
    """Mask of pixels within the field of view; all pixels where no value is finite."""
    known: NDArray[np.bool_] = np.isfinite(estimate.mean)
    return known if known.any() else np.ones_like(known)


def foreground(truth: Image) -> NDArray[np.bool_]:
    """Mask of pixels above a tenth of the 99th percentile of the truth, without background."""
    return truth > 0.1 * np.percentile(truth, 99)


def evaluate(
    result: Path,
    truth: Path,
    dataset: str | None,
    plugins: Plugins,
    notify: Callable[[str], None] = lambda _text: None,
) -> Mapping[str, float]:
    """Compute all metrics of plugins, averaged over the slices of a result.

    Args:
        result: A result file.
        truth: An HDF5 file, or an image file such as TIFF, with the true images in the same units.
        dataset: Path of the images inside ``truth``; the usual names when None.
        plugins: Plugins with metrics.
        notify: Called with the reason for each metric that is left out.

    Returns:
        ``NAME`` for the posterior mean, NaN where the metric is undefined, and
        ``NAME_baseline`` for the reconstruction without a prior. A baseline has no samples, so
        metrics that need them have no such entry.

    Raises:
        InputError: A file cannot be read, or the shapes differ.
        PluginError: All metrics failed.
    """
    numbers = read_provenance(result).get("slices")
    images = _read_truth(truth, dataset, result_shape(result), numbers)
    values: dict[str, list[float]] = {}
    failed: dict[str, PluginError] = {}
    names = [entry.name for entry in plugins.entries("metric")]
    for index, image in enumerate(images):
        estimate = read_estimate(result, index)
        _protect(estimate, image)
        for name in (name for name in names if name not in failed):
            try:
                score = _score(name, plugins, estimate, image)
            except PluginError as error:
                failed[name] = error
                continue
            values.setdefault(name, []).append(score)
            base = _score_baseline(name, plugins, estimate, image)
            values.setdefault(f"{name}_baseline", []).append(base)
    if names and len(failed) == len(names):
        raise failed[names[0]]
    for name, reason in failed.items():
        notify(str(reason))
        values.pop(name, None)
        values.pop(f"{name}_baseline", None)
    return {
        name: _mean(scores)
        for name, scores in values.items()
        if name in names or not np.isnan(scores).all()
    }


def _protect(estimate: Estimate, truth: Image) -> None:
    """Make all arrays read-only, so that no metric changes the input of the next."""
    images = (estimate.mean, estimate.std, estimate.samples, estimate.baseline, truth)
    for array in (*images, *estimate.quantiles.values()):
        array.setflags(write=False)


def _compare(measure: Callable[..., Any], estimate: Estimate, truth: Image) -> float:
    """Compute a measure of (truth, mean), both divided by the largest true value, in float64.

    Where some pixels are outside of the field of view, arrays have one axis with the others.
    """
    known = _known(estimate)
    largest = float(truth[known].max())
    if not largest > 0:
        raise InputError("The truth has no value above zero.", "check the truth file.")
    pair = [image.astype(np.float64) / largest for image in (truth, estimate.mean)]
    if not known.all():
        pair = [image[known] for image in pair]
    return float(measure(*pair))


def _read_truth(
    path: Path, dataset: str | None, shape: tuple[int, ...], numbers: Sequence[int] | None
) -> Image:
    """Read true images (slice, *image) of the given shape.

    If the truth has all slices of a scan and the result only some, ``numbers`` selects them.
    """
    name, chosen = _truth_array(path, dataset)
    found = chosen.shape
    if numbers and len(found) == len(shape) and len(numbers) < found[0] > max(numbers):
        chosen = chosen[list(numbers)]
    if chosen.shape != shape and (1, *found) != shape:
        raise InputError(
            f"The truth {name} has shape {found}, the result {shape}.",
            "give a truth of the same slices and image size.",
        )
    truth: Image = np.asarray(chosen, np.float32).reshape(shape)
    if not np.isfinite(truth).all():
        raise InputError(
            f"The truth {name} in {path} contains NaN or infinite values.", "give another file."
        )
    return truth


def _truth_array(path: Path, dataset: str | None) -> tuple[str, NDArray[Any]]:
    """Name and values of the array with the true images, of HDF5 or of an image file."""
    if path.is_file() and is_image(path) and not is_hdf5(path):
        name, images = path.name, read_contents([path], dataset or "").values
    else:
        name, images = _truth_dataset(path, dataset)
    if images.dtype.kind not in "fiu":
        raise InputError(
            f"The truth {name} has type {images.dtype}, not real numbers.",
            "give magnitude images, or another --dataset.",
        )
    return name, images


def _truth_dataset(path: Path, dataset: str | None) -> tuple[str, NDArray[Any]]:
    with open_hdf5(path) as file:
        name = _truth_name(file, dataset)
        if not isinstance(file.get(name), h5py.Dataset):
            raise InputError(
                f"{path} has no dataset {name}; it has {', '.join(datasets(file)) or 'none'}.",
                "name one of these with --dataset.",
            )
        return name, file[name][()]


def _truth_name(file: h5py.File, dataset: str | None) -> str:
    usual = [name for name in TRUTH_NAMES if name in file]
    return dataset or next(iter(usual), TRUTH_NAMES[0])


def _score(name: str, plugins: Plugins, estimate: Estimate, truth: Image) -> float:
    metric = cast("Metric", plugins.load("metric", name))
    distribution = plugins.owner("metric", name).distribution
    with isolate(f"The metric {name} failed", distribution, own_words=True):
        return float(metric(estimate, truth))


def _score_baseline(name: str, plugins: Plugins, estimate: Estimate, truth: Image) -> float:
    """Metric of the reconstruction without a prior; NaN if the metric needs samples."""
    bare = replace(
        estimate,
        mean=estimate.baseline,
        std=np.full_like(estimate.std, np.nan),
        quantiles={},
        samples=estimate.samples[:0],
        diagnostics={},
    )
    try:
        return _score(name, plugins, bare, truth)
    except TiltkitError:  # a metric may need what a baseline lacks
        return float("nan")


def _mean(scores: list[float]) -> float:
    return float("nan") if np.isnan(scores).all() else float(np.nanmean(scores))
