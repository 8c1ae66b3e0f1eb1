"""What cannot be trained on is refused before the first step, with the reason and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltkit.errors import InputError, TiltkitError, UsageError
from tiltkit.training.recipe import resolve
from tiltkit.training.train import train

from .conftest import Recipe, volume


def refusal(recipe: Any) -> TiltkitError:
    """The error of a training that never starts."""
    with pytest.raises(TiltkitError) as caught:
        next(train(recipe))
    assert caught.value.hint
    assert not list(Path(recipe.output).parent.glob("prior*"))
    return caught.value


def test_nothing_to_train_on(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "empty").mkdir()
    assert "no image in" in str(refusal(recipe(tmp_path / "empty")))
    (tmp_path / "empty" / "readme.txt").write_text("no image")
    assert "1 file looked at" in str(refusal(recipe(tmp_path / "empty")))
    assert "no file or folder" in str(refusal(recipe(tmp_path / "absent")))


def test_one_image(tmp_path: Path, recipe: Recipe) -> None:
    np.save(tmp_path / "a.npy", volume(0)[0])
    assert "There is only one image" in str(refusal(recipe(tmp_path / "a.npy")))


def test_crop_larger_than_an_image(folder: Path, recipe: Recipe) -> None:
    np.save(folder / "small.npy", volume(7, height=20))
    error = str(refusal(recipe(folder, training={"crop": 24})))
    assert "small.npy, slice 0 is 20 x 32 pixels, smaller than a crop of 24" in error
    assert "at most 20" in error


def test_mixed_sizes_are_fine_when_the_crop_fits(folder: Path, recipe: Recipe) -> None:
    np.save(folder / "large.npy", volume(7, height=50, width=40))
    prepared = next(train(recipe(folder, data={"held_out": ["head0"]})))
    assert "36 x 32 to 50 x 40 pixels" in prepared.facts["image"]


def test_not_a_number(folder: Path, recipe: Recipe) -> None:
    values = volume(7)
    values[2, 3, 4] = np.nan
    np.save(folder / "bad.npy", values)
    assert "bad.npy, slice 2 has 1 values that are NaN" in str(refusal(recipe(folder)))


def test_a_number_too_large_for_float32(folder: Path, recipe: Recipe) -> None:
    np.save(folder / "bad.npy", volume(7).astype(np.float64) * 1e300)
    assert "too large for float32" in str(refusal(recipe(folder)))


def test_constant_images_alone(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "flat").mkdir()
    for name in "ab":
        np.save(tmp_path / "flat" / f"{name}.npy", np.ones((4, 36, 32)))
    assert "flat are equal: there is nothing" in str(refusal(recipe(tmp_path / "flat")))


def test_wrong_channels(folder: Path, recipe: Recipe) -> None:
    error = str(refusal(recipe(folder, data={"channels": 3})))
    assert "images with 1 channel, not 3 channels" in error


def test_a_damaged_file(folder: Path, recipe: Recipe) -> None:
    (folder / "bad.h5").write_bytes(b"")
    assert "bad.h5 is empty" in str(refusal(recipe(folder)))


def test_pickles_are_never_loaded(folder: Path, recipe: Recipe) -> None:
    np.save(folder / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    error = refusal(recipe(folder))
    assert isinstance(error, InputError)
    assert "allow_pickle" not in str(error)
    (folder / "bad.npy").write_bytes(b"no array")
    assert "bad.npy cannot be read: it holds no array of numbers" in str(refusal(recipe(folder)))


def test_a_scale_of_another_size(folder: Path, recipe: Recipe) -> None:
    assert "their root mean square" in str(refusal(recipe(folder, data={"scale": 1.0})))
    assert "their root mean square" in str(refusal(recipe(folder, data={"scale": 1e-38})))


def test_noise_that_leaves_no_levels(folder: Path, recipe: Recipe) -> None:
    assert "too close to network.sigma_max" in str(refusal(recipe(folder, data={"noise": 9e3})))


def test_an_output_that_is_there(folder: Path, recipe: Recipe) -> None:
    made = recipe(folder)
    Path(made.output).write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        next(train(made))
    Path(made.output).rename(Path(made.output).with_suffix(".md"))
    with pytest.raises(UsageError, match=r"prior.md exists"):
        next(train(made))
    with pytest.raises(UsageError, match=r"prior.md exists"):
        next(train(made, resume=True))  # from nothing: whoever wrote it, no training did


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"stepz": 4}}, r"no option 'training.stepz'(.|\n)*'steps'"),
        ({"training": {}}, "no budget"),
        ({"training": {"steps": 4, "minutes": 1}}, "two budgets"),
        ({"data": {}, "training": {"steps": 1}}, "'data.paths' is missing"),
        ({"network": {"widths": [8]}}, "1 numbers and network.blocks 4"),
        ({"network": {"sigma_min": 9}}, "not below network.sigma_max"),
        ({"network": {"widths": [0], "blocks": [1]}}, "greater than or equal to 1"),
        ({"data": {"paths": ["a"], "kind": "complex", "channels": 2}}, "one channel here"),
        ({"data": {"paths": ["a"], "augment": "mri"}}, "makes up phases"),
        ({"data": {"paths": ["a"], "kind": "complex", "offset": 9}}, "offset is 9, but nothing"),
        ({"data": {"paths": ["a"], "augment": "natural", "noise": 1}}, "change the noise"),
        ({"data": {"paths": ["a"], "bright": 0.1, "noise": 1}}, "bright = 0.1 would change"),
        ({"scans": {"task": "mri-recon"}, "data": {"paths": ["a"], "bright": 0.1}}, "bright = 0.1"),
        ({"output": "prior.pt"}, "does not end in .safetensors"),
        ({"data": "a"}, "must be a table"),
        ({"datas": {}}, r"no setting 'datas'(.|\n)*'data'"),
    ],
)
def test_settings_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    base = {"data": {"paths": ["a"]}, "training": {"steps": 4}}
    with pytest.raises(UsageError, match=message):
        resolve(base | values)
