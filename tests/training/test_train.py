"""Training: it learns, it repeats, it resumes, and what it writes can be used at once."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.plugins import load_plugins
from tiltkit.priors.weights import load_network
from tiltkit.training import loop, validation
from tiltkit.training.finish import Finished
from tiltkit.training.loop import Checked
from tiltkit.training.recipe import TrainRecipe, resolve
from tiltkit.training.record import Check, Record
from tiltkit.training.train import Stopped, train

from .conftest import Recipe, volume


def finish(recipe: TrainRecipe, **how: Any) -> Finished:
    """The last event of a training that is not stopped."""
    *_, last = train(recipe, **how)
    assert isinstance(last, Finished)
    return last


def stop_after(recipe: TrainRecipe, steps: int, **how: Any) -> Stopped:
    asked = itertools.count()
    *_, last = train(recipe, stop=lambda: next(asked) >= steps, **how)
    assert isinstance(last, Stopped)
    return last


def same_weights(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_to_denoise(folder: Path, recipe: Recipe) -> None:
    made = recipe(folder, training={"steps": 150, "rate": 3e-3, "batch": 8, "checks": 3})
    outcome = finish(made).outcome
    assert np.mean(outcome.record.losses[-20:]) < 0.8 * np.mean(outcome.record.losses[:5])
    at = outcome.levels.index(0.2)
    assert outcome.best.psnr[at] > outcome.noise_only[at] + 2
    assert outcome.noise_only[at] == pytest.approx(-20 * np.log10(0.2), abs=0.2)
    assert outcome.tv[at] > outcome.noise_only[at] + 4


def test_the_same_seed_gives_the_same_prior(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    paths = [tmp_path / f"{k}.safetensors" for k in "abc"]
    for path, seed in zip(paths, (5, 5, 6), strict=True):
        finish(recipe(folder, output=str(path), seed=seed, data={"held_out": ["head3"]}))
    assert same_weights(paths[0], paths[1])
    assert not same_weights(paths[0], paths[2])
    assert torch.equal(torch.random.get_rng_state(), state), "the global state is left alone"


def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    folder: Path, recipe: Recipe, tmp_path: Path
) -> None:
    whole = recipe(folder, training={"steps": 12, "checks": 3})
    expected = finish(whole).outcome
    parts = whole.model_copy(update={"output": str(tmp_path / "parts.safetensors")})
    assert stop_after(parts, 5).step == 5
    with pytest.raises(UsageError, match="--resume"):
        next(train(parts))
    assert stop_after(parts, 3, resume=True).step == 8
    found = finish(parts, resume=True).outcome
    assert found.record.losses == expected.record.losses, "bit for bit"
    assert found.record.checks == expected.record.checks
    assert same_weights(Path(whole.output), Path(parts.output))
    assert not list(tmp_path.glob("*.part*")), "the state is removed at the end"


def test_a_killed_training_goes_on_from_the_last_saving(folder: Path, recipe: Recipe) -> None:
    made = recipe(folder, training={"steps": 12, "checks": 3})
    events = train(made)
    next(event for event in events if isinstance(event, Checked) and event.check.step == 8)
    events.close()  # as hard as a kill: the state of the check at step 4 is the last one
    Path(made.output).with_suffix(".md").write_text("of a kill in the middle of the writing")
    assert len(finish(made, resume=True).outcome.record.losses) == 12


def test_resuming_with_other_settings_or_images_is_refused(folder: Path, recipe: Recipe) -> None:
    stop_after(recipe(folder), 3)
    with pytest.raises(UsageError, match=r"had training.rate = 0.0005, not 0.1"):
        list(train(recipe(folder, training={"rate": 0.1}), resume=True))
    values = np.load(folder / "head1.npy")
    values[0, 0, 0] += 1
    np.save(folder / "head1.npy", values)
    with pytest.raises(UsageError, match="had the images"):
        list(train(recipe(folder), resume=True))
    Path(recipe(folder).output + ".part").write_bytes(b"broken")
    with pytest.raises(TiltkitError, match="is damaged"):
        list(train(recipe(folder), resume=True))


def test_two_devices_train_as_one_does(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    alone = finish(recipe(folder)).outcome
    both = recipe(folder, device="cpu,cpu", output=str(tmp_path / "both.safetensors"))
    found = finish(both).outcome
    np.testing.assert_allclose(found.record.losses, alone.record.losses, rtol=1e-4)
    np.testing.assert_allclose(found.best.psnr, alone.best.psnr, atol=0.01)
    with pytest.raises(UsageError, match="3 cannot be shared by 2 devices"):
        next(train(recipe(folder, device="cpu,cpu", training={"batch": 3}), overwrite=True))


def test_noisy_images_alone_train_a_prior_above_their_noise(folder: Path, recipe: Recipe) -> None:
    rng = np.random.default_rng(0)
    for path in folder.iterdir():
        values = np.load(path)
        np.save(path, values + 100 * rng.standard_normal(values.shape, dtype=np.float32))
    made = recipe(folder, data={"noise": 100.0, "scale": 1000.0}, training={"steps": 4})
    outcome = finish(made).outcome
    assert outcome.job.sigma_range[0] == pytest.approx(0.125)
    assert outcome.levels == (0.2, 0.5, 1.0)
    # against the clean truth that nobody has seen, noise of 0.2 has 14 dB
    assert outcome.noise_only[0] == pytest.approx(-20 * np.log10(0.2), abs=0.3)
    assert any("noisy images" in caution for caution in outcome.cautions())


def test_weights_card_and_page_have_the_facts_of_the_training(folder: Path, recipe: Recipe) -> None:
    made = recipe(folder, data={"title": "heads & tails", "licence": "CC0-1.0"})
    done = finish(made)
    net, notes = load_network(done.weights, done.outcome.sha256)
    assert (net.channels, net.widths) == (1, (8, 16))
    assert (notes["licence"], notes["title"]) == ("CC0-1.0", "heads & tails")
    assert json.loads(notes["training"])["training"]["steps"] == 6
    card = done.card.read_text()
    for part in (done.outcome.sha256, "CC0-1.0", "total variation", "## Limits", "3 subjects"):
        assert part in card
    again = card.partition("```toml\n")[2].partition("```")[0]
    assert resolve(tomllib.loads(again)) == made, "it tells how to train it again"
    page = done.page.read_text()
    assert "heads &amp; tails" in page
    assert page.count("data:image/png") >= 7
    assert "<svg" in page
    assert not re.search(r"(src|href)=.http", page), "it needs no network"


def test_pictures_have_the_size_of_the_smallest_image(
    folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(folder / "big.npy", volume(7, height=50, width=44))
    made = recipe(folder, data={"held_out": ["big", "head0"]}, training={"steps": 2})
    outcome = finish(made).outcome
    assert outcome.samples.shape == outcome.held_out.shape == (6, 32, 32)
    monkeypatch.setattr(validation, "_LARGEST", 20)  # crops may be larger than what is measured
    made = recipe(folder, training={"steps": 2, "crop": 24})
    outcome = finish(made, overwrite=True).outcome
    assert outcome.samples.shape[1:] == outcome.held_out.shape[1:] == (20, 20)


def test_the_prior_can_be_used_at_once(folder: Path, recipe: Recipe) -> None:
    done = finish(recipe(folder))
    prior = load_plugins().create("prior", "network", {"weights": str(done.weights)})
    assert prior.channels == 1
    assert prior.score(torch.zeros(1, 1, 20, 24), 0.5).shape == (1, 1, 20, 24)
    assert "percentile 99" in prior.value_range
    with pytest.raises(TiltkitError, match="its sha256 differs"):
        load_plugins().create("prior", "network", {"weights": str(done.weights), "sha256": "0"})


def test_images_unlike_the_training_images_have_a_larger_distance(
    folder: Path, recipe: Recipe
) -> None:
    done = finish(recipe(folder, training={"steps": 60, "rate": 3e-3, "crop": 32}))
    prior = load_plugins().create("prior", "network", {"weights": str(done.weights)})
    held_out = torch.stack([torch.from_numpy(x.values) for x in done.outcome.job.held_out])
    stripes = (torch.arange(36) // 3 % 2).float()[:, None].expand(1, 1, 36, 32)
    assert prior.training_distance(held_out).median() < 1
    assert prior.training_distance(stripes).item() > 1
    assert "warns where its images differ from these" in done.card.read_text()


def test_noisy_images_make_no_profile(folder: Path, recipe: Recipe) -> None:
    done = finish(recipe(folder, data={"noise": 100.0, "scale": 1000.0}))
    prior = load_plugins().create("prior", "network", {"weights": str(done.weights)})
    assert prior.training_distance(torch.ones(1, 1, 36, 32)) is None
    assert "cannot compare its images" in done.card.read_text()


def test_it_ends_early_when_nothing_improves(
    folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = itertools.count(30, -1)
    monkeypatch.setattr(loop.ValidationSet, "psnr", lambda *_: (float(next(falling)),) * 6)
    made = recipe(folder, training={"steps": 40, "checks": 20, "patience": 3})
    outcome = finish(made).outcome
    assert (outcome.why, outcome.record.step, outcome.best.step) == ("patience", 8, 2)
    assert any("stopped early" in caution for caution in outcome.cautions())


def test_small_improvements_add_up() -> None:
    checks = [Check(k, (30 + 0.015 * k,)) for k in range(5)]
    record = Record(checks=checks)
    assert record.best == checks[4]
    assert Record(checks=[checks[0], checks[1]]).stale == 1


def test_a_training_that_diverges_says_so(
    folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Learner, "step", lambda *_: torch.tensor(torch.nan))
    with pytest.raises(TiltkitError, match=r"diverged before step 3(.|\n)*--overwrite"):
        list(train(recipe(folder)))  # --resume would refuse another rate


def test_a_budget_of_time_is_kept(folder: Path, recipe: Recipe) -> None:
    made = recipe(folder, training={"steps": None, "minutes": 0.02})
    outcome = finish(made).outcome
    assert 1.2 <= outcome.record.seconds < 2.5
    assert outcome.record.step > 3
