"""Figures of a whole scan, and the last line of a run."""

from __future__ import annotations

from typing import Any

from tiltkit.posterior.warnings import Caution
from tiltkit.problem import Note
from tiltkit.recon.summary import last_line, summarize

GOOD = {"chi2": 1.02, "chi2_expected": 1.0, "rhat": 1.03, "levels": 9, "weighted_levels": 9}


def line(*reports: dict[str, Any], **more: str) -> str:
    return last_line(summarize(reports, 8, 12.3) | {"output": "out.h5"} | more)


def test_the_line_of_a_run_without_warnings_lists_the_passed_tests() -> None:
    assert line(GOOD, report="out.html") == (
        "out.h5: 1 slice, 8 samples, 12 s, report out.html. No warnings. Tested: fit to the data"
        " (chi-squared per measured value 1.02, expected 1.00), agreement of independent runs"
        " (R-hat 1.03)."
    )
    weights = GOOD | {"ess_min": 5.2}
    assert "effective sample size at least 5.2" in line(weights)
    assert "effective sample size" not in line(weights | {"weighted_levels": 8})


def test_the_line_has_the_first_warning_in_full_and_the_codes_of_others() -> None:
    far = Caution("far_from_training", "Unusual.", 2.0, 1.0, "Try another prior.")
    few = Caution("few_independent_samples", "Few.", 1.0, 1.5)
    text = line(GOOD | {"warnings": [far, few]}, GOOD, GOOD)
    assert "Warning far_from_training (1 of 3 slices): Unusual. Try another prior." in text
    assert "Also: few_independent_samples. Tested without warning: fit to the data" in text
    assert "training images" not in text
    assert "No warnings" not in text


def test_the_line_repeats_assumptions_once_and_leaves_other_notes_out() -> None:
    angles = Note("angles_assumed", "Angles from 0 to 180 degrees are assumed.", assumed=True)
    axis = Note("axis_found", "The rotation axis was found.")
    text = line(GOOD | {"notes": [angles, axis]}, GOOD | {"notes": [angles]})
    assert text.endswith(" Assumed: Angles from 0 to 180 degrees are assumed.")
    assert text.count("Angles") == 1


def test_a_summary_names_the_slices_of_every_warning_and_note() -> None:
    far = [Caution("far_from_training", f"{x}.", x, 1.0) for x in (2.0, 3.0)]
    note = Note("axis_found", "The rotation axis was found.")
    found = summarize([{"warnings": [far[0]]}, {"notes": [note]}, {"warnings": [far[1]]}], 8, 1.0)
    assert found["warned"] == 2
    assert found["warnings"] == [
        {"code": "far_from_training", "text": "3.0.", "value": 3.0, "limit": 1.0, "hint": "",
         "slices": [0, 2]}
    ]  # fmt: skip
    assert found["notes"] == [
        {"code": "axis_found", "text": note.text, "assumed": False, "slices": [1]}
    ]
