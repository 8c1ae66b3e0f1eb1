"""Coil maps from a file, and calibration lines from another scan."""

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
from tiltkit_mri.espirit import espirit
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import InputError, UsageError
from tiltkit.priors.closed_form import SmoothGaussian

CPU = torch.device("cpu")
PRIOR = SmoothGaussian(0.4, 5.0, 5.0, channels=2)
LEVEL = 0.005
SHAPE = (64, 56)

Write = Callable[..., Path]


def write_cfl(path: Path, array: NDArray[Any], dims: tuple[int, ...]) -> Path:
    """BART's format: the first dimension changes fastest."""
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, dims))}\n")
    samples = path.with_suffix(".cfl")
    samples.write_bytes(array.astype(np.complex64).tobytes())
    return samples


def save(maps: NDArray[Any], folder: Path, kind: str) -> Path:
    """Maps (coil, row, column) in one of the formats."""
    path = folder / f"maps.{kind}"
    if kind == "npy":
        np.save(path, maps.astype(np.complex64))
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["maps"] = maps.astype(np.complex64)
    else:
        coils, rows, columns = maps.shape
        write_cfl(path, maps.transpose(0, 2, 1), (rows, columns, 1, coils))
    return path


def sampled(scan: Any, write: Write, mask: NDArray[np.bool_], level: float = LEVEL) -> Path:
    return write(kspace=(scan.noisy(level) * mask).astype(np.complex64)[None], mask=mask)


def maps_of(path: Path, **options: Any) -> NDArray[Any]:
    with MriRecon(MriOptions(**options)).open(path) as scan:
        return scan.prepare(0).sensitivities.maps.numpy()


@pytest.fixture
def path(scan: Any, sampling: Any, write: Write) -> Path:
    """Every second column and 12 in the centre."""
    return sampled(scan, write, sampling(56, 2, 12))


@pytest.mark.parametrize("kind", ["npy", "h5", "cfl"])
def test_a_problem_with_the_true_maps_fits_the_data(
    kind: str, scan: Any, path: Path, tmp_path: Path
) -> None:
    maps = save(3 * scan.maps, tmp_path, kind)
    with MriRecon(MriOptions(maps=str(maps), noise_level=LEVEL)).open(path) as opened:
        problem = opened.problem(0, PRIOR, CPU)
        assert f"from {maps}" in opened.describe()["coil maps"]
    image = scan.image / problem.facts["scale"]
    truth = torch.from_numpy(np.stack([image.real, image.imag])[None]).float()
    assert float(problem.likelihood.chi2(truth)) == pytest.approx(1, abs=0.05)


def test_given_maps_are_mixed_like_the_coils(
    scan: Any, sampling: Any, write: Write, tmp_path: Path
) -> None:
    # Noise that differs between coils and is shared by them.
    mix = np.eye(4) + 0.4 * np.eye(4, k=1)
    data = np.einsum("cd,dyx->cyx", mix, scan.noisy(LEVEL)) * sampling(56, 2, 12)
    path = write(kspace=data.astype(np.complex64)[None])
    given = maps_of(path, maps=str(save(np.einsum("cd,dyx->cyx", mix, scan.maps), tmp_path, "npy")))
    estimated = maps_of(path)
    same = np.abs((given.conj() * estimated).sum(0))[scan.inside]
    assert same.min() > 0.998


def test_a_scan_without_calibration_lines_is_reconstructed_with_given_maps(
    scan: Any, write: Write, tmp_path: Path
) -> None:
    mask = np.arange(56) % 3 == 1
    path = sampled(scan, write, mask)
    with pytest.raises(InputError, match="calibration lines"):
        maps_of(path)
    maps = save(scan.maps, tmp_path, "npy")
    with MriRecon(MriOptions(maps=str(maps), noise_level=LEVEL)).open(path) as opened:
        problem = opened.problem(0, PRIOR, CPU)
    operator, y = problem.likelihood.operator, problem.likelihood.y
    error = problem.to_image(operator.solve(1e-3, 1.0, operator.adjoint(y)))[0].numpy()
    error -= np.abs(scan.image)
    assert np.sqrt((error[scan.inside] ** 2).mean()) < 0.05


def test_maps_of_the_whole_readout_are_cut_to_the_image(
    simulate: Any, header: Any, write: Write, tmp_path: Path
) -> None:
    wide = simulate((96, 40))
    path = write(
        kspace=wide.noisy(0.01).astype(np.complex64)[None],
        ismrmrd_header=header((96, 40), (64, 40)),
    )
    long = maps_of(path, maps=str(save(wide.maps, tmp_path, "npy")))
    short = maps_of(path, maps=str(save(wide.maps[:, 16:80], tmp_path, "npy")))
    assert long.shape == (4, 64, 40)
    np.testing.assert_array_equal(long, short)


def test_the_image_is_zero_where_there_is_no_map(scan: Any, path: Path, tmp_path: Path) -> None:
    maps = save(np.where(scan.inside, scan.maps, 0), tmp_path, "npy")
    with MriRecon(MriOptions(maps=str(maps))).open(path) as opened:
        problem = opened.problem(0, PRIOR, CPU)
    assert problem.constraint is not None
    image = problem.to_image(problem.constraint.apply(torch.ones(1, 2, *SHAPE)))[0].numpy()
    np.testing.assert_array_equal(image != 0, scan.inside)


def test_maps_that_do_not_belong_to_the_scan_are_refused(
    scan: Any, path: Path, tmp_path: Path
) -> None:
    wrong = {
        "are 3 x 64 x 56, coils first, but": scan.maps[:3],
        "are 4 x 56 x 64, coils first": scan.maps.transpose(0, 2, 1),
        "are zero everywhere": 0 * scan.maps,
        "are not finite everywhere": np.nan * scan.maps,
        "are of 2 slices": np.stack([scan.maps, scan.maps]),
    }
    for message, maps in wrong.items():
        with pytest.raises(InputError, match=message):
            maps_of(path, maps=str(save(maps, tmp_path, "npy")))
    with pytest.raises(InputError, match="There is no file"):
        maps_of(path, maps=str(tmp_path / "nowhere.npy"))


def test_calibration_lines_of_a_smaller_scan_give_the_same_maps(
    scan: Any, simulate: Any, header: Any, tmp_path: Path
) -> None:
    mask = np.arange(56) % 3 == 1
    image, low = tmp_path / "image.h5", tmp_path / "low.h5"
    with h5py.File(image, "w") as file:
        file["kspace"] = (scan.noisy(LEVEL) * mask).astype(np.complex64)[None]
        file["ismrmrd_header"] = header((64, 56), (64, 56))
    # The same coils and field of view, half of the matrix: the centre of k-space.
    with h5py.File(low, "w") as file:
        file["kspace"] = scan.noisy(LEVEL, 1)[:, 16:48, 14:42].astype(np.complex64)[None]
        same_fov = header((32, 28), (32, 28)).replace(">64<", ">128<").replace(">56<", ">112<")
        file["ismrmrd_header"] = same_fov
    found = maps_of(image, calibration=str(low))
    assert found.shape == (4, 64, 56)
    same = np.abs((found.conj() * scan.maps).sum(0))[scan.inside]
    assert same.min() > 0.99


def test_a_calibration_scan_of_other_coils_or_field_of_view_is_refused(
    scan: Any, header: Any, path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["kspace"] = scan.noisy(LEVEL)[:3].astype(np.complex64)[None]
    with pytest.raises(InputError, match="has 3 coils"):
        maps_of(path, calibration=str(other))
    with h5py.File(path, "a") as file:
        file["ismrmrd_header"] = header((64, 56), (64, 56))
    with h5py.File(other, "w") as file:
        file["kspace"] = scan.noisy(LEVEL).astype(np.complex64)[None]
        file["ismrmrd_header"] = header((64, 56), (64, 56)).replace(">112<", ">150<")
    with pytest.raises(InputError, match="field of view of 150 mm"):
        maps_of(path, calibration=str(other))


def test_calibration_rows_bound_the_samples_that_maps_come_from(path: Path) -> None:
    few, usual = maps_of(path, calibration_rows=12), maps_of(path)
    assert not np.allclose(few, usual)
    np.testing.assert_allclose(maps_of(path, calibration_rows=32), usual)
    with pytest.raises(UsageError, match="5 calibration rows were asked for"):
        maps_of(path, calibration_rows=5)


@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
def test_maps_are_those_of_bart(scan: Any, tmp_path: Path) -> None:
    data = scan.noisy(1e-3).astype(np.complex64)
    write_cfl(tmp_path / "k", data.transpose(0, 2, 1), (64, 56, 1, 4))
    command = ["bart", "ecalib", "-m1", "-c0", "-r24", "-k6", "k", "maps"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    raw = np.fromfile(tmp_path / "maps.cfl", np.complex64)
    theirs = raw.reshape(4, 56, 64).transpose(0, 2, 1)
    block = torch.from_numpy(data[:, 20:44, 16:40])
    ours = espirit(block, SHAPE).maps.numpy()
    same = np.abs((ours.conj() * theirs).sum(0)) / np.sqrt((np.abs(theirs) ** 2).sum(0))
    assert same[scan.inside].min() > 0.995
    assert np.median(same[scan.inside]) > 0.9999
