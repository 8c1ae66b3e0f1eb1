"""An open tomography scan: every detector row gives one slice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from tiltkit.errors import InputError
from tiltkit.io.units import display_length
from tiltkit.likelihoods import TransmissionPoissonLikelihood, gaussian
from tiltkit.operators.cg import conjugate_gradient
from tiltkit.operators.compose import Weighted
from tiltkit.operators.memory import matrix_memory
from tiltkit.priors.scale import image_scale
from tiltkit.problem import Constraint, Note, Problem
from tiltkit.protocols import Axis, Layout
from tiltkit_ct.axis import check_axis, find_axis
from tiltkit_ct.geometry import Geometry, image_size
from tiltkit_ct.parallel import ParallelBeam
from tiltkit_ct.prepare import Sinogram, prepare
from tiltkit_ct.projector import MATRIX_BYTES
from tiltkit_ct.ramp import filtered_back_projection, widest_gap
from tiltkit_ct.rows import unusable_rows
from tiltkit_ct.select import binned_position
from tiltkit_ct.truncation import (
    WIDEST,
    extended,
    is_truncated,
    seen_radius,
    some_rows,
    widening,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tiltkit.likelihoods import Likelihood
    from tiltkit.protocols import Prior
    from tiltkit_ct.cone import ConeBeam
    from tiltkit_ct.projections import Projections
    from tiltkit_ct.projector import Projector
    from tiltkit_ct.recon_options import CtOptions

__all__ = ["CtScan"]

_CPU = torch.device("cpu")
# Pixels over which a reconstruction is blurred before its bright end is measured: noise of few
# photons is brighter than the sample.
_BLUR = 1.5
# Damping of the baseline of a cone or fan beam, as a fraction of the largest eigenvalue of A^H A.
_DAMPING = 1e-3
# Relative residual at which the baseline is good enough for a picture.
_ROUGH = 1e-2
# Millimetres in the length that a unit of attenuation goes with.
_MILLIMETRES = {"1/mm": 1.0, "1/cm": 10.0}
# Degrees without projections that are worth a note.
_MISSING = 10.0
# Photons through the sample below which the Gaussian approximation of their noise is worth a note.
_FEW_PHOTONS = 100
# Smallest side of an image whose computing time is measured in place of a larger one.
_SMALLEST = 8


@dataclass(frozen=True)
class CtScan:
    """An open scan; see `tiltkit.problem.Scan`."""

    projections: Projections
    options: CtOptions

    @cached_property
    def unusable(self) -> Mapping[int, str]:
        """Unusable rows, each with the reason."""
        return unusable_rows(self.projections, self.options)

    @cached_property
    def good(self) -> Sequence[int]:
        """Usable rows."""
        return [row for row in range(self.projections.n_rows) if row not in self.unusable]

    @property
    def middle(self) -> int:
        """The row in the middle of the usable ones."""
        return self.good[len(self.good) // 2]

    @cached_property
    def layout(self) -> Layout:
        """One slice per detector row."""
        p = self.projections
        size = self.geometry.image_size
        name, factor = display_length(p.pixel_mm)
        step = (p.pixel_mm or 1.0) * factor
        height = step * p.bin_rows / p.bin_columns
        across = [(i - (size - 1) / 2) * step for i in range(size)]
        return Layout(
            axes=(
                Axis("z", [row * height for row in range(p.n_rows)], name, "detector row"),
                Axis("y", across, name),
                Axis("x", across, name),
            ),
            units=self.units,
            long_name="attenuation" if p.kind == "counts" else "density",
            title=f"Tomography of {p.path.name}",
            metadata=p.metadata,
            unusable=self.unusable,
        )

    @cached_property
    def geometry(self) -> Geometry:
        """Axis, image size and pixel size; whether rays are parallel, a fan or a cone."""
        p, o = self.projections, self.options
        if o.source_mm is not None and not p.pixel_mm:
            raise InputError(
                f"{p.path} states no pixel size, which distances need.",
                "give it with --pixel-mm: the detector's, divided by the magnification.",
            )
        axis = self._axis()
        # Images are per pixel where the pixel is not known, and where values are no attenuation.
        pitch = p.pixel_mm / _MILLIMETRES[o.units] if self.units and p.pixel_mm else 1.0
        unit = pitch / (p.pixel_mm or 1.0)
        size = o.size or image_size(p.n_columns, axis)
        width, seen = self._region(axis)
        width = max(width, size)
        return Geometry(
            torch.from_numpy(np.asarray(p.angles, dtype=np.float64)),
            p.n_columns,
            axis,
            width + (width - size) % 2,
            pitch,
            math.inf if o.source_mm is None else o.source_mm * unit,
            (o.detector_mm or 0.0) * unit,
            matrix_bytes=matrix_memory(MATRIX_BYTES),
            shown=size,
            seen=seen,
        )

    def _region(self, axis: float) -> tuple[int, float | None]:
        """Pixels of the region that is modelled, and the radius that all projections see.

        The radius is None where the sample is not wider than the detector.
        """
        p, o = self.projections, self.options
        if o.source_mm is not None:
            return o.width or 0, None
        rows, angles = some_rows(p, o, self._some)
        if not is_truncated(rows, angles, axis):
            return o.width or 0, None
        natural = image_size(p.n_columns, axis)
        width = o.width or math.ceil(natural * widening(rows, angles, axis, natural))
        return width, seen_radius(p.n_columns, axis, angles)

    @cached_property
    def prepare(self) -> Callable[[int], Sinogram]:
        """The corrected sinogram of one row; the last ones are kept."""
        return lru_cache(maxsize=2)(lambda row: prepare(self.projections, row, self.options))

    @cached_property
    def operator(self) -> Callable[[torch.device], Projector | ConeBeam]:
        """The projector on a device, the same for all slices."""
        return lru_cache(maxsize=None)(self.geometry.operator)

    @cached_property
    def scale(self) -> float:
        """Attenuation that becomes 1 in the prior's units, from a few rough reconstructions."""
        if self.options.scale:
            return self.options.scale
        previews = self._previews()
        seen = self.geometry.field_of_view()
        inside = previews.values() if seen is None else [x * seen for x in previews.values()]
        found = max(map(_bright_end, inside))
        if not found > 0:
            raise InputError(
                f"{', '.join(previews)} of {self.projections.path} show no sample.",
                "check flats and darks, or give the attenuation of the sample with --scale.",
            )
        return found

    def _previews(self) -> Mapping[str, Tensor]:
        """Rough reconstructions of rows all over the scan, by the name of the row."""
        operator = self.operator(_CPU)
        return {f"row {row}": self._plain(self.prepare(row), operator) for row in self._some}

    @property
    def _some(self) -> Sequence[int]:
        """A few usable rows from all over the scan."""
        n = len(self.good)
        return [self.good[i] for i in sorted({n // 4, n // 2, (3 * n) // 4})]

    def problem(self, index: int, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of one row, scaled to the prior's range."""
        sinogram = self.prepare(index)
        baseline = self._plain(sinogram, self.operator(device))
        return self._problem(sinogram, baseline, prior, device)

    def coarse(self, index: int, prior: Prior, device: torch.device, factor: int) -> Problem | None:
        """See `tiltkit.problem.CoarseScan`; fewer columns and fewer projections."""
        p, o, g = self.projections, self.options, self.geometry
        p = p.subset(slice(None, None, factor))
        p = replace(
            p,
            bin_columns=p.bin_columns * factor,
            pixel_mm=p.pixel_mm and p.pixel_mm * factor,
        )
        update = {
            "axis": str(binned_position(g.axis, factor)),
            "size": max(g.image_size // factor, _SMALLEST),
            "width": max(g.size // factor, _SMALLEST),
            "scale": self.scale,
            "air": o.air and o.air // factor,
        }
        options = o.model_copy(update=update)
        coarse = replace(self, projections=p, options=options)
        vars(coarse)["unusable"] = self.unusable  # not searched again: rows are the same
        return coarse.problem(index, prior, device)

    def coarser(self, factor: int) -> str:
        """See `tiltkit.problem.CoarseScan`."""
        return f"--bin-columns {self.projections.bin_columns * factor}"

    def _problem(
        self, sinogram: Sinogram, baseline: Tensor, prior: Prior, device: torch.device
    ) -> Problem:
        operator, scale = self.operator(device), self.scale
        shape = (1, *operator.shape)

        geometry = self.geometry

        def to_image(x: Tensor) -> Tensor:
            return geometry.crop(x[:, 0]) * scale

        variance = sinogram.variance
        measured = np.isfinite(variance)
        return Problem(
            prior=prior,
            likelihood=self._likelihood(sinogram, operator, scale, device),
            shape=shape,
            to_image=to_image,
            baseline=baseline[0],
            facts={
                "rotation_axis": self.geometry.axis,
                "scale": scale,
                "data_noise_level": float(np.sqrt(np.median(variance[measured]))),
                **sinogram.facts,
            },
            notes=sinogram.notes,
            constraint=Constraint(nonnegative=True) if self.options.nonnegative else None,
            field_of_view=geometry.field_of_view(),
        )

    @cached_property
    def notes(self) -> Sequence[Note]:
        """Notes on parts of the file that were chosen, found, left out or assumed on reading."""
        return tuple(dict.fromkeys(self._notes()))

    def _notes(self) -> Iterator[Note]:
        p, axis = self.projections, self.geometry.axis
        yield from p.notes
        if self.options.axis == "auto":
            text = f"The rotation axis is column {axis:.2f}, found from the projections."
            yield Note("axis_found", text)
        if not p.pixel_mm:
            yield Note("pixel_unknown", "The pixel size is unknown: axes are in pixels.")
        yield from self._truncation()
        yield from self._missing_directions()
        if self.unusable:
            text = f"{len(self.unusable)} of {p.n_rows} rows cannot be used and are left out."
            yield Note("rows_left_out", text)
        yield from self.shown.notes
        yield from self._few_photons()

    @property
    def shown(self) -> Sinogram:
        """The middle row, which `describe` summarises."""
        return self.prepare(self.middle)

    def describe(self) -> Mapping[str, Any]:
        """Facts about the file and its middle row, by their names, for `tiltkit check`."""
        p, g, sinogram = self.projections, self.geometry, self.shown
        measured = np.isfinite(sinogram.variance)
        lines = sinogram.line_integrals[measured]
        name, factor = display_length(p.pixel_mm)
        empty = f", of which {len(self.unusable)} are unusable" if self.unusable else ""
        return {
            "layout": p.layout + (f", scan {p.name}" if p.name else ""),
            "rows (slices)": f"{p.n_rows}{empty}" if empty else p.n_rows,
            "columns": p.n_columns,
            "projections": f"{len(p.angles)} over {np.degrees(np.ptp(p.angles)):.1f} degrees",
            "pixel": f"{p.pixel_mm * factor:.4g} {name}" if p.pixel_mm else "unknown",
            "energy": f"{p.energy_kev:g} keV" if p.energy_kev else "unknown",
            "rotation axis": f"column {g.axis:.2f}"
            + (" (found)" if self.options.axis == "auto" else " (given)"),
            "image": f"{g.image_size} x {g.image_size}, in"
            f" {self.units or 'units of the file per pixel'}",
            **({} if g.seen is None else {"region modelled": f"{g.size} x {g.size}"}),
            "line integrals": f"{lines.min():.3g} to {lines.max():.3g}",
            "noise level": f"{np.sqrt(np.median(sinogram.variance[measured])):.3g} (median)",
            **{name.replace("_", " "): _as_text(value) for name, value in sinogram.facts.items()},
            "the prior's 1": f"{self.scale:.4g}",
        }

    def _truncation(self) -> Iterator[Note]:
        g = self.geometry
        if g.seen is None:
            return
        text = (
            f"The sample is wider than the detector: {g.size} x {g.size} pixels are modelled"
            f" (--width), {g.image_size} x {g.image_size} are kept. Beyond {g.seen:.4g} pixels from"
            " the rotation axis, where projections are missing, values are NaN."
        )
        if self.options.width is None and g.size >= WIDEST * image_size(g.columns, g.axis):
            text += " The sample may be wider still: compare with a larger --width."
        yield Note("sample_truncated", text, assumed=self.options.width is None)

    def _missing_directions(self) -> Iterator[Note]:
        missing = math.degrees(widest_gap(self.geometry.angles))
        if missing > _MISSING:
            text = (
                f"Projections are missing over {missing:.4g} degrees: detail that only they would"
                " show is determined by the prior alone."
            )
            yield Note("directions_missing", text)

    def _few_photons(self) -> Iterator[Note]:
        photons, counted = self.shown.facts.get("photons", math.inf), self.shown.counts is not None
        if self.options.likelihood == "gaussian" and counted and photons < _FEW_PHOTONS:
            text = (
                f"Half of the rays have less than {photons:.3g} photons, for which Gaussian noise"
                " is a rough approximation: compare with --likelihood poisson,"
                " unless the readout noise is as large."
            )
            yield Note("few_photons", text, assumed=True)

    @property
    def units(self) -> str:
        """Unit of the images: of attenuation, or empty."""
        p = self.projections
        if p.kind != "counts":
            return ""
        return self.options.units if p.pixel_mm else "1/px"

    def _axis(self) -> float:
        p, text = self.projections, self.options.axis
        if text == "centre":
            return (p.n_columns - 1) / 2
        if text == "auto":
            return find_axis(p, self.options, self.good)
        axis = float(text)
        check_axis(axis, p.n_columns)
        return axis

    def _likelihood(
        self, sinogram: Sinogram, operator: Projector | ConeBeam, scale: float, device: torch.device
    ) -> Likelihood:
        """Likelihood of images that are 1 where the attenuation is ``scale``."""

        def on_device(values: Any, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.from_numpy(np.asarray(values)).to(device, dtype)[None]

        if self.options.likelihood == "gaussian":
            variance = on_device(sinogram.variance, torch.float64) / scale**2
            return gaussian(operator, on_device(sinogram.line_integrals) / scale, variance)
        if sinogram.counts is None or sinogram.blank is None:
            raise InputError(
                f"{self.projections.path} gives line integrals here, not counts: it holds them, or"
                " phase retrieval made them.",
                "use --likelihood gaussian.",
            )
        scaled = Weighted(operator, torch.tensor(scale, device=device))
        return TransmissionPoissonLikelihood(
            scaled, on_device(sinogram.counts), on_device(sinogram.blank, torch.float64)
        )

    def _plain(self, sinogram: Sinogram, operator: Projector | ConeBeam) -> Tensor:
        """Image (1, ny, nx) without a prior."""
        return self.geometry.crop(self._region_without_prior(sinogram, operator))

    def _region_without_prior(self, sinogram: Sinogram, operator: Projector | ConeBeam) -> Tensor:
        """Region that is modelled (1, ny, nx), without a prior."""
        y = torch.from_numpy(sinogram.line_integrals).to(operator.angles)
        if isinstance(operator, ParallelBeam):
            if self.geometry.seen is not None:
                y, operator = extended(y, operator, self.geometry.size)
            return filtered_back_projection(y, operator, self.options.window)
        measured = torch.from_numpy(np.isfinite(sinogram.variance)).to(y)
        weighted = Weighted(operator, measured)
        top = float(weighted.normal(torch.ones(1, 1, *operator.shape).to(y)).max())
        back = weighted.adjoint(y[None])
        image, _ = conjugate_gradient(weighted.normal, back, _DAMPING * top, 1.0, rtol=_ROUGH)
        return image[0]


def _bright_end(image: Tensor) -> float:
    """`image_scale` of a blurred image (1, *space)."""
    return image_scale(gaussian_filter(image[0].double().cpu().numpy(), _BLUR))


def _as_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
