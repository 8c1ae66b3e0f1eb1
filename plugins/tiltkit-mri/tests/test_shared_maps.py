"""Coil maps of dynamic series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiltkit_mri.axes import Axes
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.shared_maps import with_shared_maps
from tiltkit_mri.task import MriOptions, MriRecon

Write = Callable[..., Path]
FRAMES, LEVEL = 8, 0.05


def series(scan: Any, lines: int) -> np.ndarray:
    """Frames (frame, slice, coil, row, column): every fourth column in turn, some in the centre."""
    frames = []
    for frame in range(FRAMES):
        column = np.arange(56)
        mask = column % 4 == frame % 4
        mask[28 - lines // 2 : 28 + lines // 2] = True
        frames.append(scan.noisy(LEVEL, seed=frame) * mask * np.exp(1j * frame))
    return np.stack(frames)[:, None].astype(np.complex64)


def map_errors(path: Path, scan: Any, **options: Any) -> np.ndarray:
    """Root mean square error of the maps of each frame within the object."""
    with MriRecon(MriOptions(noise_level=LEVEL, **options)).open(path) as opened:
        errors = []
        for frame in range(FRAMES):
            maps = opened.prepare(frame).sensitivities.maps.numpy()
            along = (maps.conj() * scan.maps).sum(0)
            error = scan.maps - maps * along
            errors.append(np.sqrt((np.abs(error[:, scan.inside]) ** 2).sum(0).mean()))
    return np.array(errors)


def test_frames_with_interleaved_lines_have_maps_from_their_mean(scan: Any, write: Write) -> None:
    with FastMri.open(write(kspace=series(scan, 2))) as opened:
        assert opened.places == (0,) * FRAMES
        shared = with_shared_maps(opened)
        assert min(map(len, opened.centre_block(1))) < 6
        assert shared.centre_block(1) == (range(64), range(56))
        assert shared.reference is not None
        turned = scan.kspace * np.vdot(scan.kspace, shared.reference(3))
        turned /= abs(np.vdot(scan.kspace, scan.kspace))
        assert np.abs(shared.reference(3) - turned).std() < 2 * LEVEL
        assert "maps_shared" in {note.code for note in shared.notes}


def test_shared_calibration_lines_are_counted_without_reading_frames(
    scan: Any, write: Write
) -> None:
    with FastMri.open(write(kspace=series(scan, 2))) as opened:

        def read(index: int) -> np.ndarray:
            raise AssertionError

        shared = with_shared_maps(replace(opened, read=read))
        assert [shared.centre_block(i) for i in range(FRAMES)] == [(range(64), range(56))] * FRAMES


def test_shared_maps_have_smaller_errors_than_those_of_single_frames(
    scan: Any, write: Write
) -> None:
    path = write(kspace=series(scan, 10))
    assert (map_errors(path, scan) < 0.7 * map_errors(path, scan, shared_maps=False)).all()


def test_scans_without_frames_and_with_own_calibration_stay_as_they_are(
    scan: Any, write: Write
) -> None:
    with FastMri.open(write(kspace=scan.noisy(LEVEL)[None])) as opened:
        assert with_shared_maps(opened) is opened
    with FastMri.open(write(kspace=series(scan, 10))) as opened:
        shared = with_shared_maps(opened)
        assert with_shared_maps(shared) is shared


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("repetition", "slice"), (0, 1, 2, 0, 1, 2)),
        (("echo", "slice"), ()),
        (("slice", "frame"), (0, 0, 0, 1, 1, 1)),
    ],
)
def test_frames_are_images_of_one_place(names: tuple[str, ...], expected: tuple[int, ...]) -> None:
    axes = Axes((*names, "coil", "row", "column"), (2, 3, 4, 8, 8))
    assert axes.image_places == expected
    assert torch.tensor(axes.images).prod() == 6
