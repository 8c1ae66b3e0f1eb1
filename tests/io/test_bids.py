"""Names of BIDS derivatives."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydantic import ValidationError

from tests.conftest import PROVENANCE, SAMPLES, SLICES
from tiltkit.io.bids import BidsOptions, write_bids
from tiltkit.io.reading import read_estimate
from tiltkit.io.result import ResultWriter
from tiltkit.posterior.outcome import Outcome
from tiltkit.protocols import Layout


@pytest.fixture
def dataset(
    tmp_path: Path,
    layout: Layout,
    start: Callable[..., ResultWriter],
    outcome: Callable[..., Outcome],
) -> Callable[..., tuple[list[str], list[str]]]:
    """Writes a dataset of a scan: names of its images, and what was told."""

    def make(scan: str, layout: Layout = layout, **options: Any) -> tuple[list[str], list[str]]:
        origin = PROVENANCE | {"raw_file": scan}
        with start(layout=layout, provenance=origin, overwrite=True) as writer:
            for index in range(SLICES):
                writer.write(index, outcome(index))
            writer.finish()
        out = tmp_path / "out"
        out.mkdir()
        told = write_bids(writer.path, out, BidsOptions(**options))
        found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))
        return found, told

    return make


@pytest.mark.parametrize(("scan", "options", "mean"), [
    ("sub-01_T1w.h5", {}, "sub-01/anat/sub-01_desc-mean_T1w"),
    ("sub-A7_ses-2_task-rest_run-1_bold.mrd", {},
     "sub-A7/ses-2/func/sub-A7_ses-2_task-rest_run-1_desc-mean_bold"),
    ("sub-01_desc-raw_T2w.h5", {"subject": "9"}, "sub-9/anat/sub-9_desc-mean_T2w"),
    ("meas_MID00123 (2).v1.h5", {}, "sub-measMID001232/anat/sub-measMID001232_desc-mean_image"),
    ("scan.h5", {"subject": "04", "suffix": "FLAIR"}, "sub-04/anat/sub-04_desc-mean_FLAIR"),
    ("Über-.h5", {"suffix": "T1w"}, "sub-ber/anat/sub-ber_desc-mean_T1w"),
])  # fmt: skip
def test_entities_of_the_scan_are_kept_and_other_names_become_the_subject(
    dataset: Any, scan: str, options: dict[str, str], mean: str
) -> None:
    names, told = dataset(scan, **options)
    assert names == [
        f"{mean.replace('mean', name)}.nii.gz" for name in ("mean", "phase", "q05", "q95", "std")
    ]
    assert bool(told) == ("_image" in mean)


def test_every_image_has_a_description_and_the_dataset_is_a_derivative(
    dataset: Any, tmp_path: Path
) -> None:
    names, _ = dataset("sub-01_T1w.h5", samples=True)
    assert len(names) == 5 + SAMPLES
    assert "sub-01/anat/sub-01_desc-sample004_T1w.nii.gz" in names
    for name in names:
        about = json.loads((tmp_path / "out" / name.replace(".nii.gz", ".json")).read_text())
        assert about["Units"] == ("rad" if "phase" in name else "arbitrary")
        assert about["RawFile"] == "sub-01_T1w.h5"
        assert "not for diagnosis" in about["Description"]
    values = nibabel.load(tmp_path / "out" / names[0]).get_fdata()
    np.testing.assert_array_equal(
        values[:, :, 2].T, read_estimate(tmp_path / "out.h5", 2).mean
    )  # fmt: skip
    about = json.loads((tmp_path / "out/dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["GeneratedBy"][0] == {"Name": "tiltkit", "Version": "0.1.0"}


@pytest.mark.parametrize(("counter", "suffix", "second"), [
    ("contrast", "T2starw", "anat/sub-1_echo-2_desc-mean_T2starw"),
    ("repetition", "T1w", "anat/sub-1_desc-meanVolume2_T1w"),
    ("repetition", "bold", "func/sub-1_desc-mean_bold"),
])  # fmt: skip
def test_volumes_of_anatomical_images_are_files_of_their_own(
    dataset: Any, layout: Layout, tmp_path: Path, counter: str, suffix: str, second: str
) -> None:
    names = "; ".join(f"slice 0, {counter} {k}" for k in range(SLICES))
    several = replace(layout, metadata={"slice_names": names})
    found, _ = dataset("scan.h5", layout=several, subject=1, suffix=suffix, samples=True)
    path = tmp_path / "out/sub-1" / f"{second}.nii.gz"
    values = nibabel.load(path).get_fdata()
    expected = read_estimate(tmp_path / "out.h5", 1).mean
    if suffix == "bold":
        assert len(found) == 5 + SAMPLES
        values = values[..., 1]
    else:
        assert len(found) == SLICES * (5 + SAMPLES)
        about = json.loads(path.with_name(path.name.replace("nii.gz", "json")).read_text())
        assert about["VolumeNames"] == [f"{counter} 1"]
    np.testing.assert_array_equal(values[:, :, 0].T, expected)


def test_labels_of_other_characters_are_refused() -> None:
    with pytest.raises(ValidationError):
        BidsOptions(subject="../../etc")


@pytest.mark.skipif(
    shutil.which("bids-validator-deno") is None, reason="the validator of BIDS is not installed"
)
def test_the_validator_of_bids_finds_no_error(dataset: Any, tmp_path: Path) -> None:
    dataset("sub-01_ses-2_T1w.h5", samples=True)
    done = subprocess.run(
        ["bids-validator-deno", tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert "ERROR" not in done.stdout + done.stderr
