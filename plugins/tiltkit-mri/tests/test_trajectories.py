"""Scans with a trajectory: from raw files, simulated by explicit sums, to maps and the task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.header import Header
from tiltkit_mri.ismrmrd import Ismrmrd
from tiltkit_mri.noise import describe_noise
from tiltkit_mri.prepare_non_cartesian import grid_centre, prepare_non_cartesian
from tiltkit_mri.task import MriOptions, MriRecon
from tiltkit_mri.trajectories import in_cycles_per_pixel, points_near_samples, trajectory_scan

from tiltkit.errors import InputError, UsageError

pytest.importorskip("finufft")
SIZE, COILS, SPOKES, LEVEL = 48, 4, 40, 0.02
Positions = np.ndarray
Write = Callable[..., Path]


def radial(spokes: int = SPOKES, size: int = SIZE) -> Positions:
    """Positions (spoke, sample, 2) in cycles per pixel."""
    along = (np.arange(2 * size) - size) / (2 * size)
    angle = np.arange(spokes) * math.pi * (3 - math.sqrt(5))
    return np.stack([np.cos(angle), np.sin(angle)], -1)[:, None] * along[:, None]


def measure(images: np.ndarray, positions: Positions) -> np.ndarray:
    """Samples (spoke, coil, sample) of coil images, as explicit sums over pixels."""
    ny, nx = images.shape[-2:]
    down, across = (
        np.exp(-2j * np.pi * k[..., None] * (np.arange(n) - n // 2))
        for k, n in zip(np.moveaxis(positions, -1, 0), (ny, nx), strict=True)
    )
    return np.einsum("skr,crx,skx->sck", down, images, across, optimize=True) / math.sqrt(ny * nx)


@pytest.fixture(scope="session")
def spokes(simulate: Any) -> np.ndarray:
    """Noisy spokes (spoke, coil, sample) of the simulated slice."""
    scan = simulate((SIZE, SIZE), COILS)
    clean = measure(scan.maps * scan.image, radial())
    rng = np.random.default_rng(0)
    return clean + LEVEL * (rng.normal(size=(*clean.shape, 2)) @ np.array([1, 1j]))


def acquisition(samples: np.ndarray, positions: np.ndarray, **head: Any) -> ismrmrd.Acquisition:
    made = ismrmrd.Acquisition.from_array(
        np.ascontiguousarray(samples, np.complex64), np.ascontiguousarray(positions, np.float32)
    )
    made.read_dir[:], made.phase_dir[:], made.slice_dir[:] = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    for name, value in head.items():
        setattr(made if hasattr(made, name) else made.idx, name, value)
    return made


@pytest.fixture
def write(tmp_path: Path, header: Callable[..., str]) -> Write:
    """Writes acquisitions with the ismrmrd library."""

    def make(acquisitions: Any, kind: str = "radial", size: int = SIZE) -> Path:
        path = tmp_path / "raw.h5"
        path.unlink(missing_ok=True)
        xml = header((size, size), (size, size))
        with ismrmrd.Dataset(str(path)) as file:
            file.write_xml_header(
                xml.replace("</encoding>", f"<trajectory>{kind}</trajectory></encoding>")
            )
            for one in acquisitions:
                file.append_acquisition(one)
        return path

    return make


def test_samples_come_with_their_positions_in_cycles_per_pixel(
    write: Write, spokes: np.ndarray
) -> None:
    path = write(acquisition(s, p) for s, p in zip(spokes, radial(), strict=True))
    with Ismrmrd.open(path) as scan:
        assert (scan.n_slices, scan.n_coils, scan.shape) == (1, COILS, (SIZE, SIZE))
        assert scan.trajectory is not None
        np.testing.assert_allclose(scan.trajectory(0), radial().reshape(-1, 2).T, atol=1e-6)
        expected = np.moveaxis(spokes, 1, 0).reshape(COILS, -1)
        np.testing.assert_allclose(scan.read(0), expected, rtol=1e-5)
        assert not any(note.assumed for note in scan.notes)
        assert scan.pixel_mm == (2, 2)
        assert len(scan.geometry) == 1


def test_discarded_samples_lose_their_positions_too(write: Write, spokes: np.ndarray) -> None:
    path = write([acquisition(spokes[0], radial()[0], discard_pre=3, discard_post=5)])
    with Ismrmrd.open(path) as scan:
        assert scan.trajectory is not None
        np.testing.assert_allclose(scan.trajectory(0), radial()[0, 3:-5].T, atol=1e-6)
        np.testing.assert_allclose(scan.read(0), spokes[0][:, 3:-5], rtol=1e-5)


def test_counters_become_slices_and_readouts_in_any_order_belong_together(
    write: Write, spokes: np.ndarray
) -> None:
    readouts = [
        acquisition(spokes[i], radial()[i], slice=i % 2, repetition=i % 4 // 2) for i in range(12)
    ]
    with Ismrmrd.open(write(readouts)) as scan:
        assert scan.n_slices == 4
        assert scan.slice_names[3] == "slice 1, repetition 1"
        np.testing.assert_allclose(
            scan.read(3), np.concatenate(spokes[[3, 7, 11]], axis=1), rtol=1e-5
        )


@pytest.mark.parametrize(
    ("recon", "recon_fov", "shape", "matrix", "pixel"),
    [
        ((SIZE, SIZE), (96.0, 96.0), (SIZE, SIZE), (SIZE, SIZE), (2, 2)),
        ((2 * SIZE, 2 * SIZE), (96.0, 96.0), (SIZE, SIZE), (2 * SIZE, 2 * SIZE), (1, 1)),
        ((SIZE, SIZE), None, (SIZE, SIZE), (SIZE, SIZE), (2, 2)),
    ],
)
def test_readout_oversampling_of_the_header_does_not_enlarge_the_image(
    recon: tuple[int, int], recon_fov: Any, shape: Any, matrix: Any, pixel: Any, spokes: np.ndarray
) -> None:
    header = Header((2 * SIZE, SIZE), recon, (192.0, 96.0), recon_fov, trajectory="radial")
    samples = np.moveaxis(spokes, 1, 0).reshape(COILS, -1).astype(np.complex64)
    places = radial().reshape(-1, 2).T.astype(np.float32)
    scan = trajectory_scan(lambda _: (samples, places), 1, header, Path("f"), "test")
    assert (scan.shape, scan.image.matrix, scan.pixel_mm) == (shape, matrix, pixel)


def test_stacks_of_stars_become_their_partitions(write: Write, spokes: np.ndarray) -> None:
    images = np.stack([spokes[:8], 2 * spokes[:8], 3j * spokes[:8], 4 * spokes[:8]])
    kspace = np.fft.fftshift(
        np.fft.fft(np.fft.ifftshift(images, axes=0), axis=0, norm="ortho"), axes=0
    )
    readouts = [
        acquisition(kspace[z, i], radial()[i], kspace_encode_step_1=i, kspace_encode_step_2=z)
        for i in range(8)
        for z in (2, 0, 3, 1)
    ]
    with Ismrmrd.open(write(readouts)) as scan:
        assert scan.n_slices == 4
        for z in range(4):
            expected = np.moveaxis(images[z], 1, 0).reshape(COILS, -1)
            np.testing.assert_allclose(scan.read(z), expected, rtol=1e-4, atol=1e-4)
    turned = [acquisition(spokes[z], radial()[z], kspace_encode_step_2=z) for z in range(2)]
    with pytest.raises(InputError, match="different trajectories"), Ismrmrd.open(write(turned)):
        pass


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        (1.0, "cycles per pixel"),
        (SIZE, "cycles per field of view"),
        (2 * math.pi, "radians per pixel"),
        (0.25, "cycles per mm"),
        (250.0, "cycles per m"),
    ],
)
def test_units_of_positions_are_recognised_by_the_edge_of_k_space(unit: float, name: str) -> None:
    positions = radial().reshape(-1, 2).T
    header = Header(encoded=(SIZE, SIZE), encoded_fov=(4.0 * SIZE, 4.0 * SIZE))
    found, note = in_cycles_per_pixel(positions * unit, (SIZE, SIZE), header, Path("f"))
    np.testing.assert_allclose(found, positions, atol=1e-6)
    assert f"in {name}." in note.text
    assert not note.assumed


def test_positions_that_end_early_are_doubted_and_others_refused() -> None:
    positions, shape = radial().reshape(-1, 2).T, (SIZE, SIZE)
    found, note = in_cycles_per_pixel(0.6 * positions, shape, Header(), Path("f"))
    np.testing.assert_allclose(found, 0.6 * positions, atol=1e-6)
    assert note.assumed
    with pytest.raises(InputError, match=r"reach 1\.7"):
        in_cycles_per_pixel(3.4 * positions, shape, Header(), Path("f"))
    broken = positions.copy()
    broken[0, 0] = np.nan
    with pytest.raises(InputError, match="1 positions that are not finite"):
        in_cycles_per_pixel(broken, shape, Header(), Path("f"))


def test_points_near_samples_are_the_grid_itself_for_cartesian_positions() -> None:
    mask = np.random.default_rng(0).random((9, 8)) < 0.3
    places = (np.argwhere(mask).T - [[4], [4]]) / [[9], [8]]
    np.testing.assert_array_equal(points_near_samples(places, (9, 8)), mask)


def test_the_gridded_centre_is_the_centre_of_the_cartesian_k_space(simulate: Any) -> None:
    scan = simulate((SIZE, SIZE), COILS)
    positions = radial(80)
    samples = np.moveaxis(measure(scan.maps * scan.image, positions), 1, 0).reshape(COILS, -1)
    trajectory = torch.from_numpy(positions.reshape(-1, 2).T).float()
    found = grid_centre(torch.from_numpy(samples).cfloat(), trajectory, (SIZE, SIZE), 16)
    first = SIZE // 2 - 8
    true = scan.kspace[:, first : first + 16, first : first + 16]
    assert np.linalg.norm(found.numpy() - true) <= 0.01 * np.linalg.norm(true)


def test_noise_maps_and_data_of_spokes_are_those_of_the_simulation(
    write: Write, spokes: np.ndarray, simulate: Any
) -> None:
    scan = simulate((SIZE, SIZE), COILS)
    path = write(acquisition(s, p) for s, p in zip(spokes, radial(), strict=True))
    with Ismrmrd.open(path) as kspace:
        found = prepare_non_cartesian(kspace, 0, noise_level=LEVEL)
    maps = found.sensitivities.maps.numpy()
    same = np.abs((maps.conj() * scan.maps).sum(0))[scan.inside]
    assert np.quantile(same, 0.05) > 0.99
    assert found.calibration_lines >= 12


def test_the_noise_of_spokes_is_found(write: Write, spokes: np.ndarray) -> None:
    path = write(acquisition(s, p) for s, p in zip(spokes, radial(), strict=True))
    with Ismrmrd.open(path) as kspace:
        found = prepare_non_cartesian(kspace, 0)
        samples = LEVEL * np.random.default_rng(1).normal(size=(COILS, 4000, 2)) @ [1, 1j]
        scanned = prepare_non_cartesian(replace(kspace, noise=samples.astype(np.complex64)), 0)
    assert found.noise is not None
    assert found.noise.source == "redundant samples"
    assert found.noise.agree
    assert found.whitening.noise_level == pytest.approx(LEVEL, rel=0.05)
    assert scanned.whitening.noise_level == pytest.approx(LEVEL, rel=0.02)


def test_noise_of_a_wrong_trajectory_disagrees_with_outer_k_space(
    write: Write, spokes: np.ndarray
) -> None:
    shifted = radial() + 0.4 / SIZE * radial()[:, -1:]  # delayed along each spoke
    path = write(acquisition(s, p) for s, p in zip(spokes, shifted, strict=True))
    with Ismrmrd.open(path) as kspace:
        found = prepare_non_cartesian(kspace, 0)
    assert found.noise is not None
    assert "gradient" in next(n.text for n in describe_noise(found.noise) if n.assumed)


def test_the_task_reconstructs_a_radial_scan_better_than_gridding(
    write: Write, spokes: np.ndarray, simulate: Any
) -> None:
    truth = np.abs(simulate((SIZE, SIZE), COILS).image)
    path = write(acquisition(s, p) for s, p in zip(spokes, radial(), strict=True))
    with MriRecon(MriOptions()).open(path) as scan:
        described = scan.describe()
        problem = scan.problem(0, _Prior(), torch.device("cpu"))
    assert described["operator"] == "mri.non_cartesian"
    assert "3840" in described["samples"]
    likelihood = problem.likelihood
    operator, y = likelihood.operator, likelihood.y  # type: ignore[attr-defined]
    solved = problem.to_image(operator.solve(0.02, 1.0, operator.adjoint(y)))[0].numpy()

    def error(image: np.ndarray) -> float:
        return float(np.linalg.norm(image - truth) / np.linalg.norm(truth))

    assert problem.baseline is not None
    assert error(solved) < 0.1
    assert error(solved) < error(np.asarray(problem.baseline)) < 0.4


class _Prior:
    """A prior that is never asked."""

    channels, sigma_range, value_range = 2, (0.01, 5.0), ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 1}, "no readouts of partition 0 of 2"),
        ({"positions": 0}, "have no positions"),
        ({"positions": 1}, "has 1 dimensions"),
        ({"third": -1.0}, "three dimensions"),
    ],
)
def test_trajectories_that_cannot_be_used_are_refused(
    write: Write, spokes: np.ndarray, change: dict[str, Any], message: str
) -> None:
    positions = radial()[0]
    if "positions" in change:
        positions = positions[:, : change["positions"]]
    if "third" in change:
        positions = np.column_stack([positions, np.full(len(positions), change["third"])])
    path = write([acquisition(spokes[0], positions, kspace_encode_step_2=change.get("step", 0))])
    with pytest.raises(InputError, match=message), Ismrmrd.open(path):
        pass


def test_a_third_dimension_of_weights_is_left_out(write: Write, spokes: np.ndarray) -> None:
    weighted = np.column_stack([radial()[0], np.abs(radial()[0, :, 0])])
    with Ismrmrd.open(write([acquisition(spokes[0], weighted)])) as scan:
        assert scan.trajectory is not None
        np.testing.assert_allclose(scan.trajectory(0), radial()[0].T, atol=1e-6)


def samples_of(scan: Any) -> tuple[np.ndarray, np.ndarray]:
    """Samples and positions, sorted by position."""
    assert scan.trajectory is not None
    order = np.lexsort(scan.trajectory(0))
    return scan.read(0)[:, order], scan.trajectory(0)[:, order]


@pytest.mark.parametrize("layout", ["row,column", "column,row", "list", "positions first"])
def test_hdf5_files_with_a_trajectory_are_recognised(
    layout: str, write: Write, spokes: np.ndarray, tmp_path: Path
) -> None:
    readouts = [acquisition(s, p) for s, p in zip(spokes, radial(), strict=True)]
    with Ismrmrd.open(write(readouts)) as scan:
        expected = samples_of(scan)
    kspace, positions = np.moveaxis(spokes, 1, 0).astype(np.complex64), radial() * SIZE
    if layout == "column,row":
        kspace = kspace.swapaxes(1, 2)
    elif layout == "list":
        kspace, positions = kspace.reshape(COILS, -1), positions.reshape(-1, 2)
    elif layout == "positions first":
        positions = np.moveaxis(positions, -1, 0)
    path = tmp_path / "arrays.h5"
    with h5py.File(path, "w") as file:
        file["kspace"], file["trajectory"] = kspace, positions
    with FastMri.open(path) as scan:
        assert scan.shape == (SIZE, SIZE)
        for one, other in zip(samples_of(scan), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_bart_files_take_their_trajectory_from_another_file(
    spokes: np.ndarray, tmp_path: Path
) -> None:
    # BART: (1, sample, spoke, coil) and (3, sample, spoke), first dimension fastest.
    kspace = spokes.transpose(2, 0, 1)[None].astype(np.complex64)
    positions = np.zeros((3, 2 * SIZE, SPOKES), np.complex64)
    positions[:2] = radial().transpose(2, 1, 0) * SIZE
    for name, array in (("data", kspace), ("traj", positions)):
        array.ravel(order="F").tofile(tmp_path / f"{name}.cfl")
        dims = " ".join(map(str, array.shape))
        (tmp_path / f"{name}.hdr").write_text(f"# Dimensions\n{dims}\n")
    options = MriOptions(trajectory=str(tmp_path / "traj.cfl"), noise_level=LEVEL)
    with MriRecon(options).open(tmp_path / "data.cfl") as scan:
        assert scan.kspace.shape == (SIZE, SIZE)
        assert scan.describe()["operator"] == "mri.non_cartesian"
        found, places = samples_of(scan.kspace)
    order = np.lexsort(radial().reshape(-1, 2).T.astype(np.float32))
    np.testing.assert_allclose(places, radial().reshape(-1, 2).T[:, order], atol=1e-6)
    assert found.shape == (COILS, spokes.shape[0] * spokes.shape[2])


def test_geometric_compression_of_samples_anywhere_is_refused(
    spokes: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "arrays.h5"
    with h5py.File(path, "w") as file:
        file["kspace"], file["trajectory"] = spokes.transpose(1, 0, 2), radial() * SIZE
    options = MriOptions(compression="geometric")
    with (
        pytest.raises(UsageError, match="whole columns"),
        MriRecon(options).open(path) as scan,
    ):
        scan.describe()


def test_samples_and_positions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "arrays.h5"
    with h5py.File(path, "w") as file:
        file["kspace"], file["trajectory"] = np.ones((2, 5, 9), np.complex64), np.ones((5, 8, 2))
    with pytest.raises(InputError, match="do not belong together"), FastMri.open(path):
        pass
    options = MriOptions(trajectory=str(tmp_path / "none.cfl"))
    with pytest.raises(InputError, match="no file"), MriRecon(options).open(path):
        pass


def test_a_sparse_centre_has_no_maps(write: Write, spokes: np.ndarray) -> None:
    path = write(acquisition(spokes[i], radial()[i]) for i in range(5))
    with Ismrmrd.open(path) as scan, pytest.raises(InputError, match="more spokes"):
        prepare_non_cartesian(scan, 0)


def test_more_calibration_than_there_is_is_refused(write: Write, spokes: np.ndarray) -> None:
    path = write(acquisition(s, p) for s, p in zip(spokes, radial(), strict=True))
    with Ismrmrd.open(path) as scan, pytest.raises(UsageError, match="40 calibration lines"):
        prepare_non_cartesian(scan, 0, calibration_lines=40)
