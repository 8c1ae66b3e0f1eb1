"""Priors from undersampled scans alone: what is drawn, how it is learned from, what is refused."""

from __future__ import annotations

import itertools
import shutil
import tomllib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.plugins import load_plugins
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.priors.weights import load_network
from tiltkit.problem import Problem
from tiltkit.training.finish import Finished
from tiltkit.training.recipe import TrainRecipe, resolve
from tiltkit.training.rounds import Drawn
from tiltkit.training.scans import draw
from tiltkit.training.train import Stopped, check, train

from .conftest import Recipe, volume
from .test_train import same_weights


def write_scan(path: Path, seed: int, height: int = 32, patient: str = "") -> None:
    """A file in the fastMRI layout: three coils, half of the columns, a mask of its own."""
    rng = np.random.default_rng(seed)
    images = np.pad(volume(seed, 2, height, 24), ((0, 0), (height // 2,) * 2, (0, 0)))
    y, x = np.meshgrid(np.linspace(-1, 1, 2 * height), np.linspace(-1, 1, 24), indexing="ij")
    coils = np.stack([np.exp(-((x - a) ** 2) + 1j * a * y) for a in (-1, 0, 1)])
    mask = rng.random(24) < 0.3
    mask[8:16] = True
    kspace = np.fft.ifftshift(images[:, None] * coils, axes=(2, 3))
    kspace = np.fft.fftshift(np.fft.fft2(kspace, norm="ortho"), axes=(2, 3))
    noise = rng.normal(size=(*kspace.shape, 2)) @ np.array([1, 1j])
    with h5py.File(path, "w") as file:
        file["kspace"] = ((kspace + 10 * noise) * mask).astype(np.complex64)
        file["mask"] = mask
        file["reconstruction_rss"] = np.zeros((2, height, 24), np.float32)
        if patient:
            file.attrs["patient_id"] = patient


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Four scans of two slices."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in range(4):
        write_scan(folder / f"scan{seed}.h5", seed)
    return folder


@pytest.fixture
def recipe(recipe: Recipe) -> Recipe:
    """The recipe of images, for scans."""

    def make(path: Path, **tables: Any) -> TrainRecipe:
        data = {"kind": "complex", "augment": "mri", "held_out": ["scan3"]}
        scans = {"task": "mri-recon", "rounds": 2, "sampler": {"name": "twisted", "levels": 4}}
        return recipe(
            path,
            data=data | tables.pop("data", {}),
            scans=scans | tables.pop("scans", {}),
            **tables,
        )

    return make


def finish(made: TrainRecipe, **how: Any) -> tuple[list[Any], Finished]:
    """All events up to the last one, as the command takes them."""
    events: list[Any] = []
    for event in train(made, **how):
        if isinstance(event, Finished):
            return events, event
        events.append(event)
    raise AssertionError(events[-1])


def refusal(made: TrainRecipe, **how: Any) -> TiltkitError:
    with pytest.raises(TiltkitError) as caught:
        list(train(made, **how))
    assert caught.value.hint
    return caught.value


def test_drawn_images_vary_as_the_truth_does_where_nothing_was_measured() -> None:
    prior = SmoothGaussian(amplitude=0.3, corner=1.0, exponent=3.0)
    sampler = load_plugins().create("sampler", "twisted", {"levels": 24, "collect": 2})
    spectrum = prior.spectrum((8, 8), torch.device("cpu")).float().sqrt()
    generator = torch.Generator().manual_seed(0)
    truths, found = [], []
    for k in range(80):
        white = torch.randn(1, 1, 8, 8, generator=generator)
        truth = torch.fft.ifft2(torch.fft.fft2(white) * spectrum).real
        hidden = torch.rand(64, generator=generator) < 0.6
        operator = Dense(torch.eye(64)[~hidden], (1, 8, 8))
        clean = operator.forward(truth)
        y = clean + 0.05 * torch.randn(clean.shape, generator=generator)
        problem = Problem(
            prior,
            GaussianLikelihood(operator, y, 0.05**2),
            (1, 8, 8),
            lambda x: x[:, 0],
            torch.zeros(8, 8),
        )
        image = torch.from_numpy(draw(problem, sampler, (1, k), torch.device("cpu")))
        truths.append(truth.flatten()[hidden].square())
        found.append(image.flatten()[hidden].square())
        assert (image.flatten()[~hidden] - y).square().mean() < 4 * 0.05**2
    ratio = float(torch.cat(found).mean() / torch.cat(truths).mean())
    assert ratio == pytest.approx(1, abs=0.15), "a best guess would vary less"


def test_scans_become_a_prior(scans: Path, recipe: Recipe, tmp_path: Path) -> None:
    made = recipe(scans)
    events, done = finish(made)
    drawn = [event for event in events if isinstance(event, Drawn)]
    assert [(event.round, event.images) for event in drawn] == [
        (k, n) for k in (1, 2) for n in range(1, 9)
    ]
    assert len(done.outcome.record.losses) == 3, "each round has its share of the steps"
    assert done.outcome.job.facts()["trained on"] == "6 images of 3 subjects"
    assert any("undersampled" in caution for caution in done.outcome.cautions())
    net, notes = load_network(done.weights)
    assert (net.channels, "mri-recon" in notes["value_range"]) == (2, True)
    assert not list(tmp_path.glob("prior.safetensors.*")), "nothing of the rounds is left"
    card = done.card.read_text()
    assert "tiltkit run mri-recon SCAN" in card
    again = card.partition("```toml\n")[2].partition("```")[0]
    assert resolve(tomllib.loads(again)) == made, "the card tells how to train it again"


def test_later_rounds_draw_with_the_prior_of_the_round_before(
    scans: Path, recipe: Recipe, tmp_path: Path
) -> None:
    images = {}
    for event in train(recipe(scans)):
        if isinstance(event, Drawn) and event.images == event.total:
            folder = tmp_path / "prior.safetensors.rounds" / str(event.round - 1)
            images[event.round] = [np.load(path) for path in sorted(folder.glob("*.npy"))]
    assert images[1][0].shape == (2, 32, 24)
    assert not np.allclose(images[1][0], images[2][0])
    assert np.corrcoef(images[1][0].ravel(), images[2][0].ravel())[0, 1] > 0.5


def test_rounds_go_on_as_if_they_had_not_been_stopped(
    scans: Path, recipe: Recipe, tmp_path: Path
) -> None:
    whole = recipe(scans)
    _, expected = finish(whole)
    parts = whole.model_copy(update={"output": str(tmp_path / "parts.safetensors")})
    # in the drawing of the first round, in its learning, in the drawing of the second
    for stops, step in ((3, 0), (8, 2), (5, 0)):
        asked = itertools.count(1)
        *_, last = train(parts, resume=True, stop=lambda n=stops, k=asked: next(k) >= n)
        assert isinstance(last, Stopped)
        assert last.step == step
    with pytest.raises(UsageError, match="--resume"):
        next(train(parts))
    _, found = finish(parts, resume=True)
    assert found.outcome.record.losses == expected.outcome.record.losses, "bit for bit"
    assert same_weights(Path(whole.output), Path(parts.output))


def test_going_on_with_other_settings_or_scans_is_refused(scans: Path, recipe: Recipe) -> None:
    *_, last = train(recipe(scans), stop=lambda: True)
    assert isinstance(last, Stopped)
    assert "scans.rounds" in str(refusal(recipe(scans, scans={"rounds": 3}), resume=True))
    write_scan(scans / "scan0.h5", 9)
    assert "had the images" in str(refusal(recipe(scans), resume=True))
    finish(recipe(scans), overwrite=True)


def test_a_check_opens_every_scan_and_trains_nothing(scans: Path, recipe: Recipe) -> None:
    write_scan(scans / "large.h5", 7, height=40)
    facts = check(recipe(scans))
    assert facts["image"] == "32 x 24 to 40 x 24 pixels, 2 channels, complex"
    assert facts["rounds"] == "2, the first with the prior gaussian"
    (scans / "scan1.h5").write_bytes(b"broken")
    with pytest.raises(TiltkitError, match=r"scan1\.h5"):
        check(recipe(scans))


def test_scans_that_cannot_be_learned_from_are_refused(scans: Path, recipe: Recipe) -> None:
    one = recipe(scans / "scan0.h5", data={"held_out": 0.2})
    assert "2 images of one subject: too little" in str(refusal(one))
    assert "crop of 28" in str(refusal(recipe(scans, training={"crop": 28})))
    assert "has images of 2 channels" in str(
        refusal(recipe(scans, data={"kind": "magnitude", "augment": "none"}))
    )
    with h5py.File(scans / "scan2.h5", "a") as file:
        file["kspace"][1] = 0
    assert "scan2.h5 is zero everywhere in slice 1" in str(refusal(recipe(scans)))


def test_the_same_scan_or_patient_on_both_sides_is_refused(scans: Path, recipe: Recipe) -> None:
    shutil.copy(scans / "scan0.h5", scans / "copy.h5")
    assert "is also trained on" in str(refusal(recipe(scans, data={"held_out": ["copy"]})))
    (scans / "copy.h5").unlink()
    for seed in (4, 5):
        write_scan(scans / f"visit{seed}.h5", seed, patient="A")
    assert "the same patient" in str(refusal(recipe(scans, data={"held_out": ["visit4"]})))


def test_settings_that_scans_cannot_follow_are_refused(scans: Path, recipe: Recipe) -> None:
    for name, value in (("scale", 2.0), ("noise", 1.0), ("axis", 0)):
        with pytest.raises(UsageError, match=f"data.{name} is set, but the task mri-recon"):
            recipe(scans, data={name: value, "augment": "none"})
    with pytest.raises(UsageError, match="cannot be shared by 9 rounds"):
        recipe(scans, scans={"rounds": 9})
    assert "there is no task" in str(refusal(recipe(scans, scans={"task": "mri"}))).lower()
