"""Files of BART, and the image that it makes of complete data."""

from __future__ import annotations

import bart
import numpy as np
import pytest
import torch
from tiltkit_mri.fourier import fft


def complex_array(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def test_arrays_come_back_from_their_files(tmp_path):
    array = complex_array(3, 4, 1, 2)
    bart.write(tmp_path / "array", array)
    assert (bart.read(tmp_path / "array") == array).all()


@pytest.mark.parametrize("penalty", bart.PENALTIES)
@pytest.mark.skipif(not bart.installed(), reason="bart is not installed")
def test_complete_data_and_a_weak_penalty_give_the_image(penalty):
    image = complex_array(32, 24)
    maps = complex_array(2, 32, 24)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0))
    kspace = fft(torch.from_numpy(maps * image)).numpy()
    found = bart.penalised(penalty, kspace, maps, 1e-6)
    assert np.abs(found - image).max() < 0.01 * np.abs(image).max()
