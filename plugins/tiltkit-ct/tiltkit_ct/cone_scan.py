"""An open cone-beam scan: all detector rows together give one volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.errors import InputError, UsageError
from tiltkit.priors.slicewise import slicewise
from tiltkit.problem import Note
from tiltkit.protocols import Axis, Layout
from tiltkit_ct.prepare import Sinogram
from tiltkit_ct.scan import CtScan

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tiltkit.problem import Problem
    from tiltkit.protocols import Prior
    from tiltkit_ct.geometry import Geometry

__all__ = ["ConeScan"]


@dataclass(frozen=True)
class ConeScan(CtScan):
    """Rays cross many slices, so that no row can be reconstructed by itself.

    The prior is one of slices: it is applied to every plane across the rotation axis. The data
    couple the planes.
    """

    @property
    def unusable(self) -> Mapping[int, str]:
        """No slice: unusable rows are masked."""
        return {}

    @cached_property
    def layout(self) -> Layout:
        """One volume."""
        whole = super().layout
        return replace(whole, axes=(Axis("volume", [0.0]), *whole.axes))

    @cached_property
    def geometry(self) -> Geometry:
        """Geometry of a slice, with all rows."""
        p, o = self.projections, self.options
        if p.bin_rows != p.bin_columns:
            raise UsageError(
                f"Detector rows of a cone beam are binned by {p.bin_rows}, columns by"
                f" {p.bin_columns}.",
                "use --binning, which keeps pixels square.",
            )
        level = p.middle_row if o.source_row is None else o.source_row
        return replace(super().geometry, rows=p.n_rows, level=level)

    def coarse(self, index: int, prior: Prior, device: torch.device, factor: int) -> None:
        """None: voxels are cubes, and rows are not binned here."""
        del index, prior, device, factor

    @cached_property
    def shown(self) -> Sinogram:
        """All rows (angle, row, column), corrected; those that cannot be used are masked.

        Raises:
            InputError: There is none that can.
        """
        good: dict[int, Sinogram] = {}
        fault: InputError | None = None
        for row in range(self.projections.n_rows):
            try:
                good[row] = self.prepare(row)
            except InputError as error:
                fault = error
        if fault and not good:
            raise fault
        return _stacked(good, self.projections.n_rows)

    @cached_property
    def _rough(self) -> Tensor:
        """The volume (1, z, y, x) without a prior."""
        return self._plain(self.shown, self.operator(torch.device("cpu")))

    def _previews(self) -> Mapping[str, Tensor]:
        """Rough reconstruction of the whole volume, by the name of its rows."""
        return {"all rows": self._rough}

    def problem(self, index: int, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of the volume, scaled to the prior's range."""
        return self._problem(self.shown, self._rough, slicewise(prior), device)

    def describe(self) -> Mapping[str, Any]:
        """Facts about the file, by their names."""
        g = self.geometry
        facts = dict(super().describe())
        facts["image"] = f"{g.rows} x {facts['image']}"
        level = (self.projections.n_rows - 1) / 2 if g.level is None else g.level
        facts["beam"] = (
            f"cone, source {self.options.source_mm:g} mm before the axis, level with row {level:g}"
        )
        return facts


def _stacked(good: Mapping[int, Sinogram], n_rows: int) -> Sinogram:
    """Rows one over the other, the missing ones masked; facts of all together."""
    first = next(iter(good.values()))

    def together(name: str, masked: float) -> NDArray[np.float32] | None:
        if getattr(first, name) is None:
            return None
        rows = np.full((len(first.angles), n_rows, first.variance.shape[1]), masked, np.float32)
        for row, sinogram in good.items():
            rows[:, row] = getattr(sinogram, name)
        return rows

    missing = [str(row) for row in range(n_rows) if row not in good]
    notes = [note for row in good.values() for note in row.notes]
    if missing:
        words = f"Detector rows that cannot be used: {', '.join(missing)}."
        notes.append(Note("rows_left_out", words))
    facts = dict(first.facts)
    lines, variance = together("line_integrals", 0.0), together("variance", np.inf)
    assert lines is not None and variance is not None  # noqa: S101, PT018  (every row has them)
    facts["masked"] = float(np.isinf(variance).mean())
    if "zingers" in facts:
        facts["zingers"] = sum(row.facts["zingers"] for row in good.values())
    return Sinogram(
        line_integrals=lines,
        variance=variance,
        counts=together("counts", 0.0),
        blank=together("blank", 0.0),
        angles=first.angles,
        facts=facts,
        notes=tuple(dict.fromkeys(notes)),
    )
