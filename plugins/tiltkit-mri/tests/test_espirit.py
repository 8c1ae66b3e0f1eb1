"""Coil maps against the truth and against a textbook implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiltkit_mri.espirit import describe_maps, espirit


def block(kspace: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """The centre of k-space; sample ``n // 2`` stays at the centre."""
    ny, nx = kspace.shape[-2:]
    first_row, first_column = ny // 2 - rows // 2, nx // 2 - columns // 2
    return kspace[:, first_row : first_row + rows, first_column : first_column + columns]


def textbook(
    calibration: NDArray[Any], shape: tuple[int, int], kernel: int, threshold: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """ESPIRiT as in the paper: every kernel is transformed to the full image, pixel by pixel."""
    n_coils, rows, columns = calibration.shape
    windows = [
        calibration[:, i : i + kernel, j : j + kernel].ravel()
        for i in range(rows - kernel + 1)
        for j in range(columns - kernel + 1)
    ]
    _, s, vh = np.linalg.svd(np.array(windows), full_matrices=False)
    rows_kept = vh[s >= threshold * s[0]].reshape(-1, n_coils, kernel, kernel)
    ny, nx = shape
    y = np.arange(ny) - ny // 2
    x = np.arange(nx) - nx // 2
    taps = np.arange(kernel)
    ey = np.exp(2j * np.pi * np.outer(y, taps) / ny)
    ex = np.exp(2j * np.pi * np.outer(x, taps) / nx)
    # G^H of the paper: its left singular vectors are the maps.
    images = np.einsum("kcab,ya,xb->kcyx", rows_kept, ey, ex) / kernel
    maps = np.empty((n_coils, ny, nx), complex)
    values = np.empty((ny, nx))
    for i in range(ny):
        for j in range(nx):
            u, s, _ = np.linalg.svd(images[:, :, i, j].T, full_matrices=False)
            maps[:, i, j], values[i, j] = u[:, 0], s[0] ** 2
    return maps, values


def agreement(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """|<a, b>| of unit vectors over coils in every pixel: 1 where equal up to a phase."""
    return np.abs((a.conj() * b).sum(0))


@pytest.mark.parametrize("shape", [(64, 56), (63, 45)])
def test_maps_are_those_of_the_simulation(shape: tuple[int, int], simulate: Any) -> None:
    scan = simulate(shape)
    found = espirit(torch.from_numpy(block(scan.kspace, 24, 24)), shape)
    maps = found.maps.numpy()
    assert agreement(maps, scan.maps)[scan.inside].min() > 0.999
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1, rtol=1e-6)


def test_confidence_is_one_in_the_object_and_small_in_air(scan: Any) -> None:
    found = espirit(torch.from_numpy(block(scan.kspace, 24, 24)), (64, 56))
    assert found.confidence.numpy()[scan.inside].min() > 0.95
    assert found.confidence[0, 0] < 0.5
    assert found.confidence.max() <= 1 + 1e-9


@pytest.mark.parametrize("lines", [16, 17])
@pytest.mark.parametrize("kernel", [4, 5])
def test_maps_are_those_of_the_textbook_method(lines: int, kernel: int, simulate: Any) -> None:
    scan = simulate((24, 21))
    calibration = block(scan.noisy(1e-3), lines, lines)
    found = espirit(torch.from_numpy(calibration), (24, 21), kernel=kernel, threshold=0.03)
    maps, values = textbook(calibration, (24, 21), kernel, 0.03)
    np.testing.assert_allclose(found.confidence.numpy(), values, atol=1e-9)
    np.testing.assert_allclose(agreement(found.maps.numpy(), maps), 1, atol=1e-9)


def test_single_precision_is_enough(scan: Any) -> None:
    calibration = torch.from_numpy(block(scan.kspace, 24, 24))
    double, single = espirit(calibration, (64, 56)), espirit(calibration.cfloat(), (64, 56))
    same = agreement(double.maps.numpy(), single.maps.numpy())
    assert same[scan.inside].min() > 1 - 1e-5


@pytest.mark.parametrize("factor", [1e-7, 1e5])
def test_maps_do_not_depend_on_the_unit_of_k_space(scan: Any, factor: float) -> None:
    calibration = torch.from_numpy(block(scan.noisy(1e-3), 20, 20)).cfloat()
    a, b = espirit(calibration, (64, 56)), espirit(calibration * factor, (64, 56))
    assert agreement(a.maps.numpy(), b.maps.numpy())[scan.inside].min() > 1 - 1e-4


def test_the_image_keeps_a_smooth_phase(scan: Any) -> None:
    found = espirit(torch.from_numpy(block(scan.kspace, 24, 24)), (64, 56))
    turned = (found.maps.numpy().conj() * scan.maps).sum(0)
    steps = np.angle(turned[1:] * turned[:-1].conj())[scan.inside[1:] & scan.inside[:-1]]
    assert np.abs(steps).max() < 0.2


@pytest.mark.parametrize(("n_coils", "level"), [(2, 0.05), (4, 0.1), (8, 0.1)])
def test_noise_of_a_known_level_does_not_count_as_signal(
    n_coils: int, level: float, simulate: Any
) -> None:
    scan = simulate((48, 56), n_coils)
    calibration = torch.from_numpy(block(scan.noisy(level), 24, 24))
    found = espirit(calibration, (48, 56), noise_level=level)
    assert np.quantile(agreement(found.maps.numpy(), scan.maps)[scan.inside], 0.02) > 0.98
    unaware = espirit(calibration, (48, 56))
    assert np.quantile(agreement(unaware.maps.numpy(), scan.maps)[scan.inside], 0.02) < 0.96


@pytest.mark.parametrize("level", [1.0, 100.0])
def test_maps_of_noise_alone_are_finite(level: float) -> None:
    noise = torch.randn(
        4, 24, 24, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)
    )
    found = espirit(noise, (32, 32), noise_level=level)
    assert bool(found.maps.isfinite().all())


@pytest.mark.parametrize("lines", [6, 8, 10])
def test_few_lines_get_smaller_kernels_and_better_maps(lines: int, simulate: Any) -> None:
    scan = simulate((64, 80), 8)
    calibration = torch.from_numpy(block(scan.noisy(0.005), 32, lines))
    same = [
        agreement(found.maps.numpy(), scan.maps)[scan.inside]
        for found in (espirit(calibration, (64, 80), kernel=size) for size in (None, 6))
    ]
    usual, large = (float((1 - a**2).mean()) for a in same)
    assert usual < 0.7 * large


@pytest.mark.parametrize("lines", [6, 8, 12, 24])
def test_usual_maps_are_certain(lines: int, simulate: Any) -> None:
    scan = simulate((64, 80), 8)
    found = espirit(
        torch.from_numpy(block(scan.noisy(0.05), 32, lines)), (64, 80), noise_level=0.05
    )
    assert found.certainty > 0.98
    assert not describe_maps(found, 80)


@pytest.mark.parametrize(("lines", "kernel", "level"), [(6, 6, 0.01), (24, None, 2.0)])
def test_maps_of_too_few_lines_or_of_noise_are_noted(
    lines: int, kernel: int | None, level: float, simulate: Any
) -> None:
    calibration = torch.from_numpy(block(simulate((64, 80), 8).noisy(level), 32, lines))
    found = espirit(calibration, (64, 80), kernel=kernel, noise_level=level)
    assert [note.code for note in describe_maps(found, 80)] == ["maps_uncertain"]
