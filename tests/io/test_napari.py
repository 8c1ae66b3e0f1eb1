"""Results in the viewer napari: the manifest, and the layers."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest

import tiltkit
from tiltkit.io.napari import layers_of_result, result_reader

ROOT = Path(__file__).parents[2]


def test_every_layer_has_the_values_of_the_result_and_only_the_mean_is_shown(result: Path) -> None:
    read = result_reader(str(result))
    assert read is not None
    layers = {
        options["name"].split(": ")[1]: (data, options) for data, options, _ in read(str(result))
    }
    with h5py.File(result) as file:
        expected = {
            "mean": file["entry/data/data"][()],
            "standard deviation": file["entry/data/data_errors"][()],
            "quantile 5%": file["entry/quantiles/quantiles"][0],
            "without prior": file["entry/baseline/baseline"][()],
            "samples": file["entry/samples/samples"][()],
        }
    for name, values in expected.items():
        data, options = layers[name]
        np.testing.assert_array_equal(data, values)
        assert len(options["scale"]) == data.ndim
        assert options["visible"] == (name == "mean")
        assert options["metadata"]["verdict"]


def test_samples_too_large_for_memory_are_left_out(
    result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiltkit.io.napari._MOST_BYTES", 10)
    names = [options["name"] for _, options, _ in layers_of_result(str(result))]
    assert not any("samples" in name for name in names)


def test_other_files_are_left_to_other_readers(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    for path in (tmp_path / "text.h5", tmp_path / "other.h5", tmp_path / "none.h5"):
        assert result_reader(str(path)) is None
    assert result_reader([str(tmp_path / "a.h5"), str(tmp_path / "b.h5")]) is None


def test_the_manifest_names_what_exists() -> None:
    yaml = pytest.importorskip("yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    place = project["entry-points"]["napari.manifest"][project["name"]]
    assert place == "tiltkit.io:napari.yaml"
    folder = Path(tiltkit.__file__).parent / "io"
    manifest = yaml.safe_load((folder / "napari.yaml").read_text())
    assert manifest["name"] == project["name"]
    commands = {one["id"]: one["python_name"] for one in manifest["contributions"]["commands"]}
    for reader in manifest["contributions"]["readers"]:
        module, _, name = commands[reader["command"]].partition(":")
        assert callable(getattr(import_module(module), name))
