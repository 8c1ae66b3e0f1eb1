from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiltkit.files.result import ResultWriter
from tiltkit.files.show import describe
from tiltkit.hookspecs import ReaderEntry
from tiltkit.sampling.outcome import Outcome


class Kspace:
    """Reads files with a dataset ``kspace``."""

    @staticmethod
    def matches(path: Path) -> bool:
        with h5py.File(path) as file:
            return "kspace" in file


def test_a_result_shows_the_settings_that_made_it(result: Path, recipe: dict[str, Any]) -> None:
    shown = describe(result)
    assert shown["kind"] == "result"
    assert shown["recipe"] == recipe
    assert (shown["slices"], shown["image"], shown["samples"]) == (3, "12 x 10", 4)
    assert shown["axes"]["y"] == "mm"
    assert shown["certificate"]["verdict"] == "ok"
    assert shown["provenance"]["raw_file"] == "scan.h5"


def test_figures_that_differ_between_slices_are_shown_as_a_range(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> None:
    with start() as writer:
        for index, chi2 in enumerate((1.5, 0.5, 1.0)):
            writer.write(index, outcome(diagnostics={"chi2": chi2, "network_calls": 98}))
        writer.finish()
    certificate = describe(writer.path)["certificate"]
    assert certificate == {"chi2": {"min": 0.5, "max": 1.5}, "network_calls": 98}


def test_an_unfinished_result_says_how_far_it_is(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> None:
    with start() as writer:
        writer.write(1, outcome())
    assert describe(writer.part)["slices"] == "1 of 3 (unfinished)"


def test_any_other_file_shows_its_datasets_and_who_reads_it(
    tmp_path: Path, fake_plugins: Any
) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.zeros((1, 2, 4, 4), np.complex64)
        file["ismrmrd_header"] = "<xml/>"
    entry = ReaderEntry(name="mri.fastmri", target="m:a", summary="")
    shown = describe(path, fake_plugins("reader", {entry: Kspace}))
    assert shown == {
        "kind": "scan",
        "readers": ["mri.fastmri"],
        "datasets": {"kspace": "1 x 2 x 4 x 4, complex64", "ismrmrd_header": "scalar, text"},
    }
