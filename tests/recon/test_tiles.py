"""One certificate of all tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiltkit.posterior.warnings import Caution
from tiltkit.recon.tiles import combine_reports

WINDOWS = [[(0, 30), (0, 10)], [(30, 40), (0, 10)]]


def test_figures_of_tiles_are_summed_averaged_or_taken_from_the_worst_tile() -> None:
    odd = Caution("residual_ratio_high", "Odd.", 1.5, 1.4)
    one = {
        "seconds": 2.0, "measured": 300, "chi2": 1.0, "rhat": 1.1, "independent_samples": 9.0,
        "ess_min": 8.0, "residual_ratio_max": 1.0, "seed": 2**53 + 1,
    }  # fmt: skip
    two = {
        "seconds": 3.0, "measured": 100, "chi2": 1.4, "rhat": 1.0, "independent_samples": 4.0,
        "ess_min": 9.0, "residual_ratio_max": 1.5, "seed": 2**53 + 1, "warnings": [odd],
    }  # fmt: skip
    found = combine_reports([one, two], WINDOWS)
    assert found == {
        "seconds": 5.0, "measured": 400.0, "chi2": pytest.approx(1.1), "rhat": 1.1,
        "independent_samples": 4.0, "ess_min": 8.0, "residual_ratio_max": 1.5,
        "seed": 2**53 + 1, "tiles": 2, "notes": (),
        "warnings": (replace(odd, text="In 1 of 2 tiles: Odd."),),
    }  # fmt: skip
