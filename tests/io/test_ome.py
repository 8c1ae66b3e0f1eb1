"""OME-TIFF and OME-Zarr, read back by other libraries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tests.conftest import NX, NY, PROVENANCE, SAMPLES
from tiltkit.cli import main
from tiltkit.io.napari import layers_of_result
from tiltkit.io.ome import OmeOptions, write_ome_tiff, write_ome_zarr
from tiltkit.io.result import ResultWriter
from tiltkit.posterior.outcome import Outcome
from tiltkit.posterior.warnings import Caution
from tiltkit.protocols import Axis, Layout

CHANNELS = ["mean", "std", "q05", "q95"]
Stack = Callable[..., Path]
Start = Callable[..., ResultWriter]


@pytest.fixture
def stack(start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]) -> Stack:
    """Makes a result of three slices along an axis: ``stack(name, unit)``."""

    def make(name: str, unit: str) -> Path:
        axes = (
            Axis(name, [0.0, 0.5, 1.0], unit),
            Axis("y", np.arange(NY) * 0.2, "um"),
            Axis("x", np.arange(NX) * 0.1, "um"),
        )
        origin = PROVENANCE | {"slices": [0, 1, 2]}
        layout = Layout(axes=axes, title="cells")
        with start(layout=layout, provenance=origin, overwrite=True) as writer:
            for index in range(3):
                writer.write(index, outcome(index))
            writer.finish()
        return writer.path

    return make


def stored(result: Path) -> tuple[np.ndarray, np.ndarray]:
    """Channels (channel, slice, y, x) and samples (sample, slice, y, x) of a result."""
    with h5py.File(result) as file:
        entry = file["entry"]
        quantiles = entry["quantiles/quantiles"]
        maps = [entry["data/data"], entry["data/data_errors"], quantiles[0], quantiles[-1]]
        return np.stack([np.asarray(m) for m in maps]), np.asarray(entry["samples/samples"])


@pytest.mark.parametrize(("name", "unit"), [("z", "um"), ("time", "")])
def test_an_ome_tiff_has_every_value_at_its_place_for_tifffile_and_ome_types(
    name: str, unit: str, stack: Stack, tmp_path: Path
) -> None:
    result = stack(name, unit)
    assert not write_ome_tiff(result, tmp_path / "o.ome.tif", OmeOptions(samples=True))
    maps, samples = stored(result)
    with tifffile.TiffFile(tmp_path / "o.ome.tif") as file:
        assert file.is_ome
        found = [series.asarray() for series in file.series]
        xml = file.ome_metadata
    order = (1, 0, 2, 3) if name == "time" else (0, 1, 2, 3)
    np.testing.assert_array_equal(found[0], maps.transpose(order))
    np.testing.assert_array_equal(found[1], samples.transpose(order))
    ome_types = pytest.importorskip("ome_types")
    about = ome_types.from_xml(xml, validate=True)
    pixels = about.images[0].pixels
    assert [channel.name for channel in pixels.channels] == CHANNELS
    assert len(about.images[1].pixels.channels) == SAMPLES
    assert (pixels.physical_size_x, pixels.physical_size_y) == (0.1, 0.2)
    assert pixels.physical_size_z == (None if name == "time" else 0.5)
    assert pixels.physical_size_x_unit.value == "µm"
    assert "posterior by tiltkit" in about.images[0].description


@pytest.mark.parametrize(("name", "unit"), [("z", "um"), ("time", "")])
def test_an_ome_zarr_folder_is_valid_and_read_by_another_library(
    name: str, unit: str, stack: Stack, tmp_path: Path
) -> None:
    pytest.importorskip("zarr")
    result = stack(name, unit)
    folder = tmp_path / "o.ome.zarr"
    write_ome_zarr(result, folder, OmeOptions(samples=True))
    maps, samples = stored(result)
    order = (1, 0, 2, 3) if name == "time" else (0, 1, 2, 3)
    with warnings.catch_warnings():  # of the libraries, about themselves
        warnings.simplefilter("ignore")
        io, reader = (pytest.importorskip(f"ome_zarr.{one}") for one in ("io", "reader"))
        for path, values in ((folder, maps), (folder / "samples", samples)):
            (node, *_) = reader.Reader(io.parse_url(path))()
            data = np.asarray(node.data[0])
            np.testing.assert_array_equal(np.squeeze(data), values.transpose(order))
            models = pytest.importorskip("ome_zarr_models")
            models.open_ome_zarr(path)
        assert node.metadata["axes"][1]["type"] == "channel"


def test_an_unknown_pixel_size_is_said(stack: Stack, tmp_path: Path) -> None:
    said = write_ome_tiff(stack("z", "px"), tmp_path / "o.ome.tif", OmeOptions())
    assert said == ["The pixel size along z is not known."]


def test_warnings_are_in_the_description_and_in_the_layers_of_napari(
    start: Start, outcome: Callable[..., Outcome], tmp_path: Path
) -> None:
    far = Caution("far_from_training", "The samples differ.", hint="Try another prior.")
    with start() as writer:
        for index, cautions in enumerate([(), (far,), ()]):
            writer.write(index, outcome(diagnostics={"warnings": cautions}))
        writer.finish()
    write_ome_tiff(writer.path, tmp_path / "o.ome.tif", OmeOptions())
    with tifffile.TiffFile(tmp_path / "o.ome.tif") as file:
        assert str(far) in (file.ome_metadata or "")
    for _, options, _ in layers_of_result(str(writer.path)):
        assert str(far) in options["metadata"]["verdict"]


@pytest.mark.parametrize("name", ["ome-tiff", "ome-zarr"])
def test_the_writers_are_used_by_name_and_replace_their_own_files_alone(
    name: str, stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("zarr")
    result, out = stack("z", "um"), tmp_path / name
    command = ["export", str(result), "--as", f"{name},samples=true", "-o", str(out)]
    assert run(*command) == 0
    assert run(*command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(*command, "--overwrite") == 0
    if out.is_dir():
        (out / "notes.txt").write_text("mine")
        assert run(*command, "--overwrite") == 2
        assert "notes.txt" in capsys.readouterr().err


def run(*words: str) -> int:
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return int(caught.value.code or 0)
