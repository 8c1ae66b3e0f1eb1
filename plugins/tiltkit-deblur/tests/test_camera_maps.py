"""Maps of a camera, and dark frames: every pixel has its own gain, offset and read noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiltkit_deblur.options import DeblurOptions
from tiltkit_deblur.task import Deblur

from tiltkit.errors import UsageError

Write = Callable[..., Path]
ROWS, COLUMNS = 48, 40


def camera(seed: int = 0) -> dict[str, NDArray[Any]]:
    """Maps of a camera that differ from pixel to pixel, with a hot pixel."""
    rng = np.random.default_rng(seed)
    offset = 100 + 8 * rng.random((ROWS, COLUMNS))
    offset[10, 12] = 900
    return {
        "gain": 2 * (1 + 0.1 * rng.normal(size=(ROWS, COLUMNS))),
        "offset": offset,
        "variance": 4 + 60 * (rng.random((ROWS, COLUMNS)) < 0.1),
    }


def expose(electrons: NDArray[Any], maps: dict[str, NDArray[Any]], seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    noise = maps["variance"] ** 0.5 * rng.normal(size=electrons.shape)
    return (maps["gain"] * rng.poisson(electrons) + maps["offset"] + noise).astype(np.float32)


@pytest.fixture
def files(tiff: Write, scene: Any) -> dict[str, Path]:
    maps = camera()
    light = scene.truth / 2 + 3
    dark = expose(np.zeros((64, ROWS, COLUMNS)), maps, 1)
    return {
        "data": tiff("data.tif", expose(light, maps, 2)),
        "psf": tiff("psf.tif", scene.psf),
        "dark": tiff("dark.tif", dark, photometric="minisblack"),
        "gain_map": tiff("gain.tif", maps["gain"].astype(np.float32)),
    }


def test_dark_frames_give_offset_and_read_noise_of_every_pixel(files: dict[str, Path]) -> None:
    o = DeblurOptions(psf=files["psf"], dark=files["dark"], gain_map=files["gain_map"])
    maps = camera()
    with Deblur(o).open(files["data"]) as scan:
        prepared = scan._prepared(0, (slice(0, 1),), torch.device("cpu"))
        assert scan.photometry.origins == {"gain": "map", "offset": "map", "read noise": "map"}
        assert "unknown_left_out" in [note.code for note in scan.notes]
        assert scan.describe()["offset"] == "0 (map)"
    inside = prepared.grid.at
    assert not prepared.measured[inside][10, 12]
    assert int((~prepared.measured[inside]).sum()) == 1
    # Dark and noisy pixels: the variance is that of the read noise, and a little light.
    variance = prepared.variance[inside].numpy()
    noisy = maps["variance"] > 30
    excess = np.median(variance[noisy]) - np.median(variance[~noisy])
    assert excess == pytest.approx(60, rel=0.25)


def test_a_gain_map_evens_out_the_readings(files: dict[str, Path], scene: Any) -> None:
    o = {"psf": files["psf"], "dark": files["dark"], "gain": 2.0}
    errors = []
    for more in ({}, {"gain_map": files["gain_map"]}):
        with Deblur(DeblurOptions(**o, **more)).open(files["data"]) as scan:
            prepared = scan._prepared(0, (slice(0, 1),), torch.device("cpu"))
        y = prepared.y[prepared.grid.at].numpy()
        bright = scene.truth > 100
        errors.append(np.std((y - prepared.operator.forward(prepared.baseline)[
            prepared.grid.at].numpy())[bright]))  # fmt: skip
    assert errors[1] < 0.9 * errors[0]


def test_an_offset_beside_its_map_is_no_offset_of_corrected_readings(
    files: dict[str, Path], tiff: Write
) -> None:
    offset = tiff("offset.tif", camera()["offset"].astype(np.float32))
    o = DeblurOptions(psf=files["psf"], offset_map=offset, offset=500.0)
    with Deblur(o).open(files["data"]) as scan:
        assert scan.photometry.origins["offset"] == "map"


def test_maps_that_do_not_fit_are_refused(files: dict[str, Path], tiff: Write) -> None:
    small = tiff("small.tif", np.ones((20, 20), np.float32))
    negative = tiff("negative.tif", -np.ones((ROWS, COLUMNS), np.float32))
    bad: list[tuple[dict[str, Any], str]] = [
        ({"dark": small}, "20 x 20 pixels"),
        ({"variance_map": negative}, "smallest value"),
        ({"dark": files["dark"], "offset": 100.0}, "both given"),
    ]
    for options, says in bad:
        with pytest.raises(UsageError, match=says):
            Deblur(DeblurOptions(psf=files["psf"], **options)).open(files["data"]).__enter__()
