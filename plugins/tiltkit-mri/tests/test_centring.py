"""The centres of k-space and of the image come to the middle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiltkit_mri.centring import centred
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.kspace import KSpace
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import InputError, UsageError

Complex = NDArray[np.complex128]
Write = Callable[..., Path]
SHAPE = (96, 80)


@pytest.fixture
def kspace(simulate: Any) -> Complex:
    """A slice with noise, all of its columns."""
    noisy: Complex = simulate(SHAPE, 4).noisy(0.01)
    return noisy


@pytest.fixture
def opened(write: Write) -> Callable[..., KSpace]:
    """Opens k-space (coil, row, column) and moves its centre."""

    def make(data: Complex, stated: tuple[int, int] | None = None) -> KSpace:
        path = write(kspace=data[None].astype(np.complex64))
        with FastMri.open(path) as scan:
            moved = centred(scan, stated)
            found = moved.read(0)
        assert ((found != 0).any(axis=(0, 1)) == moved.columns[0]).all()
        return moved

    return make


def same_up_to_rounding(scan: KSpace, data: Complex) -> bool:
    """The written scan's magnitudes after centring are those of ``data``."""
    with FastMri.open(scan.path) as stored:
        found = centred(stored).read(0)
    return bool(np.allclose(np.abs(found), np.abs(data), rtol=1e-4, atol=1e-6))


def codes(scan: KSpace) -> list[str]:
    """Codes of the notes."""
    return [note.code for note in scan.notes]


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("level", [1e-3, 0.3])
@pytest.mark.parametrize("late", [(0, 0), (3, -2)])
def test_centred_k_space_is_left_as_it_is(
    every: int,
    level: float,
    late: tuple[int, int],
    simulate: Any,
    sampling: Any,
    opened: Callable[..., KSpace],
) -> None:
    data = np.roll(simulate(SHAPE, 4).noisy(level), late, axis=(1, 2)) * sampling(80, every, 16)
    assert codes(opened(data)) == []


@pytest.mark.parametrize("axes", [(1, 2), (1,), (2,)])
@pytest.mark.parametrize("every", [1, 4])
def test_k_space_without_fftshift_is_moved_to_the_middle(
    axes: tuple[int, ...],
    every: int,
    kspace: Complex,
    sampling: Any,
    opened: Callable[..., KSpace],
) -> None:
    sampled = kspace * sampling(80, every, 16)
    scan = opened(np.fft.ifftshift(sampled, axes=axes))
    assert codes(scan) == ["centre_moved"]
    assert same_up_to_rounding(scan, sampled)


def test_an_image_without_ifftshift_is_moved_to_the_middle(
    kspace: Complex, opened: Callable[..., KSpace]
) -> None:
    image = np.fft.ifft2(np.fft.ifftshift(kspace, axes=(1, 2)))  # its centre is at the corner
    shifted = np.fft.fftshift(np.fft.fft2(np.fft.fftshift(image, axes=(1, 2))), axes=(1, 2))
    scan = opened(shifted)
    assert codes(scan) == ["image_moved"]
    with FastMri.open(scan.path) as stored:
        found = centred(stored).read(0)
    np.testing.assert_allclose(np.abs((found * kspace.conj()).sum()), np.abs(kspace**2).sum(), 1e-3)


@pytest.mark.parametrize("shift", [(0, 20), (-20, 0)])
def test_another_shift_is_named_and_a_stated_centre_mends_it(
    shift: tuple[int, int], kspace: Complex, opened: Callable[..., KSpace]
) -> None:
    scan = opened(np.roll(kspace, shift, axis=(1, 2)))
    assert codes(scan) == ["off_centre"]
    with FastMri.open(scan.path) as stored:
        moved = centred(stored, (48 + shift[0], 40 + shift[1]))
        assert codes(moved) == []
        np.testing.assert_allclose(moved.read(0), kspace, rtol=1e-4, atol=1e-6)


def test_an_error_for_want_of_calibration_lines_names_the_centre(
    kspace: Complex, sampling: Any, write: Write
) -> None:
    data = np.roll(kspace * sampling(80, 4, 12), 20, axis=2)
    path = write(kspace=data[None].astype(np.complex64))
    with (
        pytest.raises(InputError, match=r"calibration lines.*task.centre=48,60") as caught,
        MriRecon(MriOptions()).open(path),
    ):
        pass
    assert caught.value.hint.startswith("state the centre")
    with MriRecon(MriOptions(centre="48,60")).open(path) as scan:
        assert codes(scan.kspace) == []


def test_partial_fourier_with_zero_filling_is_centred(
    kspace: Complex, opened: Callable[..., KSpace]
) -> None:
    assert codes(opened(kspace * (np.arange(80) >= 30))) == []
    assert codes(opened(kspace[..., 30:])) == ["off_centre"]


def test_images_in_the_place_of_k_space_are_named(
    kspace: Complex, opened: Callable[..., KSpace]
) -> None:
    image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(1, 2))), axes=(1, 2))
    assert codes(opened(image)) == ["images_as_kspace"]


@pytest.mark.parametrize("centre", ["middle", "3", "1,2,3", "-1,4", "500,2"])
def test_a_centre_that_is_no_sample_of_k_space_is_refused(
    centre: str, kspace: Complex, write: Write
) -> None:
    path = write(kspace=kspace[None].astype(np.complex64))
    with (
        pytest.raises(UsageError, match="centre") as caught,
        MriRecon(MriOptions(centre=centre)).open(path),
    ):
        pass
    assert caught.value.hint
