"""Virtual coils that differ along the readout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiltkit_mri.compression import virtual_coils
from tiltkit_mri.fourier import fft
from tiltkit_mri.geometric_compression import align, geometric_coils, mix_kspace, strongest_coils
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import UsageError
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.problem import Problem

CPU = torch.device("cpu")
PRIOR = SmoothGaussian(0.4, 5.0, 5.0, channels=2)
ROWS, LEVEL = 64, 0.02

Write = Callable[..., Path]


def calibration(simulate: Any, n_coils: int = 32, noise: float = LEVEL) -> torch.Tensor:
    kspace = simulate((ROWS, 56), n_coils=n_coils).noisy(noise)
    return torch.from_numpy(kspace[:, 16:48, 16:40])


def problem_of(path: Path, **options: Any) -> Problem:
    with MriRecon(MriOptions(noise_level=LEVEL, **options)).open(path) as scan:
        return scan.problem(0, PRIOR, CPU)


def image_of(problem: Problem) -> Any:
    operator, y = problem.likelihood.operator, problem.likelihood.y
    return problem.to_image(operator.solve(1e-2, 1.0, operator.adjoint(y)))[0].numpy()


def test_the_rows_of_every_matrix_are_orthonormal(simulate: Any) -> None:
    mix, _ = geometric_coils(calibration(simulate), ROWS, 5)
    assert mix.shape == (ROWS, 5, 32)
    identity = torch.eye(5, dtype=mix.dtype).expand(ROWS, -1, -1)
    assert torch.allclose(mix @ mix.mH, identity, atol=1e-10)


def test_white_noise_stays_white(simulate: Any) -> None:
    mix, _ = geometric_coils(calibration(simulate), ROWS, 5)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(32, ROWS, 200, dtype=mix.dtype, generator=generator)
    mixed = mix_kspace(mix, noise)
    # Coils and neighbouring samples of the readout.
    samples = torch.cat([mixed[:, :-1].flatten(1), mixed[:, 1:].flatten(1)])
    covariance = samples @ samples.mH / samples.shape[1]
    assert torch.allclose(covariance, torch.eye(10, dtype=mix.dtype), atol=0.04)


def test_the_energy_kept_is_that_of_the_mixed_calibration_lines(simulate: Any) -> None:
    block = calibration(simulate)
    mix, kept = geometric_coils(block, ROWS, 4)
    full = block.new_zeros(len(block), ROWS, block.shape[2])
    full[:, 16:48] = block
    share = mix_kspace(mix, full).abs().square().sum() / block.abs().square().sum()
    assert float(share) == pytest.approx(kept, rel=1e-6)


@pytest.mark.parametrize("number", [1, 2, 4, 8])
def test_as_many_coils_hold_more_energy_than_those_of_the_whole_image(
    number: int, simulate: Any
) -> None:
    block = calibration(simulate)
    _, kept = geometric_coils(block, ROWS, number)
    assert kept > virtual_coils(block, number)[1]


def test_the_same_energy_needs_fewer_coils(simulate: Any) -> None:
    block = calibration(simulate)
    mix, kept = geometric_coils(block, ROWS)
    assert mix.shape[1] < len(virtual_coils(block)[0])
    assert kept > 0.999


def test_alignment_keeps_the_spaces_and_brings_neighbours_closer(simulate: Any) -> None:
    before = strongest_coils(calibration(simulate), ROWS)[0][:, :4]
    after = align(before)
    assert torch.allclose(after.mH @ after, before.mH @ before, atol=1e-10)
    old, new = (torch.linalg.matrix_norm(m[1:] - m[:-1]) for m in (before, after))
    assert bool((new <= old + 1e-9).all())
    assert float(new.mean()) < 0.5 * float(old.mean())


def two_arrays(scan: Any) -> tuple[Any, Any]:
    """Maps and k-space of an object in two bands, each in sight of three of six coils."""
    maps = np.zeros((6, *scan.image.shape), dtype=np.complex64)
    maps[:3, 8:26] = scan.maps[:3, 8:26]
    maps[3:, 40:58] = scan.maps[:3, 40:58]
    maps /= np.maximum(np.sqrt((np.abs(maps) ** 2).sum(0)), 1e-6)
    return maps, fft(torch.from_numpy(maps * scan.image)).numpy()


@pytest.fixture
def bands(scan: Any, sampling: Any, write: Write, tmp_path: Path) -> dict[str, Any]:
    """Path and maps of the scan of two bands, every second column measured."""
    maps, kspace = two_arrays(scan)
    np.save(tmp_path / "maps.npy", maps)
    path = write(kspace=(kspace * sampling(56, 2, 12)).astype(np.complex64)[None])
    return {"path": path, "maps": str(tmp_path / "maps.npy"), "scale": 1.0}


@pytest.mark.parametrize("coils", [3, 6])
def test_coils_that_hold_all_energy_leave_the_problem_as_it_is(
    coils: int, bands: dict[str, Any]
) -> None:
    every = problem_of(**bands)
    few = problem_of(**bands, coils=coils, compression="geometric")
    x = torch.randn(2, 2, ROWS, 56, generator=torch.Generator().manual_seed(0))
    operators = [one.likelihood.operator for one in (every, few)]
    normal = [one.adjoint(one.forward(x)) for one in operators]
    torch.testing.assert_close(*normal, atol=5e-3, rtol=0)
    adjoint = [a.adjoint(one.likelihood.y) for a, one in zip(operators, (every, few), strict=True)]
    torch.testing.assert_close(*adjoint, atol=5e-3, rtol=0)
    np.testing.assert_allclose(image_of(few), image_of(every), atol=5e-3)


def test_as_many_coils_of_the_whole_image_lose_a_part_of_it(bands: dict[str, Any]) -> None:
    lost = image_of(problem_of(**bands, coils=3)) - image_of(problem_of(**bands))
    assert np.abs(lost).max() > 0.1


def test_an_image_with_estimated_maps_is_nearer_to_that_of_all_coils(
    simulate: Any, sampling: Any, write: Write
) -> None:
    scan = simulate((ROWS, 56), n_coils=16)
    path = write(kspace=(scan.noisy(LEVEL) * sampling(56, 2, 16)).astype(np.complex64)[None])
    every = image_of(problem_of(path))
    error, kept = {}, {}
    for name in ("svd", "geometric"):
        problem = problem_of(path, coils=3, compression=name)
        error[name] = np.abs(image_of(problem) - every)[scan.inside].mean()
        kept[name] = problem.facts["coil_energy_kept"]
        assert problem.facts["virtual_coils"] == 3
    assert error["geometric"] < 0.4 * error["svd"]
    assert kept["geometric"] > kept["svd"]


def test_the_facts_of_a_scan_name_the_kind_of_compression(simulate: Any, write: Write) -> None:
    path = write(kspace=simulate(n_coils=8).noisy(LEVEL).astype(np.complex64)[None])
    with MriRecon(MriOptions(coils=4, compression="geometric")).open(path) as scan:
        assert "4 virtual ones at each position along the readout" in scan.describe()["coils"]


def test_a_compression_that_changes_nothing_is_noted(scan: Any, write: Write) -> None:
    path = write(kspace=scan.noisy(LEVEL).astype(np.complex64)[None])
    notes = problem_of(path, compression="geometric").notes
    assert [note.code for note in notes if "compress" in note.code] == ["not_compressed"]


def test_rows_left_out_are_refused(scan: Any, write: Write) -> None:
    data = scan.noisy(LEVEL).astype(np.complex64)
    data[:, :12] = 0
    with pytest.raises(UsageError, match="whole columns"):
        problem_of(write(kspace=data[None]), coils=2, compression="geometric")


def test_samples_left_out_of_whole_columns_are_noted(scan: Any, write: Write) -> None:
    data = scan.noisy(LEVEL).astype(np.complex64)
    data[:, 40, 31] += 40
    notes = problem_of(write(kspace=data[None]), coils=2, compression="geometric").notes
    assert "compressed_by_svd" in [note.code for note in notes]
