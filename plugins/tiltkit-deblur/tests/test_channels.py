"""All channels of a file in one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tiltkit_deblur.options import DeblurOptions
from tiltkit_deblur.task import Deblur

from tiltkit.cli import main
from tiltkit.errors import UsageError

Write = Callable[..., Path]
QUICK = ("--samples", "4", "-s", "sampler.levels=6", "--prior", "gaussian")


@pytest.fixture
def files(simulate: Any, tiff: Write) -> dict[str, Path]:
    """Two channels with different gains and blurs."""
    scenes = [simulate((48, 40), sigma=1.0, gain=2.0), simulate((48, 40), sigma=1.6, gain=5.0)]
    options = {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
    return {
        "data": tiff("a.ome.tif", np.stack([s.readings for s in scenes]), **options),
        "psf": tiff("psf.ome.tif", np.stack([s.psf for s in scenes]), **options),
        "one": tiff("one.tif", scenes[0].psf),
    }


def test_every_channel_has_its_own_point_spread_function_and_noise(files: dict[str, Path]) -> None:
    with Deblur(DeblurOptions(psf=files["psf"], channel="all")).open(files["data"]) as scan:
        assert [axis.name for axis in scan.layout.axes] == ["channel", "y", "x"]
        gains = [one.photometry.camera.gain for one in scan.scans]
        widths = [1 / one.kernel.max() for one in scan.scans]
        together = [scan.problem(i, None, torch.device("cpu")) for i in (0, 1)]
        facts = scan.describe()
    assert gains[1] > 1.5 * gains[0]
    assert widths[1] > 1.5 * widths[0]
    assert "gain, channel 1" in facts
    assert facts["times x channels"] == "1 x 2"
    for channel, problem in enumerate(together):
        o = DeblurOptions(psf=files["psf"], psf_channel=channel, channel=channel)
        with Deblur(o).open(files["data"]) as scan:
            alone = scan.problem(0, None, torch.device("cpu"))
        torch.testing.assert_close(problem.baseline, alone.baseline)


def test_a_run_of_all_channels_writes_them_after_each_other(
    files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    command = ["run", "deblur", files["data"], "-o", out, "--psf", files["one"], "--channel", "all"]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in (*command, *QUICK)])
    assert stop.value.code == 0
    with h5py.File(out) as file:
        assert file["entry/data/data"].shape == (2, 48, 40)
        assert "channel" in file["entry/data"]


def test_a_wavelength_is_needed_for_each_channel(files: dict[str, Path]) -> None:
    o = {"psf_model": "gaussian", "na": 0.5, "voxel_um": (0.3, 0.1, 0.1), "channel": "all"}
    with Deblur(DeblurOptions(**o, wavelengths_um="0.46,0.6")).open(files["data"]) as scan:
        assert [one.options.wavelength_um for one in scan.scans] == [0.46, 0.6]
    with pytest.raises(UsageError, match="3 wavelengths are given for 2"):
        Deblur(DeblurOptions(**o, wavelengths_um="0.4,0.5,0.6")).open(files["data"]).__enter__()
    with pytest.raises(ValueError, match="channel=all"):
        DeblurOptions(wavelengths_um="0.4,0.5")
    with pytest.raises(ValueError, match="not in nm"):
        DeblurOptions(channel="all", wavelengths_um="460,520")
