"""Subjects are held out, never slices, and nothing is on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiltkit.errors import InputError, UsageError
from tiltkit.training.images import load_subjects
from tiltkit.training.job import prepare
from tiltkit.training.recipe import DataOptions
from tiltkit.training.split import split
from tiltkit.training.subjects import find_subjects

from .conftest import Recipe, volume
from .test_images import write_dicom


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, volume(0))


def names(*paths: str, **changes: object) -> dict[str, int]:
    """Files per subject."""
    options = DataOptions.model_validate({"paths": list(paths), **changes})
    return {name: len(volumes) for name, volumes in find_subjects(options).items()}


def test_files_and_folders_inside_a_folder_are_subjects(tmp_path: Path) -> None:
    touch(tmp_path / "a.npy", tmp_path / "b" / "1.npy", tmp_path / "b" / "deep" / "2.npy")
    touch(tmp_path / ".hidden" / "c.npy")
    (tmp_path / "notes.txt").write_text("no image")
    assert names(str(tmp_path)) == {"a": 1, "b": 2}
    assert names(f"{tmp_path}/*") == {"a": 1, "b": 2}
    assert names(f"{tmp_path}/b/**/*.npy") == {"1": 1, "deep": 1}
    assert names(f"{tmp_path}/a.npy") == {"a": 1}


def test_links_are_followed_and_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "store" / "a" / "1.npy", tmp_path / "store" / "key", tmp_path / "heads/b.npy")
    (tmp_path / "heads" / "sub-1").symlink_to(tmp_path / "store" / "a")
    (tmp_path / "store" / "a" / "2.npy").symlink_to(tmp_path / "heads" / "b.npy")
    (tmp_path / "store" / "a" / "back").symlink_to(tmp_path / "heads")
    (tmp_path / "heads" / "lost.npy").symlink_to(tmp_path / "nowhere.npy")
    assert names(str(tmp_path / "heads")) == {"b": 1, "sub-1": 1}
    assert names(f"{tmp_path}/heads/sub-*") == {"sub-1": 2}


def test_another_name_of_a_subject_is_no_other_subject(folder: Path, recipe: Recipe) -> None:
    (folder / "head3.npy").rename(folder / "sub.npy")
    (folder / "latest.npy").symlink_to(folder / "sub.npy")
    (folder.parent / "also").symlink_to(folder)
    everything = [str(folder), str(folder.parent / "also")]
    assert names(*everything) == {"head0": 1, "head1": 1, "head2": 1, "sub": 1}
    job = prepare(recipe(folder, data={"paths": everything, "held_out": ["sub"]}))
    assert (len(job.images), len(job.held_out)) == (12, 4)


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    touch(tmp_path / "heads" / "a.npy")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match="heads cannot be read: Permission denied"):
        names(str(tmp_path / "heads"))


def test_loose_dicom_files_are_one_subject(tmp_path: Path) -> None:
    write_dicom(tmp_path / "patient", volume(1), "A")
    assert names(str(tmp_path / "patient")) == {"patient": 1}
    assert names(str(tmp_path)) == {"patient": 1}


def test_an_expression_names_subjects(tmp_path: Path) -> None:
    touch(*(tmp_path / f"sub-{s}_slice-{k}.npy" for s in "xy" for k in range(3)))
    assert names(str(tmp_path), subject=r"sub-(\w)_") == {"x": 3, "y": 3}
    with pytest.raises(InputError, match="matches nothing in"):
        names(str(tmp_path), subject="patient-.")
    with pytest.raises(UsageError, match="no regular expression"):
        names(str(tmp_path), subject="(")


def test_a_share_holds_out_whole_subjects(folder: Path, recipe: Recipe) -> None:
    for seed in range(5):
        job = prepare(recipe(folder, data={"held_out": 0.5}, seed=seed))
        train = {s.name for s in job.split.train}
        held = {s.name for s in job.split.held_out}
        assert (len(train), len(held), train & held) == (2, 2, set())


def test_names_and_patterns_hold_out(folder: Path, recipe: Recipe) -> None:
    job = prepare(recipe(folder, data={"held_out": ["head2", "*3"]}))
    assert [s.name for s in job.split.held_out] == ["head2", "head3"]
    with pytest.raises(UsageError, match=r"no subject 'head9'(.|\n)*did you mean 'head"):
        prepare(recipe(folder, data={"held_out": ["head9"]}))
    with pytest.raises(UsageError, match="none is left to train on"):
        prepare(recipe(folder, data={"held_out": ["*"]}))
    with pytest.raises(UsageError, match="nothing is left to measure on"):
        prepare(recipe(folder, data={"held_out": []}))


def test_one_subject_is_parted_into_slabs_with_a_gap(tmp_path: Path, recipe: Recipe) -> None:
    np.save(tmp_path / "one.npy", volume(0, slices=20))
    job = prepare(recipe(tmp_path / "one.npy", data={"held_out": 0.2}))
    (train,), (held,) = job.split.train, job.split.held_out
    last, first = train.images[-1].source, held.images[0].source
    assert (last.rpartition(" ")[2], first.rpartition(" ")[2]) == ("14", "16")
    assert "one subject" in job.facts()["how"]


def test_the_same_image_on_both_sides_is_refused(folder: Path, recipe: Recipe) -> None:
    values = volume(0)
    values[1:] = volume(9)[1:]  # one slice of head0 again, under another name
    np.save(folder / "copy.npy", values)
    with pytest.raises(
        InputError, match=r"copy.npy, slice 0 is also trained on(.|\n)*looks better"
    ):
        prepare(recipe(folder, data={"held_out": ["copy"]}))
    prepare(recipe(folder, data={"held_out": ["copy", "head0"]}))


def test_the_same_patient_on_both_sides_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    for k, patient in enumerate("ABA"):
        write_dicom(tmp_path / f"visit{k}", volume(k), patient)
    with pytest.raises(InputError, match="visit2 and visit0, which is trained on, are the same"):
        prepare(recipe(tmp_path, data={"held_out": ["visit2"]}))
    prepare(recipe(tmp_path, data={"held_out": ["visit1"]}))
    prepare(recipe(tmp_path, data={"held_out": ["visit2"], "patient_id": False}))


def test_what_is_constant_is_left_out_and_counted(folder: Path, recipe: Recipe) -> None:
    np.save(folder / "air.npy", np.zeros((3, 36, 32)))
    values = volume(0)
    values[2] = 7
    np.save(folder / "head0.npy", values)
    for seed in range(5):  # whoever is held out
        job = prepare(recipe(folder, data={"held_out": 0.5}, seed=seed))
        assert (len(job.split.train), len(job.split.held_out)) == (2, 2)
        assert len(job.images) + len(job.held_out) == 15
        assert job.facts()["left out"] == "4 slices, all pixels equal"


def test_slices_left_out_of_a_single_subject_are_counted_once(
    tmp_path: Path, recipe: Recipe
) -> None:
    values = volume(0, slices=20)
    values[0] = 0
    np.save(tmp_path / "one.npy", values)
    facts = prepare(recipe(tmp_path / "one.npy")).facts()
    assert facts["left out"] == "1 slice, all pixels equal"


def test_air_is_no_leak(folder: Path) -> None:
    for seed in (0, 1):
        values = volume(seed)
        values[2] = 0
        np.save(folder / f"head{seed}.npy", values)
    subjects = load_subjects(DataOptions(paths=[str(folder)]), crop=16)
    parted = split(subjects, ["head0"], seed=0)
    assert (parted.constant, len(parted.held_out[0].images)) == (2, 3)
