"""ISMRMRD raw data, written by the format's own library, in any order and of any length."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest
from tiltkit_mri.ismrmrd import Ismrmrd
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import InputError

ROWS, COLUMNS, COILS = 24, 20, 3
Write = Callable[..., Path]


def kspace(*first: int, seed: int = 0) -> np.ndarray:
    shape = (*first, COILS, ROWS, COLUMNS)
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(*shape, 2)) @ np.array([1, 1j])).astype(np.complex64)


def line(samples: np.ndarray, flags: tuple[int, ...] = (), **head: Any) -> ismrmrd.Acquisition:
    """One acquisition (coil, sample); counters by name, other fields of the header too."""
    made = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples))
    made.center_sample = samples.shape[1] // 2
    made.read_dir[:], made.phase_dir[:], made.slice_dir[:] = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    for flag in flags:
        made.set_flag(flag)
    for name, value in head.items():
        setattr(made if hasattr(made, name) else made.idx, name, value)
    return made


def lines(data: np.ndarray, columns: Any = None, **head: Any) -> Iterator[ismrmrd.Acquisition]:
    for column in range(data.shape[-1]) if columns is None else columns:
        yield line(data[..., column], kspace_encode_step_1=column, **head)


@pytest.fixture
def write(tmp_path: Path, header: Callable[..., str]) -> Write:
    """Writes acquisitions in a random order with the ismrmrd library."""

    def make(acquisitions: Any, xml: str | None = None) -> Path:
        path = tmp_path / "raw.h5"
        path.unlink(missing_ok=True)
        found = list(acquisitions)
        np.random.default_rng(1).shuffle(found)
        with ismrmrd.Dataset(str(path)) as file:
            file.write_xml_header(xml or header((ROWS, COLUMNS), (ROWS // 2, COLUMNS)))
            for one in found:
                file.append_acquisition(one)
        return path

    return make


def test_lines_in_any_order_make_the_k_space_that_was_written(write: Write) -> None:
    data = kspace()
    path = write(lines(data))
    assert Ismrmrd.matches(path)
    with Ismrmrd.open(path) as scan:
        assert (scan.n_slices, scan.n_coils, scan.shape) == (1, COILS, (ROWS, COLUMNS))
        assert scan.recon == (ROWS // 2, COLUMNS)
        assert scan.columns.all()
        assert scan.points is scan.reference is scan.noise is None
        np.testing.assert_array_equal(scan.read(0), data)


def test_undersampled_columns_are_placed_by_the_centre_of_the_header(
    write: Write, header: Any
) -> None:
    data = kspace()
    xml = header((ROWS, COLUMNS), (ROWS, COLUMNS), centre=6, last=15)
    path = write((line(data[..., c], kspace_encode_step_1=c) for c in (0, 6, 9)), xml)
    with Ismrmrd.open(path) as scan:
        assert scan.columns[0].nonzero()[0].tolist() == [4, 10, 13]
        np.testing.assert_array_equal(scan.read(0)[..., 10], data[..., 6])


def test_averages_are_averaged(write: Write) -> None:
    data = kspace(4)
    path = write(one for a in range(4) for one in lines(data[a], average=a))
    with Ismrmrd.open(path) as scan:
        np.testing.assert_allclose(scan.read(0), data.mean(0), atol=1e-6)
        assert "averaged" in {note.code for note in scan.notes}


@pytest.mark.parametrize("averages", [2, 3, 4])
def test_differences_of_averages_have_the_noise_of_their_mean(averages: int, write: Write) -> None:
    data = kspace(averages) + 100 * kspace(seed=1)
    path = write(one for a in range(averages) for one in lines(data[a], average=a))
    with Ismrmrd.open(path) as scan:
        assert scan.differences is not None
        found = scan.differences(0)
    assert np.square(np.abs(found)).mean() == pytest.approx(2 / averages, rel=0.1)


def test_scans_without_averages_have_no_differences(write: Write) -> None:
    with Ismrmrd.open(write(lines(kspace()))) as scan:
        assert scan.differences is None


def test_lines_with_more_averages_than_others_do_not_get_less_noise(write: Write) -> None:
    data = kspace()
    path = write([*lines(data), *lines(data, columns=[9, 10], average=1)])
    with Ismrmrd.open(path) as scan:
        np.testing.assert_array_equal(scan.read(0), data)
        assert "averages_left_out" in {note.code for note in scan.notes}


def test_counters_become_slices_with_names_slices_fastest(write: Write) -> None:
    data = kspace(2, 3)
    path = write(
        one for c in range(2) for s in range(3) for one in lines(data[c, s], contrast=c, slice=s)
    )
    with Ismrmrd.open(path) as scan:
        assert scan.slice_names[4] == "slice 1, contrast 1"
        for index in range(6):
            np.testing.assert_array_equal(scan.read(index), data[index // 3, index % 3])


def test_segments_are_joined(write: Write) -> None:
    data = kspace()
    path = write(line(data[..., c], kspace_encode_step_1=c, segment=c % 4) for c in range(COLUMNS))
    with Ismrmrd.open(path) as scan:
        assert scan.n_slices == 1
        np.testing.assert_array_equal(scan.read(0), data)


def test_reversed_readouts_are_turned(write: Write) -> None:
    data = kspace()
    path = write(
        line(data[:, ::-1, c] if c % 2 else data[..., c],
             (ismrmrd.ACQ_IS_REVERSE,) if c % 2 else (), kspace_encode_step_1=c)
        for c in range(COLUMNS)
    )  # fmt: skip
    with Ismrmrd.open(path) as scan:
        np.testing.assert_array_equal(scan.read(0), data)
        note = next(note for note in scan.notes if note.code == "readouts_reversed")
        assert note.assumed
        assert "10 of 20 lines" in note.text


@pytest.mark.parametrize("reverse", [False, True])
def test_discarded_samples_are_left_out(write: Write, reverse: bool) -> None:
    data = kspace()
    long = np.pad(data, ((0, 0), (3, 5), (0, 0)), constant_values=99)
    head = {"discard_pre": 3, "discard_post": 5, "center_sample": 3 + ROWS // 2}
    flags: tuple[int, ...] = ()
    if reverse:
        long, flags = long[:, ::-1], (ismrmrd.ACQ_IS_REVERSE,)
        head = {"discard_pre": 5, "discard_post": 3, "center_sample": 5 + ROWS // 2 - 1}
    path = write(line(long[..., c], flags, kspace_encode_step_1=c, **head) for c in range(COLUMNS))
    with Ismrmrd.open(path) as scan:
        np.testing.assert_array_equal(scan.read(0), data)
        assert scan.points is None


def test_a_partial_echo_has_points_and_zeros_before_them(write: Write) -> None:
    data = kspace()
    path = write(
        line(data[:, 7:, c], kspace_encode_step_1=c, center_sample=ROWS // 2 - 7)
        for c in range(COLUMNS)
    )
    with Ismrmrd.open(path) as scan:
        assert scan.points is not None
        np.testing.assert_array_equal(scan.points(0).any(1), np.arange(ROWS) >= 7)
        np.testing.assert_array_equal(scan.read(0), data * (np.arange(ROWS) >= 7)[:, None])


def test_partitions_that_are_all_measured_become_slices(write: Write, header: Any) -> None:
    volume = kspace(4)
    shifted = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(volume, 0), axis=0, norm="ortho"), 0)
    xml = header((ROWS, COLUMNS), (ROWS, COLUMNS)).replace("<z>1</z>", "<z>4</z>")
    path = write(
        (one for z in range(4)
         for one in lines(shifted[z].astype(np.complex64), kspace_encode_step_2=z)), xml
    )  # fmt: skip
    with Ismrmrd.open(path) as scan:
        assert scan.n_slices == 4
        for z in range(4):
            np.testing.assert_allclose(scan.read(z), volume[z], atol=1e-5)
        gaps = np.diff([place.position[2] for place in scan.geometry])
        np.testing.assert_allclose(gaps, 5 / 4)


def test_a_noise_scan_is_scaled_to_bandwidth_and_averages_of_the_image(
    write: Write, header: Any
) -> None:
    data, noise = kspace(2), kspace(seed=3)[..., 0]
    xml = header((ROWS, COLUMNS), (ROWS, COLUMNS)).replace(
        "<encoding>",
        "<acquisitionSystemInformation><relativeReceiverNoiseBandwidth>0.8"
        "</relativeReceiverNoiseBandwidth></acquisitionSystemInformation><encoding>",
        1,
    )
    scans = [one for a in range(2) for one in lines(data[a], average=a, sample_time_us=5.0)]
    path = write(
        [line(noise, (ismrmrd.ACQ_IS_NOISE_MEASUREMENT,), sample_time_us=2.0), *scans], xml
    )
    with Ismrmrd.open(path) as scan:
        assert scan.noise is not None
        # A longer sampling time has less noise, two averages half of its power.
        np.testing.assert_allclose(scan.noise, noise * np.sqrt(2 / 5 / 0.8 / 2), rtol=1e-5)


def test_calibration_lines_are_kept_apart_from_the_image(write: Write) -> None:
    image, calibration = kspace(), kspace(seed=2)
    both = (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING,)
    only = (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,)
    found = [
        *lines(image, [*range(0, 6, 2), *range(14, 20, 2)]),
        *lines(image, range(6, 14, 2), flags=both),
        *lines(calibration, range(7, 14, 2), flags=only),
    ]
    with Ismrmrd.open(write(found)) as scan:
        np.testing.assert_array_equal(scan.columns[0].nonzero()[0], np.arange(0, 20, 2))
        assert scan.calibration(0) == range(6, 14)
        assert scan.reference is not None
        np.testing.assert_array_equal(scan.reference(0)[..., 7], calibration[..., 7])
        np.testing.assert_array_equal(scan.reference(0)[..., 8], image[..., 8])
        np.testing.assert_array_equal(scan.reference(0)[..., 4], 0 * image[..., 4])


@pytest.mark.parametrize(
    "flag", [ismrmrd.ACQ_IS_NAVIGATION_DATA, ismrmrd.ACQ_IS_PHASECORR_DATA,
             ismrmrd.ACQ_IS_DUMMYSCAN_DATA]
)  # fmt: skip
def test_acquisitions_that_are_no_image_are_left_out_with_a_note(write: Write, flag: int) -> None:
    data = kspace()
    with Ismrmrd.open(write([*lines(data), line(9 * data[..., 0], (flag,))])) as scan:
        np.testing.assert_array_equal(scan.read(0), data)
        assert "acquisitions_left_out" in {note.code for note in scan.notes}


def test_geometry_has_the_pixel_of_the_image(write: Write) -> None:
    path = write(
        one for s in range(2) for one in lines(kspace(), slice=s, position=(1.0, 2.0, 7.0 * s))
    )
    with Ismrmrd.open(path) as scan:
        assert [place.position for place in scan.geometry] == [(1, 2, 0), (1, 2, 7)]
        assert scan.geometry[0].read_dir == (1, 0, 0)
        assert scan.geometry[0].voxel_mm == (2, 2, 5)


def test_the_image_is_that_of_the_same_k_space_in_the_other_layout(
    write: Write, header: Any, simulate: Any, tmp_path: Path
) -> None:
    import torch

    from tiltkit.priors.closed_form import SmoothGaussian

    data = simulate((64, 40), COILS).noisy(0.02).astype(np.complex64)
    xml = header((64, 40), (32, 40))
    other = tmp_path / "fastmri.h5"
    with h5py.File(other, "w") as file:
        file["kspace"], file["ismrmrd_header"] = data[None], xml
    images = []
    for path in (write(lines(data), xml), other):
        with MriRecon(MriOptions()).open(path) as scan:
            problem = scan.problem(0, SmoothGaussian(0.4, 5, 5, channels=2), torch.device("cpu"))
            images.append(problem.baseline)
            assert scan.layout.axes[1].units == "mm"
    torch.testing.assert_close(*images)


BAD: dict[str, tuple[Callable[[], list[ismrmrd.Acquisition]], str]] = {
    "no image": (
        lambda: [line(kspace()[..., 0], (ismrmrd.ACQ_IS_NOISE_MEASUREMENT,))],
        "1 acquisitions, none of them of an image: 1 measure noise",
    ),
    "step outside": (
        lambda: [*lines(kspace()), line(kspace()[..., 0], kspace_encode_step_1=COLUMNS)],
        f"phase encoding step {COLUMNS} and partition step 0, outside of the encoded matrix",
    ),
    "other coils": (
        lambda: [*lines(kspace()), line(kspace()[:2, :, 0], average=1)],
        "have 2, 3 coils; all must have",
    ),
    "centre outside": (
        lambda: [*lines(kspace(), center_sample=ROWS + 3)],
        "no sample at the centre is left",
    ),
    "all discarded": (
        lambda: [*lines(kspace(), discard_pre=20, discard_post=10)],
        "no sample at the centre is left",
    ),
    "NaN": (lambda: [*lines(kspace() * np.nan)], "NaN or infinite values"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_scan_that_contradicts_itself_is_refused_in_two_lines(case: str, write: Write) -> None:
    acquisitions, message = BAD[case]
    path = write(acquisitions())
    with pytest.raises(InputError, match=message) as caught, Ismrmrd.open(path):
        pass
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) <= 2


def test_samples_that_do_not_fit_their_header_are_refused(write: Write) -> None:
    path = write(lines(kspace()))
    with h5py.File(path, "a") as file:
        table = file["dataset/data"][:]
        table["head"]["number_of_samples"][3] -= 1
        file["dataset/data"][:] = table
    with pytest.raises(InputError, match="but its header has 3 coils with 23"), Ismrmrd.open(path):
        pass


def test_a_trajectory_without_positions_is_refused(write: Write, header: Any) -> None:
    xml = header((ROWS, COLUMNS), (ROWS, COLUMNS)).replace(
        "</encoding>", "<trajectory>spiral</trajectory></encoding>"
    )
    path = write(lines(kspace()), xml)
    with (
        pytest.raises(InputError, match="spiral, but acquisitions have no"),
        Ismrmrd.open(path),
    ):
        pass


def test_lines_longer_than_the_header_s_matrix_are_oversampled_with_a_note(
    write: Write, header: Any
) -> None:
    xml = header((ROWS // 2, COLUMNS), (ROWS // 2, COLUMNS))
    with Ismrmrd.open(write(lines(kspace()), xml)) as scan:
        assert scan.shape == (ROWS, COLUMNS)
        assert scan.recon == (ROWS // 2, COLUMNS)
        assert "matrix_adapted" in {note.code for note in scan.notes}


@pytest.mark.slow
def test_ten_thousand_lines_are_read_in_a_second(tmp_path: Path, header: Any) -> None:
    path, n = tmp_path / "large.h5", 10_000
    with ismrmrd.Dataset(str(path)) as file:
        file.write_xml_header(header((128, 100), (64, 100)))
        one = line(np.ones((4, 128), np.complex64))
        file.append_acquisition(one)
        table = np.repeat(file._dataset["data"][:], n)
    table["head"]["idx"]["kspace_encode_step_1"] = np.arange(n) % 100
    table["head"]["idx"]["slice"] = np.arange(n) // 100
    with h5py.File(path, "a") as file:
        del file["dataset/data"]
        file["dataset/data"] = table
    before = time.perf_counter()
    with Ismrmrd.open(path) as scan:
        for index in range(scan.n_slices):
            scan.read(index)
    assert time.perf_counter() - before < 5  # about 1 s on a machine with nothing else to do


DEPTH = 12


def volume_lines(hybrid: np.ndarray, mask: np.ndarray, **head: Any) -> Iterator[Any]:
    """Lines of a volume (position, coil, ky, kz), transformed along the readout only."""
    shifted = np.fft.ifftshift(hybrid, axes=0)
    data = np.fft.fftshift(np.fft.fft(shifted, axis=0, norm="ortho"), axes=0).astype(np.complex64)
    for y, z in np.argwhere(mask):
        steps = {"kspace_encode_step_1": int(y), "kspace_encode_step_2": int(z)}
        yield line(data[:, :, y, z].T, **steps, **head)


def points(seed: int = 0) -> np.ndarray:
    mask = np.random.default_rng(seed).random((COLUMNS, DEPTH)) < 0.4
    mask[6:14, 2:10] = True
    return mask


def hybrid(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(ROWS, COILS, COLUMNS, DEPTH, 2)) @ np.array([1, 1j])


def deep(header: Any) -> str:
    xml = header((ROWS, COLUMNS), (ROWS // 2, COLUMNS))
    return str(xml.replace("<z>1</z>", f"<z>{DEPTH}</z>").replace("<z>5</z>", "<z>60</z>"))


def test_volumes_undersampled_twice_become_slices_along_the_readout(
    write: Write, header: Any
) -> None:
    data, mask = hybrid(), points()
    with Ismrmrd.open(write(volume_lines(data, mask), deep(header))) as scan:
        assert (scan.n_slices, scan.shape) == (ROWS // 2, (COLUMNS, DEPTH))
        for index in (0, 5, ROWS // 2 - 1):
            np.testing.assert_array_equal(scan.mask(index), mask)
            expected = data[index + ROWS // 4] * mask
            np.testing.assert_allclose(scan.read(index), expected, atol=1e-5)
        assert scan.pixel_mm == (2, 5)
        assert scan.axes == ("readout", "first phase encoding", "second phase encoding")
        one, other = scan.geometry[:2]
        assert one.voxel_mm == (2, 5, 2)
        assert (one.read_dir, one.phase_dir, one.slice_dir) == ((0, 1, 0), (0, 0, 1), (1, 0, 0))
        np.testing.assert_allclose(np.subtract(other.position, one.position), (2, 0, 0))
        assert scan.geometry[ROWS // 4].position == (0, 0, 0)


def test_a_volume_is_read_in_parts_of_any_size(
    write: Write, header: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiltkit_mri import slicing

    data, mask = hybrid(), points()
    monkeypatch.setattr(slicing, "_READ_BYTES", 8 * COILS * ROWS * 7)
    monkeypatch.setattr(slicing, "_KEPT_BYTES", 8 * COILS * COLUMNS * DEPTH * 5)
    averages = [*volume_lines(data, mask), *volume_lines(3 * data, mask, average=1)]
    with Ismrmrd.open(write(averages, deep(header))) as scan:
        for index in range(scan.n_slices):
            expected = 2 * data[index + ROWS // 4] * mask
            np.testing.assert_allclose(scan.read(index), expected, atol=1e-5)


def test_separate_calibration_of_a_volume_is_a_rectangle_of_points(
    write: Write, header: Any
) -> None:
    data, sparse = hybrid(), np.random.default_rng(0).random((COLUMNS, DEPTH)) < 0.3
    centre = np.zeros_like(sparse)
    centre[6:14, 3:10] = True
    only = (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,)
    found = [*volume_lines(data, sparse), *volume_lines(2 * data, centre, flags=only)]
    with Ismrmrd.open(write(found, deep(header))) as scan:
        assert scan.centre_block(3) == (range(6, 14), range(3, 10))
        assert scan.reference is not None
        expected = 2 * data[3 + ROWS // 4] * centre
        np.testing.assert_allclose(scan.reference(3), expected, atol=1e-5)
