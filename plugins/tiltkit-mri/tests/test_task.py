"""The task mri-recon: from a file to the inverse problem of a slice, and back to its image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.kspace import KSpace
from tiltkit_mri.operators import CartesianSense, MaskedFourier
from tiltkit_mri.sense import MaskedSense
from tiltkit_mri.task import MriOptions, MriRecon, MriScan

from tiltkit.errors import InputError, UsageError
from tiltkit.posterior.outcome import Outcome
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.recon.solve import solve
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions

CPU = torch.device("cpu")
PRIOR = SmoothGaussian(0.4, 5.0, 5.0, channels=2)
LEVEL = 0.02

Write = Callable[..., Path]


def opened(path: Path, **options: Any) -> AbstractContextManager[MriScan]:
    return MriRecon(MriOptions(**options)).open(path)


@pytest.fixture
def undersampled(scan: Any, sampling: Any, write: Write) -> Path:
    """Every second column, 16 in the centre, noise known."""
    mask = sampling(56, 2, 12)
    data = (scan.noisy(LEVEL) * mask).astype(np.complex64)
    return write(kspace=data[None], mask=mask)


def psnr(image: Any, truth: Any) -> float:
    error = np.mean((np.asarray(image) - np.abs(truth)) ** 2)
    return float(10 * np.log10(np.abs(truth).max() ** 2 / error))


def sampled(problem: Any, n: int = 16, levels: int = 24) -> Outcome:
    sampler = Walmc(WalmcOptions(levels=levels, collect=2))
    *_, outcome = solve([problem], sampler, seed=(0, 0), n=n, devices=[CPU])
    assert isinstance(outcome, Outcome)
    return outcome


def test_the_problem_of_a_slice_fits_its_data(undersampled: Path, scan: Any) -> None:
    with opened(undersampled, noise_level=LEVEL) as opened_scan:
        problem = opened_scan.problem(0, PRIOR, CPU)
    assert isinstance(problem.likelihood.operator, CartesianSense)
    assert problem.shape == (2, 64, 56)
    maps = problem.likelihood.operator.maps.numpy()
    image = (maps.conj() * scan.maps * scan.image).sum(0) / problem.facts["scale"]
    truth = torch.from_numpy(np.stack([image.real, image.imag])[None]).float()
    assert float(problem.likelihood.chi2(truth)) == pytest.approx(1, abs=0.08)


def test_noise_is_estimated_in_file_units(undersampled: Path) -> None:
    with opened(undersampled) as scan:
        assert scan.prepare(0).whitening.noise_level == pytest.approx(LEVEL, rel=0.08)


def test_a_given_noise_level_is_used(undersampled: Path) -> None:
    with opened(undersampled, noise_level=0.05, scale=2.0) as scan:
        problem = scan.problem(0, PRIOR, CPU)
        assert "(given)" in scan.describe()["noise level"]
    assert problem.facts["data_noise_level"] == 0.05
    assert problem.likelihood.noise_var == pytest.approx((0.05 / 2) ** 2)


def test_images_have_the_prior_s_range_inside_and_the_file_s_unit_outside(
    undersampled: Path, scan: Any
) -> None:
    with opened(undersampled, noise_level=LEVEL) as opened_scan:
        problem = opened_scan.problem(0, PRIOR, CPU)
    scale = problem.facts["scale"]
    x = torch.zeros(1, *problem.shape)
    x[:, 0], x[:, 1] = 0.6, 0.8
    torch.testing.assert_close(problem.to_image(x), torch.full((1, 64, 56), scale))
    assert problem.phase is not None
    torch.testing.assert_close(problem.phase(x[0]), torch.full((64, 56), 0.9272952))
    assert scale == pytest.approx(float(np.abs(scan.image).max()), rel=0.1)


# Powers of two change no digit, so that even the random numbers act alike.
@pytest.mark.parametrize("factor", [2.0**-20, 2.0**14])
def test_the_unit_of_k_space_comes_back_in_the_posterior(
    factor: float, scan: Any, sampling: Any, write: Write
) -> None:
    mask = sampling(56, 2, 12)
    outcomes = []
    for unit in (1.0, factor):
        data = (unit * scan.noisy(LEVEL) * mask).astype(np.complex64)
        with opened(write(kspace=data[None], mask=mask)) as opened_scan:
            outcomes.append(sampled(opened_scan.problem(0, PRIOR, CPU), n=4, levels=6))
    one, other = outcomes
    for name in ("mean", "std", "baseline"):
        a, b = getattr(one, name), getattr(other, name) / factor
        assert np.abs(a - b).max() < 1e-4 * np.abs(one.mean).max(), name


@pytest.mark.parametrize("factor", [1e-7, 1e4])
def test_the_problem_in_prior_units_is_the_same_in_any_unit(
    factor: float, scan: Any, sampling: Any, write: Write
) -> None:
    mask = sampling(56, 2, 12)
    problems = []
    for unit in (1.0, factor):
        data = (unit * scan.noisy(LEVEL) * mask).astype(np.complex64)
        with opened(write(kspace=data[None], mask=mask)) as opened_scan:
            problems.append(opened_scan.problem(0, PRIOR, CPU))
    one, other = problems
    assert other.facts["scale"] == pytest.approx(factor * one.facts["scale"], rel=1e-3)
    assert other.likelihood.noise_var == pytest.approx(one.likelihood.noise_var, rel=1e-3)
    x = torch.randn(2, *one.shape)
    torch.testing.assert_close(
        other.likelihood.gradient(x), one.likelihood.gradient(x), rtol=1e-2, atol=1e-1
    )
    torch.testing.assert_close(other.to_image(x), factor * one.to_image(x), rtol=1e-3, atol=0)


def test_the_posterior_mean_beats_the_zero_filled_image(undersampled: Path, scan: Any) -> None:
    with opened(undersampled) as opened_scan:
        outcome = sampled(opened_scan.problem(0, PRIOR, CPU))
    assert psnr(outcome.mean, scan.image) > psnr(outcome.baseline, scan.image) + 3
    assert outcome.diagnostics["chi2"] == pytest.approx(
        outcome.diagnostics["chi2_expected"], rel=0.15
    )
    assert outcome.mean.shape == outcome.std.shape == (64, 56)
    assert outcome.phase is not None


def test_readout_oversampling_is_cut_away(simulate: Any, header: Any, write: Write) -> None:
    wide = simulate((96, 40))
    data = wide.noisy(0.01).astype(np.complex64)[None]
    path = write(kspace=data, ismrmrd_header=header((96, 40), (64, 32)))
    with opened(path) as scan:
        problem = scan.problem(0, PRIOR, CPU)
        layout = scan.layout
    assert problem.shape == (2, 64, 40)
    assert layout.shape == (1, 64, 32)
    truth = np.abs(wide.image)[16:80, 4:36]
    assert psnr(problem.baseline, truth) > 30
    with opened(path, crop=False) as scan:
        assert scan.layout.shape == (1, 64, 40)


@pytest.mark.parametrize(("shape", "n_coils"), [((63, 45), 3), ((48, 40), 1), ((41, 33), 1)])
def test_odd_sizes_and_single_coils_are_reconstructed(
    shape: tuple[int, int], n_coils: int, simulate: Any, sampling: Any, write: Write
) -> None:
    scan = simulate(shape, n_coils)
    mask = sampling(shape[1], 2, 16)
    data = (scan.noisy(LEVEL) * mask).astype(np.complex64)
    kspace = data if n_coils == 1 else data[None]
    with opened(write(kspace=kspace, mask=mask), noise_level=LEVEL) as opened_scan:
        assert opened_scan.layout.shape == (1, *shape)
        problem = opened_scan.problem(0, PRIOR, CPU)
    assert isinstance(problem.likelihood.operator, MaskedFourier) == (n_coils == 1)
    outcome = sampled(problem)
    assert outcome.mean.shape == shape
    assert psnr(outcome.mean, scan.image) > 22
    fit = outcome.diagnostics
    assert fit["chi2"] == pytest.approx(fit["chi2_expected"], rel=0.2)


def test_the_layout_has_positions_in_mm_and_what_the_file_said(
    scan: Any, header: Any, write: Write
) -> None:
    data = np.repeat(scan.noisy(LEVEL).astype(np.complex64)[None], 3, axis=0)
    xml = header((64, 56), (64, 56))
    with opened(write(kspace=data, ismrmrd_header=xml, attrs={"acquisition": "AXT2"})) as it:
        layout = it.layout
    z, y, x = layout.axes
    assert (z.name, y.name, x.name) == ("z", "y", "x")
    assert layout.shape == (3, 64, 56)
    assert (y.coordinates[32], y.coordinates[33], y.units) == (0.0, 2.0, "mm")
    assert layout.metadata == {"acquisition": "AXT2", "ismrmrd_header": xml}


def test_describe_has_the_estimated_values(undersampled: Path) -> None:
    with opened(undersampled) as scan:
        found = scan.describe()
    assert found["layout"] == "fastMRI"
    assert (found["slices"], found["coils"], found["k-space"]) == (1, 4, "64 x 56")
    assert found["image"] == "64 x 56"
    assert found["pixel"] == "unknown"
    assert found["operator"] == "mri.cartesian"
    assert all(isinstance(value, str | int) for value in found.values())


@pytest.mark.parametrize("lines", [0, 4])
def test_too_few_calibration_lines_are_an_error(
    lines: int, scan: Any, sampling: Any, write: Write
) -> None:
    mask = sampling(56, 28, lines) if lines else np.arange(56) % 4 == 1
    path = write(kspace=(scan.noisy(LEVEL) * mask).astype(np.complex64)[None], mask=mask)
    with pytest.raises(InputError, match="calibration lines around the centre") as caught:
        opened(path).__enter__()
    assert caught.value.hint


def test_slices_without_a_centre_are_not_all_read_again(
    three: Callable[..., Path],
) -> None:
    def no_centres(data: Any) -> None:
        data[..., 28] = 0

    read = []
    with FastMri.open(three(no_centres)) as kspace:

        def count(index: int) -> Any:
            read.append(index)
            return kspace.read(index)

        scan = MriScan(replace(kspace, read=count), MriOptions())
        with pytest.raises(InputError, match=r"Slice 0 of .* has no calibration lines"):
            _ = scan.first
    assert read == [0]


@pytest.mark.parametrize("lines", [4, 18])
def test_calibration_lines_that_are_not_there_cannot_be_used(
    lines: int, undersampled: Path
) -> None:
    with pytest.raises(UsageError, match=f"{lines} calibration lines were asked for") as caught:
        opened(undersampled, calibration_lines=lines).__enter__()
    assert "between 6 and" in caught.value.hint


def test_a_reader_of_another_plugin_serves_the_task(
    undersampled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(FastMri):
        @staticmethod
        @contextmanager
        def open(path: Path) -> Iterator[KSpace]:
            with FastMri.open(path) as kspace:
                yield replace(kspace, layout="other")

    def find(path: Path, gives: str) -> type[FastMri]:
        assert gives == "mri.kspace"
        return Other

    monkeypatch.setattr("tiltkit_mri.task.find_reader", find)
    with opened(undersampled) as scan:
        assert scan.describe()["layout"] == "other"


def test_a_file_without_a_reader_has_an_error_with_advice(write: Write) -> None:
    with pytest.raises(InputError, match="holds no k-space: its datasets are images"):
        opened(write(images=np.zeros(3))).__enter__()


def test_a_dead_coil_is_no_hindrance(scan: Any, sampling: Any, write: Write) -> None:
    mask = sampling(56, 2, 12)
    data = (scan.noisy(LEVEL) * mask).astype(np.complex64)
    data[2] = 0
    with opened(write(kspace=data[None], mask=mask)) as opened_scan:
        problem = opened_scan.problem(0, PRIOR, CPU)
    assert torch.isfinite(problem.baseline).all()


@pytest.fixture
def three(simulate: Any, sampling: Any, write: Write) -> Callable[..., Path]:
    """Writes three slices with masks of their own, after ``change`` has spoilt some."""

    def make(change: Callable[[Any], None], one_mask: bool = False) -> Path:
        masks = [np.roll(sampling(56, 2, 16), 0 if one_mask else shift) for shift in range(3)]
        data = np.stack([simulate().noisy(LEVEL, seed) * m for seed, m in enumerate(masks)])
        change(data)
        return write(kspace=data.astype(np.complex64))

    return make


def nearly_empty(data: Any) -> None:
    data[0] = 0
    data[0, 0, 5, 28] = 1e-9


def no_centre(data: Any) -> None:
    data[0, :, :, 28] = 0


def no_noise(data: Any) -> None:
    """One coil has values outside of the centre that are too small to be noise."""
    data[0, 0, :, :20] = data[0, 0, :, 36:] = 1e-30


@pytest.mark.parametrize("spoil", [nearly_empty, no_centre, no_noise])
def test_slices_that_can_be_used_do_not_suffer_from_one_that_cannot(
    spoil: Callable[[Any], None], three: Callable[..., Path]
) -> None:
    with opened(three(spoil)) as scan:
        assert scan.problem(1, PRIOR, CPU).facts["data_noise_level"] == pytest.approx(
            LEVEL, rel=0.1
        )
        assert "slice 1" in scan.describe()["noise level"]
        with pytest.raises(InputError, match=r"[Ss]lice 0") as caught:
            scan.problem(0, PRIOR, CPU)
    assert "leave slice 0 out with --slices" in caught.value.hint


def test_slices_with_masks_of_their_own_are_reconstructed_as_with_one_mask(
    three: Callable[..., Path], scan: Any
) -> None:
    quality = []
    for one_mask in (True, False):
        with opened(three(lambda data: None, one_mask)) as it:
            problem = it.problem(1, PRIOR, CPU)
            assert ("columns_differ" in {note.code for note in it.notes}) == (not one_mask)
        assert problem.facts["acceleration"] == pytest.approx(56 / 36)
        quality.append(psnr(sampled(problem).mean, scan.image))
    assert quality[1] == pytest.approx(quality[0], abs=1)


def test_what_is_unusual_about_a_file_is_noted(three: Callable[..., Path]) -> None:
    with opened(three(nearly_empty)) as scan:
        assert {"columns_differ", "slices_left_out"} <= {note.code for note in scan.notes}
        assert set(scan.layout.unusable) == {0}


def test_a_note_of_the_file_s_own_is_kept(three: Callable[..., Path]) -> None:
    path = three(nearly_empty)
    with h5py.File(path, "a") as file:
        file.attrs["note"] = "patient moved"
    with opened(path) as scan:
        assert scan.layout.metadata["note"] == "patient moved"


@pytest.mark.parametrize("rows", [4, 5])
def test_an_image_with_too_few_rows_for_the_maps_is_an_error(
    rows: int, scan: Any, header: Any, write: Write
) -> None:
    data = scan.noisy(LEVEL).astype(np.complex64)[None]
    path = write(kspace=data, ismrmrd_header=header((64, 56), (rows, 56)))
    with pytest.raises(InputError, match=f"has {rows} rows; coil maps need at least 6"):
        opened(path).__enter__()


def test_a_scan_without_noise_is_no_hindrance(scan: Any, write: Write) -> None:
    with opened(write(kspace=scan.kspace.astype(np.complex64)[None])) as opened_scan:
        problem = opened_scan.problem(0, PRIOR, CPU)
    assert problem.likelihood.noise_var > 0


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValidationError, match="nois"):
        MriOptions(nois=1)  # type: ignore[call-arg]


def test_the_network_prior_reconstructs_a_small_scan(undersampled: Path, scan: Any) -> None:
    from tiltkit.plugins import load_plugins

    prior = load_plugins().create("prior", MriRecon.default_prior, {"precision": "float32"})
    with opened(undersampled) as opened_scan:
        outcome = sampled(opened_scan.problem(0, prior, CPU), n=2, levels=10)
    assert psnr(outcome.mean, scan.image) > psnr(outcome.baseline, scan.image)


def test_a_real_scan_gives_a_problem_with_noise_that_fits(shared: Path) -> None:
    with opened(shared / "brain_8ch_4x.h5") as scan:
        problem = scan.problem(0, PRIOR, CPU)
        assert scan.kspace.calibration(0) == range(77, 102)
    assert problem.facts["coils"] == 8
    assert problem.shape == (2, 230, 180)


def fits(problem: Any, scan: Any) -> float:
    """Chi-squared of the true image, seen through the problem's own maps."""
    maps = problem.likelihood.operator.maps.numpy()
    image = (maps.conj() * scan.maps * scan.image).sum(0) / problem.facts["scale"]
    truth = torch.from_numpy(np.stack([image.real, image.imag])[None]).float()
    return float(problem.likelihood.chi2(truth))


def test_single_points_may_be_left_out(scan: Any, write: Write) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((64, 56)) < 0.5
    mask[20:44, 16:40] = True
    path = write(kspace=(scan.noisy(LEVEL) * mask)[None])
    with opened(path, noise_level=LEVEL) as opened_scan:
        problem = opened_scan.problem(0, PRIOR, CPU)
        about = opened_scan.describe()
    assert isinstance(problem.likelihood.operator, MaskedSense)
    assert fits(problem, scan) == pytest.approx(1, abs=0.1)
    assert problem.facts["calibration_lines"] >= 24
    assert about["operator"] == "mri.sense"
    with opened(path) as opened_scan:
        assert opened_scan.prepare(0).whitening.noise_level == pytest.approx(LEVEL, rel=0.15)
    assert about["measured points"].startswith(f"{mask.sum()}, acceleration")


def test_a_partial_echo_is_no_data_of_zero(scan: Any, sampling: Any, write: Write) -> None:
    mask = sampling(56, 2, 12) & (np.arange(64) >= 18)[:, None]
    path = write(kspace=(scan.noisy(LEVEL) * mask)[None])
    with opened(path, noise_level=LEVEL) as opened_scan:
        problem = opened_scan.problem(0, PRIOR, CPU)
        assert "rows_left_out" in {note.code for note in opened_scan.notes}
    assert fits(problem, scan) == pytest.approx(1, abs=0.1)
    with opened(path) as opened_scan:
        assert opened_scan.prepare(0).whitening.noise_level == pytest.approx(LEVEL, rel=0.15)


def test_a_partial_echo_with_readout_oversampling_gives_the_image_of_the_header(
    simulate: Any, sampling: Any, header: Any, write: Write
) -> None:
    scan = simulate((64, 56))
    wide = np.zeros((4, 128, 56), dtype=complex)
    wide[:, 32:96] = scan.maps * scan.image
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 128, 56, 2)) @ np.array([1, 1j])
    mask = sampling(56, 2, 12) & (np.arange(128) >= 40)[:, None]
    shifted = np.fft.ifftshift(wide, axes=(1, 2))
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(1, 2)) + LEVEL * noise
    path = write(kspace=(kspace * mask)[None], ismrmrd_header=header((128, 56), (64, 56)))
    with opened(path, noise_level=LEVEL) as opened_scan:
        problem = opened_scan.problem(0, PRIOR, CPU)
        assert opened_scan.layout.shape == (1, 64, 56)
    assert problem.shape == (2, 128, 56)
    solved = problem.likelihood.operator.solve(
        1e-3, 1.0, problem.likelihood.operator.adjoint(problem.likelihood.y)
    )
    assert psnr(problem.to_image(solved)[0], scan.image) > 22


@pytest.mark.parametrize(
    "options", [{}, {"coils": 3}, {"coils": 3, "compression": "geometric"}], ids=str
)
def test_the_image_is_the_root_of_the_sum_of_squares_of_the_coils_of_the_file(
    options: dict[str, Any], scan: Any, write: Write
) -> None:
    rng = np.random.default_rng(0)
    mix = np.diag([0.5, 1.0, 2.0, 1.0]) @ (np.eye(4) + 0.3 * rng.normal(size=(4, 4)))
    data = np.einsum("cd,dyx->cyx", mix, scan.noisy(LEVEL))
    with opened(write(kspace=data[None]), **options) as opened_scan:
        problem = opened_scan.problem(0, PRIOR, CPU)
        whitening = opened_scan.prepare(0).whitening.matrix
    likelihood = problem.likelihood
    solved = likelihood.operator.solve(1e-6, 1.0, likelihood.operator.adjoint(likelihood.y))
    image = problem.to_image(solved)[0].numpy()
    expected = np.sqrt((np.abs(np.einsum("cd,dyx->cyx", mix, scan.maps * scan.image)) ** 2).sum(0))
    error = (image - expected)[scan.inside]
    assert abs(whitening - torch.eye(4)).max() > 0.3
    assert np.sqrt((error**2).mean()) < 0.08 * expected[scan.inside].mean()
