"""Masks drawn on the NIfTI files that tiltkit writes land on the pixels that they were drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.conftest import NX, NY
from tests.io.test_nifti import Stack, along, export, geometry, stack
from tiltkit.errors import InputError
from tiltkit.io.nifti_masks import read_nifti_mask
from tiltkit.report.masks import labels

__all__ = ["stack"]  # a fixture

# One voxel of an odd place: slice, row, column.
MARK = (1, 3, 7)
SCAN = [0, 1, 2]


def drawn(result: Path, mark: tuple[int, int, int] = MARK) -> Any:
    """A mask of one voxel on the exported mean, found by the value that the result has there."""
    image, _ = export(result)
    values = image.get_fdata()
    mask = np.zeros(values.shape, np.uint8)
    mask[mark[2], mark[1], mark[0]] = 5
    return nibabel.Nifti1Image(mask, image.affine, image.header)


def marked(path: Path, result: Path) -> list[list[int]]:
    return np.argwhere(read_nifti_mask(path, result) == 5).tolist()


@pytest.mark.parametrize("oblique", [True, False], ids=["patient", "axes"])
def test_masks_land_where_they_were_drawn_in_every_orientation(
    stack: Stack, tmp_path: Path, oblique: bool
) -> None:
    result = stack(SCAN, {"geometry": geometry(along(SCAN))} if oblique else None)
    mask = drawn(result)
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turned = mask.as_reoriented(np.column_stack([order, signs]))
        nibabel.save(turned, tmp_path / "mask.nii.gz")
        assert marked(tmp_path / "mask.nii.gz", result) == [list(MARK)]


def test_a_mask_is_a_region_by_its_label(stack: Stack, tmp_path: Path) -> None:
    result = stack(SCAN, {"geometry": geometry(along(SCAN))})
    nibabel.save(drawn(result), tmp_path / "mask.nii")
    found = labels(str(tmp_path / "mask.nii"), result)
    position = np.ravel_multi_index(MARK, (3, NY, NX))
    assert {name: region.tolist() for name, region in found.items()} == {"label 5": [position]}


@pytest.mark.parametrize("numbers", [[0, 2, 3], [4, 2, 0]])
def test_slices_that_were_left_out_have_no_labels(
    stack: Stack, tmp_path: Path, numbers: Sequence[int]
) -> None:
    result = stack(numbers, {"geometry": geometry(along(range(5)))})
    image, _ = export(result)
    marks = np.argwhere(np.isfinite(image.get_fdata()))
    column, row, plane = marks[(marks[:, 0] == 7) & (marks[:, 1] == 3)][1]  # of three planes
    mask = np.zeros(image.shape, np.uint8)
    mask[column, row, plane] = 5
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / "mask.nii")
    assert marked(tmp_path / "mask.nii", result) == [list(MARK)]


def test_the_mask_of_one_contrast_holds_for_all(stack: Stack, tmp_path: Path) -> None:
    names = "slice 0, contrast 0; slice 1, contrast 0; slice 0, contrast 1; slice 1, contrast 1"
    places = geometry(along([0, 1, 0, 1]))
    result = stack([0, 1, 2, 3], {"geometry": places, "slice_names": names})
    image, _ = export(result)
    assert image.shape == (NX, NY, 2, 2)
    mask = np.zeros((NX, NY, 2), np.uint8)
    mask[7, 3, 1] = 5
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / "mask.nii")
    assert marked(tmp_path / "mask.nii", result) == [[1, 3, 7], [3, 3, 7]]


def test_without_coordinates_the_shape_is_enough(stack: Stack, tmp_path: Path) -> None:
    result = stack(SCAN)
    mask = np.zeros((NX, NY, 3), np.uint8)
    mask[7, 3, 1] = 5
    # As numpy users and SimpleITK write them: unit voxels, RAS or LPS.
    for affine in (None, np.eye(4), np.diag([-1.0, -1, 1, 1])):
        nibabel.save(nibabel.Nifti1Image(mask, affine), tmp_path / "mask.nii")
        assert marked(tmp_path / "mask.nii", result) == [list(MARK)]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda mask: nibabel.Nifti1Image(mask.get_fdata()[:-1], mask.affine), "9 x 12 x 3"),
        (
            lambda mask: nibabel.Nifti1Image(
                mask.get_fdata(), mask.affine + np.pad([[1.0]], ((0, 3), (3, 0)))
            ),
            "at other positions",
        ),
        (lambda mask: nibabel.Nifti1Image(mask.get_fdata(), np.eye(4)), "at other positions"),
    ],
    ids=["cut", "shifted by 1 mm", "unit voxels"],
)
def test_masks_on_other_voxels_are_refused(
    stack: Stack, tmp_path: Path, change: Any, complaint: str
) -> None:
    result = stack(SCAN, {"geometry": geometry(along(SCAN))})
    nibabel.save(change(drawn(result)), tmp_path / "mask.nii")
    with pytest.raises(InputError, match=complaint) as error:
        read_nifti_mask(tmp_path / "mask.nii", result)
    assert "10 x 12 x 3" in error.value.message


def test_damaged_files_are_named(stack: Stack, tmp_path: Path) -> None:
    result, path = stack(SCAN), tmp_path / "mask.nii.gz"
    nibabel.save(drawn(result), path)
    for damaged in (b"no image", path.read_bytes()[:-20]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"mask\.nii\.gz cannot be read"):
            read_nifti_mask(path, result)
