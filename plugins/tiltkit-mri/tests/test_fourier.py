"""The Fourier convention against its definition, the sum over all samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiltkit_mri.fourier import fft, ifft


def centred_dft(n: int) -> np.ndarray:
    """Matrix of the unitary transform with zero frequency and origin at ``n // 2``."""
    j = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(j, j) / n) / np.sqrt(n)


@pytest.mark.parametrize("shape", [(6, 8), (7, 5), (8, 7), (1, 3)])
def test_the_transform_is_the_centred_unitary_sum(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    expected = centred_dft(shape[0]) @ image @ centred_dft(shape[1]).T
    np.testing.assert_allclose(fft(torch.from_numpy(image)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 8), (7, 5)])
def test_the_inverse_undoes_the_transform(shape: tuple[int, int]) -> None:
    image = torch.randn(2, *shape, dtype=torch.complex128)
    torch.testing.assert_close(ifft(fft(image)), image)
    torch.testing.assert_close(ifft(fft(image, (1,)), (1,)), image)


def test_the_centre_of_k_space_holds_the_sum_of_the_image() -> None:
    image = torch.randn(7, 10, dtype=torch.complex128)
    torch.testing.assert_close(fft(image)[3, 5], image.sum() / 70**0.5)
