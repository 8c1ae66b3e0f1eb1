"""NIfTI files, read back by nibabel: every pixel at its place in the patient or the sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.conftest import NX, NY, PROVENANCE, SAMPLES
from tiltkit.errors import InputError, UsageError
from tiltkit.io.nexus import outline
from tiltkit.io.nifti import NiftiOptions, check_nifti, write_nifti
from tiltkit.io.places import read_places
from tiltkit.io.reading import read_estimate
from tiltkit.io.result import ResultWriter
from tiltkit.io.stored import StoredInFile
from tiltkit.posterior.outcome import FurtherImage, Outcome
from tiltkit.protocols import Axis, Layout

VOXEL = (1.5, 2.0, 4.0)  # row, column, slice
OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
Stack = Callable[..., Path]


def geometry(positions: Any, turn: Any = OBLIQUE) -> dict[str, Any]:
    """Slices at positions (slice, 3); rows, columns and normal along the columns of ``turn``."""
    n = len(positions)
    turns = np.broadcast_to(turn, (n, 3, 3))
    return {
        "position": np.asarray(positions, float),
        "read_dir": turns[:, :, 0],
        "phase_dir": turns[:, :, 1],
        "slice_dir": turns[:, :, 2],
        "voxel_mm": np.tile(VOXEL, (n, 1)),
    }


def along(numbers: Sequence[float], gap: float = 5.0) -> np.ndarray:
    """Positions at multiples of a gap along the normal."""
    return np.array([10.0, -20.0, 30.0]) + gap * np.outer(numbers, OBLIQUE[:, 2])


@pytest.fixture
def stack(start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]) -> Stack:
    """Makes a result of slices of a scan: ``stack(numbers, metadata)``."""

    def make(numbers: Sequence[int], metadata: Any = None, axes: Any = None) -> Path:
        layout = Layout(
            axes=axes or (
                Axis("z", [float(i) for i in numbers], "px"),
                Axis("y", (np.arange(NY) - NY // 2) * VOXEL[0], "mm"),
                Axis("x", (np.arange(NX) - NX // 2) * VOXEL[1], "mm"),
            ),
            title="head",
            metadata=metadata or {},
        )  # fmt: skip
        origin = PROVENANCE | {"slices": list(numbers)}
        with start(layout=layout, provenance=origin, overwrite=True) as writer:
            for index in range(len(numbers)):
                writer.write(index, outcome(index))
            writer.finish()
        return writer.path

    return make


def export(result: Path, **options: Any) -> tuple[Any, list[str]]:
    """The mean as nibabel reads it, and what was told."""
    told = write_nifti(result, result.with_name("o.nii.gz"), NiftiOptions(**options))
    return nibabel.load(result.with_name("o.nii.gz")), told


def test_every_pixel_is_at_its_place_in_the_patient(stack: Stack) -> None:
    positions = along([0, 1, 2])
    result = stack([0, 1, 2], {"geometry": geometry(positions)})
    image, told = export(result)
    assert told == []
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-3)
    np.testing.assert_allclose(image.header.get_zooms(), (2.0, 1.5, 5.0), rtol=1e-5)
    values = image.get_fdata()
    for k, row, column in ((0, 3, 7), (1, NY // 2, NX // 2), (2, 11, 0)):
        patient = (
            positions[k]
            + (row - NY // 2) * 1.5 * OBLIQUE[:, 0]
            + (column - NX // 2) * 2.0 * OBLIQUE[:, 1]
        )
        ras = image.affine @ [column, row, k, 1]
        np.testing.assert_allclose(ras[:3], patient * [-1, -1, 1], atol=1e-3)
        assert values[column, row, k] == read_estimate(result, k).mean[row, column]


def test_mean_spread_interval_and_samples_are_files_in_the_units_of_the_result(
    stack: Stack,
) -> None:
    result = stack([0, 1], {"geometry": geometry(along([0, 1]))})
    export(result, samples=True)
    first = read_estimate(result, 0)
    for name, expected in (
        ("std", first.std), ("q05", first.quantiles[0.05]), ("q95", first.quantiles[0.95])
    ):  # fmt: skip
        image = nibabel.load(result.with_name(f"o.{name}.nii.gz"))
        assert image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(image.get_fdata()[:, :, 0].T, expected)
    drawn = nibabel.load(result.with_name("o.samples.nii.gz"))
    assert drawn.shape == (NX, NY, 2, SAMPLES)
    np.testing.assert_array_equal(drawn.get_fdata()[:, :, 0].T, first.samples)
    about = json.loads(result.with_name("o.json").read_text())
    assert about["Units"] == "arbitrary"
    assert "not for diagnosis" in about["Description"]
    assert about["Files"]["o.q05.nii.gz"] == "5 % quantile of the posterior, 4 samples"


def test_slices_of_a_subset_leave_the_planes_between_them_empty(stack: Stack) -> None:
    result = stack([0, 1, 4], {"geometry": geometry(along(range(6)))})
    image, told = export(result)
    assert image.shape == (NX, NY, 5)
    values = image.get_fdata()
    assert np.isnan(values[:, :, [2, 3]]).all()
    np.testing.assert_array_equal(values[:, :, 4].T, read_estimate(result, 2).mean)
    np.testing.assert_allclose(image.header.get_zooms()[2], 5.0, rtol=1e-5)
    assert "2 planes" in told[0]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 3]])
def test_slices_in_any_order_are_planes_in_order_of_their_position(
    stack: Stack, order: list[int]
) -> None:
    positions = along(order)
    result = stack(range(4), {"geometry": geometry(positions)})
    image, told = export(result)
    assert told == []
    for index in range(4):
        values = image.get_fdata()
        middle = np.linalg.inv(image.affine) @ [*(positions[index] * [-1, -1, 1]), 1]
        column, row, plane = np.rint(middle[:3]).astype(int)
        assert (column, row) == (NX // 2, NY // 2)
        np.testing.assert_array_equal(values[:, :, plane].T, read_estimate(result, index).mean)


def test_contrasts_are_volumes_on_the_fourth_axis(stack: Stack) -> None:
    names = [f"slice {s}, contrast {c}" for c in range(2) for s in range(3)]
    places = geometry(np.concatenate([along(range(3))] * 2))
    result = stack([0, 1, 2, 4], {"geometry": places, "slice_names": "; ".join(names)})
    image, told = export(result)
    assert image.shape == (NX, NY, 3, 2)
    values = image.get_fdata()
    np.testing.assert_array_equal(values[:, :, 1, 1].T, read_estimate(result, 3).mean)
    assert np.isnan(values[:, :, [0, 2], 1]).all()
    assert json.loads(result.with_name("o.json").read_text())["VolumeNames"] == [
        "contrast 0", "contrast 1"
    ]  # fmt: skip
    assert "2 planes" in told[0]


def test_contrasts_without_a_geometry_are_volumes_too(stack: Stack) -> None:
    names = "; ".join(f"slice {s}, repetition {r}" for r in range(2) for s in range(2))
    image, told = export(stack(range(4), {"slice_names": names}))
    assert image.shape == (NX, NY, 2, 2)
    assert told == ["The slice distance is not known: it is 1 in the NIfTI files."]


def test_slices_at_one_position_are_volumes(stack: Stack) -> None:
    image, told = export(stack(range(3), {"geometry": geometry(along([0, 0, 0]))}))
    assert image.shape == (NX, NY, 1, 3)
    np.testing.assert_allclose(image.header.get_zooms()[2], 4.0)
    assert told == []


def test_slices_of_different_directions_are_refused(stack: Stack) -> None:
    turned = geometry(along([0, 1, 2]), np.stack([OBLIQUE, OBLIQUE, OBLIQUE[:, [2, 0, 1]]]))
    with pytest.raises(InputError, match=r"different directions.*slices 0, 1 agree"):
        export(stack(range(3), {"geometry": turned}))
    with pytest.raises(InputError, match="irregular distances"):
        export(stack(range(4), {"geometry": geometry(along([0, 1, 1.013, 7.7]))}))


@pytest.mark.parametrize("gaps", [[0, 1, 2, 3], [0, 1, 1.013, 7.7]])
@pytest.mark.parametrize("turned", [OBLIQUE, OBLIQUE[:, [2, 0, 1]]])
def test_a_result_is_refused_before_sampling_as_it_is_afterwards(
    stack: Stack, recipe: Any, gaps: list[float], turned: np.ndarray
) -> None:
    turns = np.stack([OBLIQUE, OBLIQUE, turned, turned])
    result = stack(range(4), {"geometry": geometry(along(gaps), turns)})
    layout = StoredInFile(result).layout
    layout = replace(layout, metadata={"geometry": geometry(along(gaps), turns)})
    told = []
    with outline(result.name, layout, recipe | {"samples": 10**4}, PROVENANCE) as empty:
        assert empty.stat().st_size < 10**6  # the images take no space
        for one, function in ((empty, check_nifti), (result, write_nifti)):
            try:
                function(one, result.with_name("o.nii.gz"), NiftiOptions())
                told.append("")
            except InputError as error:
                told.append(str(error))
    assert told[0] == told[1]
    assert bool(told[0]) == (gaps[-1] != 3 or turned is not OBLIQUE)


def test_a_shifted_stack_keeps_its_positions_without_a_quaternion(stack: Stack) -> None:
    positions = along([0, 1, 2]) + np.outer([0, 1, 2], OBLIQUE[:, 0])
    image, _ = export(stack(range(3), {"geometry": geometry(positions)}))
    assert (image.header["sform_code"], image.header["qform_code"]) == (1, 0)
    last = image.affine @ [NX // 2, NY // 2, 2, 1]
    np.testing.assert_allclose(last[:3], positions[2] * [-1, -1, 1], atol=1e-3)


def test_without_a_geometry_coordinates_are_those_of_the_axes_in_mm(stack: Stack) -> None:
    axes = (
        Axis("z", [100.0, 102.5], "um"),
        Axis("y", 3.0 + 0.5 * np.arange(NY), "um"),
        Axis("x", 7.0 - 0.25 * np.arange(NX), "um"),
    )
    image, told = export(stack([4, 5], axes=axes))
    assert told == []
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.affine @ [2, 4, 1, 1], [6.5e-3, 5e-3, 0.1025, 1], rtol=1e-6)


def test_volumes_of_several_times_are_on_the_fourth_axis(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> None:
    axes = (
        Axis("time", [0.0, 1.0]),
        Axis("z", 0.5 * np.arange(3), "mm"),
        *(Axis(name, 0.2 * np.arange(n), "mm") for name, n in (("y", NY), ("x", NX))),
    )
    planes = np.arange(3, dtype=np.float32)[:, None, None]

    def volume(image: Any) -> Any:
        return image[..., None, :, :] + planes

    with start(layout=Layout(axes=axes)) as writer:
        for index in range(2):
            one = outcome(index, phase=None)
            writer.write(
                index,
                replace(
                    one,
                    mean=volume(one.mean), std=volume(one.std), baseline=volume(one.baseline),
                    samples=volume(one.samples),
                    quantiles={q: volume(image) for q, image in one.quantiles.items()},
                ),
            )  # fmt: skip
        writer.finish()
    image, told = export(writer.path, samples=True)
    assert told == []
    assert image.shape == (NX, NY, 3, 2)
    np.testing.assert_allclose(image.header.get_zooms()[:3], (0.2, 0.2, 0.5), rtol=1e-6)
    np.testing.assert_array_equal(image.get_fdata()[..., 1].T, read_estimate(writer.path, 1).mean)
    drawn = nibabel.load(writer.path.with_name("o.samples.nii.gz")).get_fdata()
    np.testing.assert_array_equal(drawn[..., 1, 2].T, read_estimate(writer.path, 1).samples[2])


def test_writing_again_gives_the_same_files(stack: Stack) -> None:
    result = stack([0, 1], {"geometry": geometry(along([0, 1]))})
    export(result)
    first = result.with_name("o.std.nii.gz").read_bytes()
    export(result)
    assert result.with_name("o.std.nii.gz").read_bytes() == first


@pytest.mark.parametrize("changes", [
    {"read_dir": np.zeros((2, 3))}, {"voxel_mm": np.zeros((2, 3))}, {"position": np.zeros(2)},
    {"position": np.full((2, 3), np.nan)}, {"slice_dir": np.zeros((1, 3))}, {"phase_dir": "left"},
])  # fmt: skip
def test_a_geometry_that_cannot_be_used_is_none(stack: Stack, changes: Any) -> None:
    result = stack([0, 1], {"geometry": geometry(along([0, 1])) | changes})
    assert not read_places(result).patient
    assert export(result)[0].header["sform_code"] == 2


def test_an_unknown_pixel_size_is_told(stack: Stack) -> None:
    axes = tuple(Axis(name, range(n), "px") for name, n in (("z", 2), ("y", NY), ("x", NX)))
    image, told = export(stack([0, 1], axes=axes))
    assert [text.split(" is")[0] for text in told] == ["The pixel size", "The slice distance"]
    assert image.header.get_xyzt_units()[0] == "unknown"
    about = json.loads(Path(image.get_filename()).with_name("o.json").read_text())
    assert about["Notes"] == told


def test_the_name_must_be_that_of_a_compressed_nifti_file(stack: Stack) -> None:
    result = stack([0])
    with pytest.raises(UsageError, match=r"out\.img does not end with \.nii\.gz"):
        write_nifti(result, result.with_name("out.img"), NiftiOptions())


def test_phase_and_further_images_are_files_beside_the_mean(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> None:
    rng = np.random.default_rng(0)
    drawn = (rng.normal(size=(SAMPLES, NY, NX, 2)) @ [1, 1j]).astype(np.complex64)
    snr = rng.random((NY, NX), np.float32)
    further = {
        "snr": FurtherImage(snr, "mean over spread", ""),
        "complex_mean": FurtherImage(drawn[0], "complex mean"),
        "complex_samples": FurtherImage(drawn, "complex sample"),
    }
    with start() as writer:
        for index in range(3):
            writer.write(index, outcome(index, further=further))
        writer.finish()
    result = writer.path
    export(result)
    phase = nibabel.load(result.with_name("o.phase.nii.gz")).get_fdata()
    np.testing.assert_array_equal(phase[:, :, 1].T, outcome(1).phase)
    read = nibabel.load(result.with_name("o.map-snr.nii.gz"))
    np.testing.assert_array_equal(read.get_fdata()[:, :, 2].T, snr)
    mean = np.asanyarray(nibabel.load(result.with_name("o.map-complex_mean.nii.gz")).dataobj)
    np.testing.assert_array_equal(mean[:, :, 0].T, drawn[0])
    assert not result.with_name("o.map-complex_samples.nii.gz").exists()
    export(result, samples=True)
    read = nibabel.load(result.with_name("o.map-complex_samples.nii.gz"))
    samples = np.asanyarray(read.dataobj)
    np.testing.assert_array_equal(samples[:, :, 0].transpose(2, 1, 0), drawn)
