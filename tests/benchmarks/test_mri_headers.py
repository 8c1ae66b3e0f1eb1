"""Mutated headers and flags of MRI raw data, the benchmark in small."""

from __future__ import annotations

from pathlib import Path

import mri_headers


def test_no_mutation_of_a_header_crashes_or_gives_a_wrong_image_in_silence(tmp_path: Path) -> None:
    counts = mri_headers.survey(60, seed=1, folder=tmp_path)
    assert not {"CRASH", "WRONG", "other size"} & set(counts)
    assert min(counts["refused"], counts["noted"], counts["same"]) > 0
