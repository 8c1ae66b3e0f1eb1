"""What `tiltkit check` and `show` tell of an open scan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit_ct.units import shown_length

if TYPE_CHECKING:
    from tiltkit_ct.scan import CtScan

__all__ = ["described"]

# Through the sample; the noise of fewer is worth a note.
_FEW_PHOTONS = 100


def described(scan: CtScan) -> Mapping[str, Any]:
    """What was found in the file and in its middle row."""
    p, g, sinogram = scan.projections, scan.geometry, scan.shown
    seen = np.isfinite(sinogram.variance)
    turn = np.degrees(np.ptp(p.angles))
    lines = sinogram.line_integrals[seen]
    name, factor = shown_length(p.pixel_mm)
    notes = dict.fromkeys([*p.notes, *sinogram.notes, *_few_photons(scan)])
    return {
        "layout": p.layout + (f", scan {p.name}" if p.name else ""),
        "rows (slices)": f"{p.n_rows}, of which {len(scan.unusable)} see nothing"
        if scan.unusable
        else p.n_rows,
        "columns": p.n_columns,
        "projections": f"{len(p.angles)} over {turn:.1f} degrees",
        "pixel": f"{p.pixel_mm * factor:.4g} {name}" if p.pixel_mm else "unknown",
        "energy": f"{p.energy_kev:g} keV" if p.energy_kev else "unknown",
        "rotation axis": f"column {g.axis:.2f}"
        + (" (found)" if scan.options.axis == "auto" else " (given)"),
        "image": f"{g.size} x {g.size}, in {scan.units or 'units of the file per pixel'}",
        "line integrals": f"{lines.min():.3g} to {lines.max():.3g}",
        "noise level": f"{np.sqrt(np.median(sinogram.variance[seen])):.3g} (median)",
        **{name.replace("_", " "): _shown(value) for name, value in sinogram.facts.items()},
        "the prior's 1": f"{scan.scale:.4g}",
        **{f"note {i + 1}": note for i, note in enumerate(notes)},
    }


def _few_photons(scan: CtScan) -> Iterator[str]:
    photons, counted = scan.shown.facts.get("photons", math.inf), scan.shown.counts is not None
    if scan.options.likelihood == "gaussian" and counted and photons < _FEW_PHOTONS:
        yield (
            f"Half of the rays have less than {photons:.3g} photons, whose noise is gaussian"
            " roughly: compare with --likelihood poisson --sampler walmc, unless reading out is"
            " as noisy."
        )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
