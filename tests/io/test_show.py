from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tiltkit.errors import InputError
from tiltkit.hookspecs import ReaderEntry
from tiltkit.io.reading import open_hdf5, read_estimate
from tiltkit.io.result import ResultWriter
from tiltkit.io.show import describe
from tiltkit.posterior.outcome import Outcome
from tiltkit.posterior.warnings import Caution
from tiltkit.problem import Note


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


def test_a_result_shows_its_warnings_by_their_codes_and_every_note(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> None:
    notes = (Note("rows_left_out", "Row 3."), Note("rows_left_out", "Row 4.", assumed=True))
    far = Caution("far_from_training", "They differ.", 1.7, 1.0, "Try another prior.")
    with start() as writer:
        for index in range(3):
            writer.write(index, outcome(diagnostics={"notes": notes, "warnings": [far]}))
        writer.finish()
    shown = describe(writer.path)
    assert shown["notes"] == {"note 1": "Row 3.", "assumed 2": "Row 4."}
    assert shown["warnings"] == {"far_from_training": "They differ. Try another prior."}


def test_an_unfinished_result_shows_its_finished_slices(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> None:
    with start() as writer:
        writer.write(1, outcome())
    assert describe(writer.part)["slices"] == "1 of 3 (unfinished)"


@pytest.mark.parametrize("place", [b"HEAP", b"SNOD", b"TREE", b"data_errors", b'"seed"', b"brain"])
def test_a_result_with_damaged_structure_is_reported_as_damaged(result: Path, place: bytes) -> None:
    content = result.read_bytes()
    assert place in content
    result.write_bytes(content.replace(place, b"\xff" * len(place)))
    with pytest.raises(InputError, match="is damaged"):
        _ = describe(result), read_estimate(result, 0)


def test_a_scan_with_damaged_structure_is_reported_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    for place in (b"HEAP", b"SNOD", b"TREE"):
        with h5py.File(path, "w") as file:
            file["entry/kspace"] = np.zeros((1, 2, 4, 4), np.complex64)
        path.write_bytes(path.read_bytes().replace(place, b"\xff" * len(place)))
        with pytest.raises(InputError, match="is damaged"):
            describe(path)


def test_missing_datasets_and_errors_of_a_reader_are_not_reported_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    h5py.File(path, "w").close()
    with pytest.raises(KeyError, match="kspace"), open_hdf5(path) as file:
        file["kspace"]
    with pytest.raises(RuntimeError, match="a mistake"), open_hdf5(path):
        raise RuntimeError("a mistake")


def test_any_other_file_shows_its_datasets_and_readers(tmp_path: Path, fake_plugins: Any) -> None:
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
