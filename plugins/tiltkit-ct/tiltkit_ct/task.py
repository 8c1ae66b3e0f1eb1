"""The task ``ct-recon``: posterior of the attenuation in slices of a tomography scan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch

from tiltkit.errors import InputError
from tiltkit_ct.candidates import candidates, show_candidates
from tiltkit_ct.cone_scan import ConeScan
from tiltkit_ct.examine import examine
from tiltkit_ct.recon_options import CtOptions
from tiltkit_ct.scan import CtScan
from tiltkit_ct.select import select
from tiltkit_ct.sources import open_projections
from tiltkit_ct.turn import find_turn

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["CtOptions", "CtRecon", "CtScan"]


class CtRecon:
    """Reconstruct the attenuation in slices across the rotation axis, one per detector row.

    Counts become line integrals ``-log(counts / blank)`` with known noise; the image is what they
    are integrals of, in 1/cm or 1/mm. Line integrals as they are (electron tilt series) give
    images in their own unit per pixel. Rows of a cone beam are reconstructed together.
    """

    Options: ClassVar[type[BaseModel]] = CtOptions
    default_prior: ClassVar[str] = "ct.general"

    def __init__(self, options: CtOptions) -> None:
        self.options = options

    @contextmanager
    def open(self, path: Path) -> Iterator[CtScan]:
        """Open a scan read-only, check it and find its rotation axis.

        Raises:
            InputError: The file cannot be read, has another layout, or holds unusable values.
        """
        with open_projections(path, self.options) as projections:
            turned = find_turn(projections, self.options)
            chosen = examine(select(turned, self.options), self.options)
            tried = candidates(self.options.axis)
            if tried:
                row = CtScan(chosen, self.options).middle
                picture = show_candidates(chosen, tried, self.options, row)
                raise InputError(
                    f"The slices for {len(tried)} rotation axes are drawn in {picture}.",
                    "look for the sharpest one and give its column with --axis.",
                )
            cone = self.options.source_mm is not None and chosen.n_rows > 1
            scan = (ConeScan if cone else CtScan)(chosen, self.options)
            scan.operator(torch.device("cpu"))  # an axis that cannot be found shows here
            scan.shown  # noqa: B018  (neither are other faults kept for later)
            yield scan
