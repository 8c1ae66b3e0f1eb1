"""Figures of a whole scan, and the last line of a run."""

from __future__ import annotations

from typing import Any

from tiltkit.posterior.verdict import Half, Verdict
from tiltkit.posterior.warnings import Caution
from tiltkit.problem import Note
from tiltkit.recon.summary import last_line, summarize

NO_TEST = Half("not tested", "no test was made")
RIGHT = Half("ok", "spread is right within 4 % in all bands")
GOOD = Verdict(RIGHT, NO_TEST).figures() | {
    "chi2": 1.02, "chi2_expected": 1.0, "rhat": 1.03, "levels": 9, "weighted_levels": 9,
}  # fmt: skip


def line(*reports: dict[str, Any], **more: str) -> str:
    return last_line(summarize(reports, 8, 12.3) | {"output": "out.h5"} | more)


def test_the_line_of_a_run_without_warnings_says_what_was_tested_and_what_was_not() -> None:
    assert line(GOOD, report="out.html") == (
        "out.h5: 1 slice, 8 samples, 12 s, report out.html. Samples follow the data (chi2 1.02,"
        " expected 1.00) and their spread is right within 4 % in all bands (Stein check); shares"
        " between separate explanations: not tested. Also tested without warning: agreement of"
        " independent runs (R-hat 1.03)."
    )
    weights = GOOD | {"ess_min": 5.2}
    assert line(weights) == line(GOOD), "weights that may be left out are no test"


def test_the_halves_of_the_verdict_are_those_of_the_worst_slice() -> None:
    few = GOOD | Verdict(Half("not tested", "too few"), NO_TEST).figures()
    text = line(GOOD, few, GOOD)
    assert "spread and mean: not tested (too few)" in text
    found = summarize([GOOD, few], 8, 1.0)
    assert found["local"] == {"status": "not tested", "text": "too few"}
    assert found["shares"]["status"] == "not tested"


def test_the_line_has_the_first_warning_in_full_and_the_codes_of_others() -> None:
    far = Caution("far_from_training", "Unusual.", 2.0, 1.0, "Try another prior.")
    few = Caution("few_independent_samples", "Few.", 1.0, 1.5)
    text = line(GOOD | {"warnings": [far, few]}, GOOD, GOOD)
    assert "Warning far_from_training (1 of 3 slices): Unusual. Try another prior." in text
    assert "Also: few_independent_samples. Samples follow the data" in text
    assert "training images" not in text


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
