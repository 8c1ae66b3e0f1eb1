"""The result of a run in Python: images, axes, warnings, settings; in memory or in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.io.result import ResultWriter
from tiltkit.posterior.moments import interpolate_quantile
from tiltkit.posterior.outcome import QUANTILES, FurtherImage, Outcome
from tiltkit.posterior.verdict import stored_verdict, worst_verdict
from tiltkit.posterior.warnings import group_warnings

if TYPE_CHECKING:
    import xarray
    from numpy.typing import NDArray

    from tiltkit.io.stored import Stored
    from tiltkit.posterior.verdict import Verdict
    from tiltkit.posterior.warnings import Caution
    from tiltkit.protocols import Axis

__all__ = ["Result"]

# Names and descriptions of the images with the layout's axes, where they share its units.
_IMAGES = {
    "mean": "posterior mean",
    "std": "posterior standard deviation",
    "baseline": "reconstruction without a prior",
}


class Result:
    """Posterior of a scan or of a single problem: images, certificate, settings.

    Images of a result file are read on first use and then kept in memory.

    Args:
        stored: Content of the result, in memory or in a file.
    """

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    @cached_property
    def mean(self) -> NDArray[np.floating]:
        """Posterior mean (slice, *image), in `units`."""
        return self._read("mean")

    @cached_property
    def std(self) -> NDArray[np.floating]:
        """Posterior standard deviation (slice, *image), in `units`; NaN for a single sample."""
        return self._read("std")

    @cached_property
    def samples(self) -> NDArray[np.floating]:
        """Equally weighted posterior samples (sample, slice, *image), in `units`."""
        return self._read("samples")

    @cached_property
    def baseline(self) -> NDArray[np.floating]:
        """Reconstruction without a prior (slice, *image), in `units`."""
        return self._read("baseline")

    @cached_property
    def phase(self) -> NDArray[np.floating] | None:
        """Phase of the posterior mean (slice, *image) in radians; None for real images."""
        return self._stored.image("phase")

    @cached_property
    def further(self) -> dict[str, NDArray[Any]]:
        """Further images by name, (slice, *image) or (sample, slice, *image); empty without any.

        They are those that the task was asked for, such as maps of the signal-to-noise ratio.
        """
        return {name: one.values for name, one in self._further.items()}

    @cached_property
    def _further(self) -> dict[str, FurtherImage]:
        return self._stored.further()

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Axes of an image stack, slices first: names, coordinates, units."""
        return self._stored.layout.axes

    @property
    def units(self) -> str:
        """Unit of the image values; empty for arbitrary units."""
        return self._stored.layout.units

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved recipe as nested mappings."""
        return dict(self._stored.settings)

    @property
    def provenance(self) -> dict[str, Any]:
        """Input with its digest, versions, plugins and command, as nested mappings."""
        return dict(self._stored.provenance)

    @cached_property
    def diagnostics(self) -> list[dict[str, Any]]:
        """Certificate of each slice: numbers, texts, and arrays with one value per level."""
        return [self._stored.diagnostics(index) for index in range(len(self))]

    @property
    def warnings(self) -> list[Caution]:
        """Each kind of warning once, with the figures of the worst slice.

        Those of each slice are in its `diagnostics`, under ``"warnings"``.
        """
        return [one for one, _ in group_warnings(r.get("warnings", ()) for r in self.diagnostics)]

    @property
    def verdict(self) -> Verdict:
        """Verdict on spread and mean (`local`) and on shares of explanations (`shares`).

        Each half is that of the worst slice: ``"ok"``, ``"failed"`` or ``"not tested"``, with a
        text. Those of each slice are in its `diagnostics`.
        """
        return worst_verdict([stored_verdict(report) for report in self.diagnostics])

    def __len__(self) -> int:
        """Number of slices."""
        return self._stored.layout.shape[0]

    def quantiles(self, q: float | Sequence[float]) -> NDArray[np.floating]:
        """Quantile images of the samples.

        The k-th smallest of n samples is the quantile of level ``k / (n + 1)``, so that an interval
        covers a further sample with its nominal probability. Values between these levels are
        interpolated; beyond them the extremes are used. One slice is in memory at a time. Where a
        calibration has widened the intervals of the result, levels up to 5 % and from 95 % on lie
        at the widened ends or beyond.

        Args:
            q: One level or several, above 0 and below 1.

        Returns:
            Images (slice, *image) of one level, or (level, slice, *image) of a sequence; NaN
            if there is a single sample.

        Raises:
            UsageError: A level is not between 0 and 1.
        """
        levels = np.atleast_1d(np.asarray(q, float))
        if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
            raise UsageError(
                f"The quantile level {q} is not between 0 and 1.",
                "name levels such as 0.05 or [0.05, 0.95].",
            )
        slices = [self._quantiles(index, levels.tolist()) for index in range(len(self))]
        images = np.stack(slices, axis=1)
        return images if np.ndim(q) else images[0]

    def _quantiles(self, index: int, levels: Sequence[float]) -> NDArray[np.floating]:
        """Quantile images (level, *image) of one slice."""
        samples = torch.from_numpy(self._read("samples", index))
        if len(samples) == 1:
            return np.full((len(levels), *samples.shape[1:]), np.nan, samples.numpy().dtype)
        ordered = samples.sort(dim=0).values
        images = [interpolate_quantile(ordered, q).numpy() for q in levels]
        if self.provenance.get("calibration", {}).get("widened"):
            low, *_, high = self._read("quantiles", index)
            for k, level in enumerate(levels):
                if level <= QUANTILES[0]:
                    images[k] = np.minimum(images[k], low)
                elif level >= QUANTILES[-1]:
                    images[k] = np.maximum(images[k], high)
        return np.stack(images)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a result file, as ``tiltkit run`` does; images become float32.

        Args:
            path: The file.
            overwrite: Replace an existing file.

        Raises:
            UsageError: The file exists, or its folder cannot be used.
            TiltkitError: The disk is too small.
        """
        writer = ResultWriter.open(
            Path(path), layout=self._stored.layout, samples=int(self.settings["samples"]),
            recipe=self._stored.settings, provenance=self._stored.provenance,
            resume=False, overwrite=overwrite,
        )  # fmt: skip
        with writer:
            for index in range(len(self)):
                quantiles = dict(zip(QUANTILES, self._read("quantiles", index), strict=True))
                phase = self._stored.image("phase", index)
                images = {name: self._read(name, index) for name in (*_IMAGES, "samples")}
                report = self._stored.diagnostics(index)
                outcome = Outcome(
                    quantiles=quantiles, phase=phase, diagnostics=report,
                    further=self._stored.further(index), **images,
                )  # fmt: skip
                writer.write(index, outcome)
            writer.finish()

    def to_xarray(self) -> xarray.Dataset:
        """All images with their coordinates and units; settings and warnings as attributes.

        Raises:
            UsageError: xarray is not installed.
        """
        try:
            import xarray as xr
        except ImportError as error:
            raise UsageError(
                "to_xarray() needs the package xarray, which is not installed.",
                "pip install 'tiltkit[xarray]'",
            ) from error
        dims, units = [axis.name for axis in self.axes], self.units
        images: dict[str, Any] = {
            name: (dims, getattr(self, name), {"units": units, "long_name": text})
            for name, text in _IMAGES.items()
        }
        about = {"units": units, "long_name": "posterior sample"}
        images["samples"] = (["sample", *dims], self.samples, about)
        if self.phase is not None:
            about = {"units": "rad", "long_name": "phase of the posterior mean"}
            images["phase"] = (dims, self.phase, about)
        for name, one in self._further.items():
            about = {"units": units if one.units is None else one.units, "long_name": one.long_name}
            lead = ["sample"] if one.values.ndim > len(dims) else []
            images[name] = ([*lead, *dims], one.values, about)
        places: dict[str, Any] = {"sample": np.arange(len(self.samples))}
        for axis in self.axes:
            about = {"units": axis.units, "long_name": axis.long_name or axis.name}
            places[axis.name] = (axis.name, np.asarray(axis.coordinates), about)
        attributes = {
            "title": self._stored.layout.title,
            "settings": json.dumps(self.settings),
            "provenance": json.dumps(self.provenance, default=str),
            "warnings": "\n".join(map(str, self.warnings)),
            "verdict": self.verdict.sentence(),
        }
        return xr.Dataset(images, places, attributes)

    def __repr__(self) -> str:
        """One line: title, shape, number of samples and of warnings."""
        slices, *image = self._stored.layout.shape
        size = " x ".join(map(str, image))
        samples, warnings = int(self.settings["samples"]), len(self.warnings)
        title = self._stored.layout.title or "posterior"
        return (
            f"<tiltkit.Result {title!r}: {_count(slices, 'slice')} of {size},"
            f" {_count(samples, 'sample')}, {_count(warnings, 'warning')}>"
        )

    def _repr_html_(self) -> str:
        """Mean and standard deviation of the middle slice, and the warnings, for notebooks."""
        middle = len(self) // 2
        place = f", slice {middle + 1} of {len(self)}" if len(self) > 1 else ""
        pictures = _figure(self._read("mean", middle), "gray", f"Mean{place}", self.units)
        spread = self._read("std", middle)
        if not np.isnan(spread).all():
            pictures += _figure(spread, "magma", "Standard deviation", self.units)
        found = "".join(
            f"<li><b>{escape(one.code)}</b>: {escape(str(one))}</li>" for one in self.warnings
        )
        list_ = f"<p>Warnings:</p><ul>{found}</ul>" if found else "<p>No warnings.</p>"
        found = f"<p>{escape(self.verdict.sentence())}</p>"
        return f"<div><p>{escape(repr(self))}</p>{pictures}{list_}{found}</div>"

    def __reduce__(self) -> tuple[type[Result], tuple[Stored]]:
        """Pickle the stored content; images of files are read again."""
        return Result, (self._stored,)

    def _read(self, name: str, index: int | None = None) -> NDArray[np.floating]:
        found = self._stored.image(name, index)
        if found is None:
            raise TiltkitError(f"The result has no {name}.")
        return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _figure(x: NDArray[np.floating], colours: str, caption: str, units: str) -> str:
    """A picture of an image (ny, nx) or of the middle plane of a volume; text for a curve."""
    from tiltkit.report import figures

    if x.ndim < 2:
        return f"<p>{escape(caption)}: {escape(np.array2string(x, threshold=16))}</p>"
    image = x.astype(np.float32)
    window = figures.common_window([image], colours)
    values = f"{window.low:.3g} to {window.high:.3g} {units}".rstrip()
    return (
        '<figure style="display:inline-block;margin:0 1em 0 0">'
        f'<img src="{figures.image(image, window)}" alt="{escape(caption)}"'
        ' style="width:320px;image-rendering:pixelated">'
        f"<figcaption>{escape(caption)}: {escape(values)}</figcaption></figure>"
    )
