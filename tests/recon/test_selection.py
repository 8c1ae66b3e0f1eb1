"""Checks of layouts and problems of tasks before sampling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tiltkit.errors import InputError, PluginError, TiltkitError
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.problem import Note, Problem
from tiltkit.protocols import Axis, Layout
from tiltkit.recon.slice import Parts, sample_slice
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions

CPU = torch.device("cpu")
LAYOUT = Layout((Axis("z", [0.0]), Axis("y", [0.0, 1.0, 2.0]), Axis("x", [0.0, 1.0])))
SLICE = SimpleNamespace(
    prior=SimpleNamespace(channels=1, sigma_range=(0.1, 2.0)),
    likelihood=GaussianLikelihood(Pointwise(torch.ones(1, 3, 2)), torch.zeros(1, 1, 3, 2), 1.0),
)
RIGHT = Problem(SLICE.prior, SLICE.likelihood, (1, 3, 2), lambda x: x[:, 0], torch.zeros(3, 2))


def parts(problem: Problem, **members: object) -> Parts:
    """A scan of one slice."""
    scan = SimpleNamespace(layout=LAYOUT, problem=lambda index, prior, device: problem, **members)
    recipe = SimpleNamespace(task={"name": "lab-task"}, samples=2, memory_gb=1.0, seed=0, runs=1,
                             baseline_only=False)  # fmt: skip
    sampler = Walmc(WalmcOptions())
    checkpoint = Path("no.checkpoint")
    return Parts(scan, [problem.prior], sampler, [CPU], recipe, checkpoint, "lab (lab-kit)")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"to_image": lambda x: x}, r"its to_image has \(1, 3, 2\)"),
        ({"baseline": torch.zeros(1, 3, 2)}, r"its baseline has \(1, 3, 2\)"),
        ({"baseline": torch.zeros(2, 3)}, r"its baseline has \(2, 3\)"),
        ({"phase": lambda x: x}, r"its phase has \(1, 3, 2\)"),
    ],
)
def test_images_of_another_shape_than_the_layout_are_an_error_of_the_task(changes, said):
    wrong = parts(replace(RIGHT, **changes))
    for ask in (lambda: wrong.first_problem(0), lambda: next(sample_slice(wrong, 0, 0, None))):
        with pytest.raises(PluginError, match=said) as caught:
            ask()
        assert "task lab-task of plugin lab (lab-kit) has" in caught.value.message


def test_a_problem_that_matches_its_layout_is_returned_unchanged():
    assert parts(RIGHT).first_problem(0)[0] is RIGHT


def test_notes_of_the_scan_come_before_those_of_the_slice_and_each_once():
    axis, dark = Note("axis_found", "Found."), Note("darks_assumed", "None.", assumed=True)
    annotated = parts(replace(RIGHT, notes=[axis]), notes=[dark, axis])
    assert annotated.first_problem(0)[0].notes == (dark, axis)


@pytest.mark.parametrize("notes", [["Odd angles."], "Odd angles.", {"angles": "odd"}, [None], 3])
def test_notes_that_are_no_records_are_the_fault_of_the_plugin_that_adds_the_task(notes):
    for wrong in (parts(RIGHT, notes=notes), parts(replace(RIGHT, notes=notes))):
        with pytest.raises(PluginError, match=r"lab \(lab-kit\) gives a note .* is a ") as caught:
            wrong.first_problem(0)
        assert "tiltkit.problem.Note" in caught.value.hint


def test_a_wrong_adjoint_is_reported_before_sampling():
    operator = Pointwise(torch.ones(1, 3, 2))
    operator.adjoint = lambda y: 1.5 * y
    wrong = replace(RIGHT, likelihood=replace(SLICE.likelihood, operator=operator))
    with pytest.raises(TiltkitError, match="adjoint does not fit its forward"):
        parts(wrong).first_problem(0)


@pytest.mark.parametrize("axes", [(), (Axis("z", []), *LAYOUT.axes[1:])])
def test_a_layout_without_images_is_refused(axes):
    with pytest.raises(InputError, match="holds no images: its axes are"):
        Layout(axes)
