"""Objects wider than the field of view: maps of the whole object, and its posterior."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiltkit_mri.espirit import Sensitivities, describe_maps, espirit
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.posterior.outcome import Outcome
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.recon.solve import solve
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions

CPU = torch.device("cpu")
PRIOR = SmoothGaussian(0.4, 5.0, 5.0, channels=2)
LEVEL = 0.01
# The object is 77 of 96 columns wide; the field of view has 64.
WIDE, NARROW, ROWS = 96, 64, 48

Write = Callable[..., Path]


def fold(image: NDArray[Any], columns: int, shift: int = 0) -> NDArray[Any]:
    """Sum of the columns (..., n) that fall together, their centre ``shift`` beside the middle."""
    n = image.shape[-1]
    folded = np.zeros((*image.shape[:-1], columns), image.dtype)
    for j in range(n):
        folded[..., (j - n // 2 + shift + columns // 2) % columns] += image[..., j]
    return folded


def kspace(coils: NDArray[Any], level: float = LEVEL, seed: int = 0) -> NDArray[Any]:
    """Noisy k-space (coil, row, column) of coil images."""
    axes = (-2, -1)
    shifted = np.fft.fft2(np.fft.ifftshift(coils, axes=axes), norm="ortho")
    noise = np.random.default_rng(seed).normal(size=(*coils.shape, 2)) @ np.array([1, 1j])
    return np.fft.fftshift(shifted, axes=axes) + level * noise


def estimated(data: NDArray[Any], lines: int = 24, level: float = LEVEL) -> Sensitivities:
    """Maps from the centre of k-space."""
    _, ny, nx = data.shape
    rows, columns = (
        slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in ((ny, 24), (nx, lines))
    )
    block = torch.from_numpy(data[:, rows, columns])
    return espirit(block, (ny, nx), noise_level=level)


@pytest.fixture(scope="module")
def whole(simulate: Any) -> Any:
    """The object on a field of view that holds it, with 8 coils."""
    return simulate((ROWS, WIDE), n_coils=8)


@pytest.fixture(scope="module")
def coils(whole: Any) -> NDArray[Any]:
    """Coil images of the narrow field of view."""
    return fold(whole.maps * whole.image, NARROW)


@pytest.mark.parametrize("shift", [0, 11, -11])
def test_maps_are_those_of_both_parts_of_the_object(whole: Any, shift: int) -> None:
    found = estimated(kspace(fold(whole.maps * whole.image, NARROW, shift)))
    assert found.at is not None
    # Position of each column on the wide grid: the first one may be off by a field of view.
    first = int(found.at[0]) - NARROW // 2 - shift + WIDE // 2
    best = 0.0
    for start in (first - NARROW, first):
        at = start + np.arange(len(found.at))
        inside = (at >= 0) & (at < WIDE)
        true, image = whole.maps[:, :, at[inside]], np.abs(whole.image[:, at[inside]])
        same = np.abs((true.conj() * found.maps.numpy()[..., inside]).sum(0))[image > 0.2]
        if image.sum() > 0.99 * np.abs(whole.image).sum():
            best = max(best, float(np.quantile(same, 0.02)))
    assert best > 0.95


def test_both_sets_explain_the_folded_image(coils: NDArray[Any]) -> None:
    found = estimated(kspace(coils))
    block = torch.from_numpy(kspace(coils)[:, 12:36, 20:44])
    first = espirit(block, (ROWS, NARROW)).maps.numpy()
    assert found.at is not None
    place = torch.stack([(found.at == column).nonzero()[-1, 0] for column in range(NARROW)])
    left = torch.stack([(found.at == column).nonzero()[0, 0] for column in range(NARROW)])
    basis = torch.stack([found.maps[..., left], found.maps[..., place]], dim=-1).numpy()
    values = coils.transpose(1, 2, 0)[..., None]
    fit = np.linalg.pinv(basis.transpose(1, 2, 0, 3), rcond=1e-3) @ values
    missed = values - basis.transpose(1, 2, 0, 3) @ fit
    missed_by_one = coils - first * (first.conj() * coils).sum(0)
    assert np.linalg.norm(missed) < 0.02 * np.linalg.norm(coils)
    assert np.linalg.norm(missed_by_one) > 0.04 * np.linalg.norm(coils)


@pytest.mark.parametrize("lines", [6, 8, 10, 12, 16, 24])
@pytest.mark.parametrize("n_coils", [2, 4, 8])
@pytest.mark.parametrize("level", [1e-4, 0.01, 0.05])
def test_an_object_inside_the_field_of_view_has_one_set(
    lines: int, n_coils: int, level: float, simulate: Any
) -> None:
    scan = simulate((ROWS, 56), n_coils=n_coils)
    found = estimated(kspace(scan.maps * scan.image, level), lines, level)
    assert found.at is None
    assert not describe_maps(found, 56)


def test_an_object_that_fills_the_readout_has_one_set(whole: Any) -> None:
    data = kspace((whole.maps * whole.image)[:, 10:38])
    assert estimated(data).at is None


def test_a_ghost_of_half_the_field_of_view_is_noted(simulate: Any) -> None:
    scan = simulate((ROWS, 56), n_coils=8)
    image = scan.maps * scan.image
    found = estimated(kspace(image + 0.6 * np.roll(image, 28, axis=-1), 1e-3), level=1e-3)
    assert found.at is None
    assert [note.code for note in describe_maps(found, 56)] == ["maps_unexplained"]


def test_the_posterior_of_a_folded_object_covers_the_truth(
    coils: NDArray[Any], sampling: Any, write: Write
) -> None:
    mask = sampling(NARROW, 2, 20)
    path = write(kspace=(kspace(coils) * mask).astype(np.complex64)[None], mask=mask)
    with MriRecon(MriOptions(noise_level=LEVEL)).open(path) as scan:
        problem = scan.problem(0, PRIOR, CPU)
        assert scan.layout.shape == (1, ROWS, NARROW)
        assert "two sets" in scan.describe()["coil maps"]
    assert [note.code for note in problem.notes] == ["object_folds"]
    assert problem.shape[-1] > NARROW
    sampler = Walmc(WalmcOptions(levels=24, collect=2))
    *_, outcome = solve([problem], sampler, seed=(0, 0), n=16, devices=[CPU])
    assert isinstance(outcome, Outcome)
    truth = np.linalg.norm(coils, axis=0)
    inside = truth > 0.1
    error = np.asarray(outcome.mean - truth)[inside]
    spread = np.asarray(outcome.std)[inside]
    assert np.sqrt((error**2).mean() / (spread**2).mean()) < 1.4
    assert outcome.diagnostics["chi2"] == pytest.approx(1, abs=0.15)


def test_maps_of_noise_and_the_complex_image_have_the_size_of_the_field_of_view(
    coils: NDArray[Any], write: Write
) -> None:
    path = write(kspace=kspace(coils).astype(np.complex64)[None])
    options = MriOptions(output=("complex", "g_factor", "snr"))
    with MriRecon(options).open(path) as scan:
        problem = scan.problem(0, PRIOR, CPU)
    image = torch.from_numpy(np.linalg.norm(coils, axis=0)).float()
    found = problem.maps["g_factor"].compute(image, image)
    assert found.shape == image.shape
    inside = image > 0.2
    assert float(found[inside].min()) > 0.99
    # Two parts in a pixel cost noise even without acceleration.
    assert float(found[:, :6][inside[:, :6]].median()) > 1.005
    assert float(found[:, 20:40][inside[:, 20:40]].max()) < 1.001
    assert problem.complex_image is not None
    x = torch.randn(2, *problem.shape)
    torch.testing.assert_close(problem.complex_image(x).abs(), problem.to_image(x))


@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
def test_both_sets_span_the_planes_of_bart(coils: NDArray[Any], tmp_path: Path) -> None:
    data = kspace(coils, 1e-3).astype(np.complex64)
    (tmp_path / "k.hdr").write_text(f"# Dimensions\n{ROWS} {NARROW} 1 8\n")
    (tmp_path / "k.cfl").write_bytes(data.transpose(0, 2, 1).tobytes())
    command = ["bart", "ecalib", "-m2", "-c0", "-r24", "k", "maps"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    raw = np.fromfile(tmp_path / "maps.cfl", np.complex64).reshape(2, 8, NARROW, ROWS)
    theirs, _ = np.linalg.qr(raw.transpose(3, 2, 1, 0))  # (row, column, coil, set)
    found = estimated(data, level=1e-3)
    assert found.at is not None
    ours = found.maps.numpy().transpose(1, 2, 0)
    inside = np.abs(np.einsum("yxcs,yxc->yxs", theirs[:, found.at.numpy()].conj(), ours)) ** 2
    truth = np.linalg.norm(coils, axis=0)[:, found.at.numpy()] > 0.2
    used = (ours != 0).any(-1) & truth
    assert np.quantile(inside.sum(-1)[used], 0.02) > 0.98


@pytest.mark.parametrize("lines", [6, 8, 10, 12, 24])
def test_a_real_head_has_two_sets_only_where_it_folds(lines: int, shared: Path) -> None:
    with h5py.File(shared / "brain_8ch_raw.h5") as file:
        full = file["kspace"][0][:, 57:173, 45:135]
    axes = (-2, -1)
    image = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(full, axes=axes), norm="ortho"), axes=axes
    )
    assert estimated(kspace(image, 0), lines, 0.0015).at is None
    # The head is 75 of 90 columns wide, and reaches nearly both edges of 78.
    assert estimated(kspace(fold(image, 78), 0), lines, 0.0015).at is None
    folded = estimated(kspace(fold(image, 60), 0), lines, 0.0015)
    assert folded.at is not None
    assert 60 < len(folded.at) < 100
