"""Point spread functions from files, from beads and from theory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import center_of_mass, gaussian_filter
from tiltkit_deblur.beads import bead_average, find_beads
from tiltkit_deblur.kernel import find_kernel
from tiltkit_deblur.models import diffraction, gaussian, gaussian_widths
from tiltkit_deblur.options import DeblurOptions
from tiltkit_deblur.psf import crop_depth, cropped, half_support, kernel_of

from tiltkit.errors import InputError, UsageError


def measured(stack: np.ndarray, name: str = "psf.tif", **options: Any) -> np.ndarray:
    """The kernel alone."""
    return kernel_of(np.asarray(stack, np.float32), name, **options)[0]


def codes(stack: np.ndarray, **options: Any) -> list[str]:
    """Codes of the notes on a PSF."""
    return [note.code for note in kernel_of(np.asarray(stack, np.float32), **options)[1]]


def spot(shape: tuple[int, ...], at: tuple[int, ...], sigma: float = 1.5) -> np.ndarray:
    stack = np.zeros(shape, np.float32)
    stack[at] = 1000
    return gaussian_filter(stack, sigma)


def widths(kernel: np.ndarray) -> list[float]:
    """Standard deviation along every axis."""
    found = []
    for axis in range(kernel.ndim):
        profile = kernel.sum(axis=tuple(i for i in range(kernel.ndim) if i != axis))
        place = np.arange(len(profile)) - len(profile) // 2
        found.append(math.sqrt((profile * place**2).sum() / profile.sum()))
    return found


def off_centre(kernel: np.ndarray) -> list[float]:
    """Centre of mass along every axis, from the middle."""
    return [c - n // 2 for c, n in zip(center_of_mass(kernel), kernel.shape, strict=True)]


def test_a_kernel_is_centred_and_normalised_and_free_of_background() -> None:
    kernel = measured(spot((15, 40, 30), (5, 12, 21)) + 100, centre="peak")
    assert kernel.sum() == pytest.approx(1)
    assert all(n % 2 for n in kernel.shape)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == tuple(n // 2 for n in kernel.shape)
    assert widths(kernel) == pytest.approx([1.5] * 3, rel=0.03)


def test_one_plane_gives_a_2d_kernel() -> None:
    assert measured(spot((1, 20, 20), (0, 9, 9))).ndim == 2
    assert measured(spot((1, 1, 20), (0, 0, 9))).ndim == 2


@pytest.mark.parametrize(
    ("stack", "text"),
    [
        (np.full((1, 9, 9), 7.0), "no light"),
        (np.full((1, 9, 9), np.nan), "NaN"),
        (-spot((1, 17, 17), (0, 8, 8), 2.5), "no light"),
        (np.random.default_rng(0).standard_normal((1, 33, 33)), "no light"),
        (spot((1, 7, 7), (0, 3, 3), 2.0), "cut off"),
        (spot((1, 9, 9), (0, 4, 4), 2.0), "cut off"),
    ],
    ids=["constant", "NaN", "dark on bright", "noise", "7 pixels", "9 pixels"],
)
def test_what_is_no_psf_is_refused(stack: np.ndarray, text: str) -> None:
    with pytest.raises(InputError, match=text):
        measured(stack.astype(np.float32), "psf.tif")


def test_half_of_the_light_lies_within_the_half_support() -> None:
    kernel = measured(spot((1, 41, 41), (0, 20, 20), 3.0))
    half = half_support(kernel, 0.5)[0]
    profile = kernel.sum(0)
    middle = len(profile) // 2
    assert profile[middle - half : middle + half + 1].sum() >= 0.5
    assert profile[middle - half + 1 : middle + half].sum() < 0.5


@pytest.mark.parametrize("n", [33, 65])
def test_noise_does_not_make_a_psf_wider(n: int) -> None:
    psf = spot((1, n, n), (0, n // 2, n // 2), 2.0)
    noise = np.random.default_rng(0).normal(0, 0.01 * psf.max(), psf.shape)
    assert widths(measured((psf + noise + 100).astype(np.float32))) == pytest.approx(
        [2.0] * 2, rel=0.1
    )


def widefield() -> np.ndarray:
    """As much light in every plane, on ever more pixels."""
    z, y, x = np.ogrid[-20:21, -32:33, -32:33]
    variance = 1.5 + z**2
    return np.exp(-(y**2 + x**2) / (2 * variance)) / variance


@pytest.mark.parametrize("counts", [200, 1000, 5000])
def test_light_out_of_focus_is_kept(counts: float) -> None:
    psf = widefield()
    rng = np.random.default_rng(0)
    stack = rng.poisson(counts * psf / psf.max() + 10) + rng.normal(0, 2, psf.shape)
    kernel = measured(stack.astype(np.float32))
    assert widths(kernel)[0] == pytest.approx(widths(psf)[0], rel=0.09)


def test_light_at_the_rim_of_a_narrow_stack_is_not_background() -> None:
    psf = widefield()[:, 22:43, 22:43]
    rng = np.random.default_rng(0)
    stack = rng.poisson(5000 * psf / psf.max() + 10) + rng.normal(0, 2, psf.shape)
    kernel = measured(stack.astype(np.float32))
    assert widths(kernel)[0] == pytest.approx(widths(psf)[0], rel=0.08)


@pytest.mark.parametrize("shape", [(1, 41, 41), (21, 41, 41)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("place", [(0, 0), (1, 1), (12, 8)], ids=["peak", "flank", "far away"])
def test_a_hot_pixel_is_not_the_psf(shape: tuple[int, ...], place: tuple[int, int]) -> None:
    middle = tuple(n // 2 for n in shape)
    psf = spot(shape, middle, 2.0)
    psf *= 300 / psf.max()
    psf += np.random.default_rng(0).normal(10, 3, shape)
    psf[middle[0], middle[1] + place[0], middle[2] + place[1]] += 6000
    kernel = measured(psf.astype(np.float32))
    assert widths(kernel) == pytest.approx([2.0] * kernel.ndim, rel=0.1)
    assert kernel.max() == pytest.approx((2 * math.pi * 4) ** (-kernel.ndim / 2), rel=0.15)


def test_a_narrow_spot_is_no_hot_pixel() -> None:
    for shape, middle in (((1, 21, 21), (0, 10, 10)), ((21, 21, 21), (10, 10, 10))):
        kernel = measured(spot(shape, middle, 0.7))
        assert widths(kernel) == pytest.approx([0.7] * kernel.ndim, rel=0.02)


def test_a_single_bright_pixel_is_refused() -> None:
    stack = np.zeros((1, 21, 21), np.float32)
    stack[0, 10, 10] = 1000
    with pytest.raises(InputError, match="single pixels do not count"):
        measured(stack)


def test_a_neighbour_at_an_edge_does_not_cut_the_psf_off() -> None:
    psf = spot((1, 41, 41), (0, 20, 20), 2.0) + spot((1, 41, 41), (0, 20, 39), 2.0) / 3
    psf += np.random.default_rng(0).normal(0, 0.01 * psf.max(), psf.shape)
    assert widths(measured(psf)) == pytest.approx([2.0] * 2, rel=0.1)


def test_a_spot_at_one_edge_is_cut_off() -> None:
    with pytest.raises(InputError, match="cut off"):
        measured(spot((1, 41, 41), (0, 20, 39), 2.0))


def test_a_psf_centred_between_pixels_comes_to_the_middle() -> None:
    profile = np.exp(-((np.arange(16) - 7.5) ** 2) / 8)
    kernel = measured((profile[:, None] * profile)[None].astype(np.float32))
    assert off_centre(kernel) == pytest.approx([0, 0], abs=0.01)
    assert widths(kernel) == pytest.approx([2.0] * 2, rel=0.02)


@pytest.mark.parametrize("factor", [0.5, 1.4, 2.0])
def test_a_psf_on_other_voxels_keeps_its_middle_and_its_width_in_micrometres(factor: float) -> None:
    psf = spot((21, 41, 41), (10, 20, 20), 3.0)
    kernel = measured(psf, voxel=(0.1,) * 3, wanted=(0.1 / factor,) * 3)
    assert off_centre(kernel) == pytest.approx([0] * 3, abs=0.01)
    assert widths(kernel) == pytest.approx([3 * factor] * 3, rel=0.05)


def test_voxels_far_from_those_of_the_data_are_refused() -> None:
    with pytest.raises(InputError, match="voxels"):
        measured(spot((9, 25, 25), (4, 12, 12)), voxel=(1.0,) * 3, wanted=(0.1,) * 3)


def ring(n: int = 31, radius: float = 6.0) -> np.ndarray:
    """A plane out of focus; its brightest point is on the ring."""
    y, x = np.mgrid[:n, :n] - n // 2
    return np.exp(-((np.hypot(y, x) - radius) ** 2) / 2)[None]


def trail(n: int = 31) -> np.ndarray:
    """Motion along x, slower at its start."""
    line = np.zeros((1, n, n))
    line[0, n // 2, n // 2 - 6 : n // 2 + 7] = np.linspace(1.5, 1, 13)
    return gaussian_filter(line, (0, 1, 1))


@pytest.mark.parametrize("psf", [ring(), trail()], ids=["defocus", "motion"])
def test_the_middle_of_the_array_is_the_centre_wherever_the_brightest_point_is(
    psf: np.ndarray,
) -> None:
    kernel = measured(psf)
    middle = tuple(slice(15 - n // 2, 16 + n // 2) for n in kernel.shape)
    np.testing.assert_allclose(kernel, psf[0][middle] / psf[0][middle].sum(), atol=1e-5)
    assert codes(psf) == ["psf_centre"]


@pytest.mark.parametrize("centre", ["mass", "peak"])
def test_a_psf_off_its_centre_is_noted_and_can_be_centred(centre: str) -> None:
    psf = spot((17, 41, 41), (11, 25, 14), 1.5)
    kernel, (note,) = kernel_of(psf)
    assert off_centre(kernel) == pytest.approx([3, 5, -6], abs=0.05)
    assert note.code == "psf_off_centre"
    assert note.assumed
    assert "z +3.0, y +5.0, x -6.0 pixels" in note.text
    kernel, (note,) = kernel_of(psf, centre=centre)  # type: ignore[arg-type]
    assert off_centre(kernel) == pytest.approx([0, 0, 0], abs=0.05)
    assert not note.assumed


def test_a_psf_of_even_sides_may_have_its_centre_on_a_pixel_or_between_two() -> None:
    for middle in (7.5, 8.0):
        profile = np.exp(-((np.arange(16) - middle) ** 2) / 5)
        psf = (profile[:, None] * profile)[None]
        assert off_centre(measured(psf)) == pytest.approx([0, 0], abs=0.01)
        assert codes(psf) == []


def test_a_computed_psf_keeps_the_light_at_the_edges_of_its_file() -> None:
    y, x = np.mgrid[-15:16, -15:16]
    psf = (1 + (y**2 + x**2) / 12.5) ** -2.5  # a star's image: a hundredth of it is at the edges
    expected = psf / psf.sum()
    np.testing.assert_allclose(measured(psf[None]), expected, rtol=1e-6)
    noise = np.random.default_rng(0).normal(0, 2e-3, psf.shape)
    assert measured((psf + noise + 0.1)[None]).max() == pytest.approx(expected.max(), rel=0.1)


def test_saturation_of_a_psf_is_noted() -> None:
    psf = spot((1, 41, 41), (0, 20, 20), 3.0)
    psf *= 400 / psf.max()
    clipped = psf.clip(0, 255)
    assert codes(psf.round(), saturation=255 * 2) == []
    assert codes(clipped.round(), saturation=255.0) == ["psf_saturated"]
    noisy = psf + 20 + np.random.default_rng(0).normal(0, 3, psf.shape)
    assert codes(noisy) == []
    assert codes(noisy.clip(None, 255)) == ["psf_saturated"]  # the type does not show it


@pytest.mark.parametrize("distance", [6, 9])
def test_two_beads_that_touch_are_noted(distance: int) -> None:
    psf = spot((1, 41, 41), (0, 20, 17), 1.5) + 0.8 * spot((1, 41, 41), (0, 20, 17 + distance), 1.5)
    noise = np.random.default_rng(0).normal(0, 0.005 * psf.max(), psf.shape)
    for seen in (psf, psf + noise):
        assert "psf_two_spots" in codes(seen)


@pytest.mark.parametrize("psf", [ring(), trail(), spot((1, 41, 41), (0, 20, 20), 3.0)])
def test_rings_and_trails_are_no_two_beads(psf: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(0, 0.02 * psf.max(), psf.shape)
    for seen in (psf, psf + noise):
        assert "psf_two_spots" not in codes(seen)


def test_a_bead_apart_is_left_out_with_a_note() -> None:
    psf = spot((1, 61, 61), (0, 30, 30), 2.0) + spot((1, 61, 61), (0, 30, 52), 2.0) / 3
    psf += np.random.default_rng(0).normal(0, 0.01 * psf.max(), psf.shape)
    assert widths(measured(psf)) == pytest.approx([2.0] * 2, rel=0.1)
    assert codes(psf) == ["psf_spots_left_out"]


def test_a_stack_that_ends_at_the_focus_is_refused_and_one_that_ends_near_it_is_noted() -> None:
    psf = widefield()
    with pytest.raises(InputError, match="cut off in z"):
        kernel_of(psf[20:])
    assert "psf_cut_in_z" in codes(psf[18:23])
    assert codes(psf) == []


def test_planes_farther_apart_than_those_of_the_data_are_left_out() -> None:
    kernel = np.full((9, 3, 3), 1 / 81)
    kept, lost = crop_depth(kernel, 3)
    assert kept.shape == (5, 3, 3)
    assert kept.sum() == pytest.approx(1)
    assert lost == pytest.approx(4 / 9)
    assert crop_depth(kernel, 5)[0].shape == kernel.shape


def beads(seed: int = 0) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Beads at fractions of pixels in a noisy plane; two of them touch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :200].astype(float)
    places = [(30.3, 40.6), (100.5, 60.1), (150.2, 150.9), (60.7, 150.4), (160, 50), (168, 50)]
    image = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * 1.8**2)) for a, b in places)
    return rng.poisson(500 * image + 20).astype(np.float32)[None], places[:4]


def test_beads_that_lie_alone_are_found_and_averaged_to_their_width() -> None:
    image, places = beads()
    found = find_beads(image, (0, 10, 10))
    assert len(found) == 4
    for _, y, x in found:
        assert min(math.hypot(y - a, x - b) for a, b in places) < 1.5
    mean, count = bead_average(image, (0, 10, 10))
    assert count == 4
    kernel = measured(mean)
    middle = len(kernel) // 2
    fall = kernel[middle, middle] / kernel[middle, middle + 2]
    assert math.sqrt(2 / math.log(fall)) == pytest.approx(1.8, rel=0.12)
    assert widths(kernel) == pytest.approx([1.8] * 2, rel=0.05)


def test_an_image_without_beads_is_refused() -> None:
    with pytest.raises(InputError, match="No bead"):
        bead_average(np.full((1, 50, 50), 9, np.float32), (0, 10, 10), name="beads.tif")


def test_a_gaussian_has_the_full_width_at_half_maximum_that_was_asked_for() -> None:
    kernel = gaussian((0.8, 0.4, 0.4), (0.1, 0.1, 0.1))
    # A voxel averages over itself, which widens by a twelfth of its square.
    sigma = [math.sqrt((w / 2.3548 / 0.1) ** 2 + 1 / 12) for w in (0.8, 0.4, 0.4)]
    assert widths(kernel) == pytest.approx(sigma, rel=0.01)
    z, y, x = gaussian_widths(1.4, 0.52, 1.515)
    assert z > 2 * y == 2 * x


def test_diffraction_is_as_wide_as_an_airy_disc() -> None:
    pytest.importorskip("psfmodels")
    psf = diffraction(
        "born-wolf", na=1.0, wavelength_um=0.5, immersion_index=1.515, sample_index=1.33,
        depth_um=0.0, voxel_um=(0.2, 0.02, 0.02), shape=(9, 101, 101),
    )  # fmt: skip
    plane = psf[len(psf) // 2]
    row = plane[len(plane) // 2]
    dark = 0.61 * 0.5 / 1.0 / 0.02  # radius of the first dark ring, in pixels
    middle = len(row) // 2
    rises = np.flatnonzero(np.diff(row[middle:]) > 0)
    assert rises[0] == pytest.approx(dark, abs=1.5)


@pytest.mark.parametrize("depth", [1.0, 5.0])
def test_a_point_deep_in_water_has_its_best_focus_in_the_middle_plane(depth: float) -> None:
    pytest.importorskip("psfmodels")

    def kernel(planes: int) -> np.ndarray:
        return cropped(diffraction(
            "gibson-lanni", na=1.2, wavelength_um=0.52, immersion_index=1.515, sample_index=1.33,
            depth_um=depth, voxel_um=(0.1, 0.1, 0.1), shape=(planes, 65, 65),
        ))  # fmt: skip

    assert kernel(1).max() > 0.1
    deep = kernel(41)
    assert abs(int(deep.max(axis=(1, 2)).argmax()) - len(deep) // 2) <= 1
    before, after = deep[: len(deep) // 2].sum(), deep[len(deep) // 2 + 1 :].sum()
    assert before == pytest.approx(after, rel=0.2)


def test_a_model_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psfmodels", None)
    with pytest.raises(UsageError, match="psfmodels") as caught:
        diffraction(
            "born-wolf", na=1.0, wavelength_um=0.5, immersion_index=1.515, sample_index=1.33,
            depth_um=0.0, voxel_um=(0.2, 0.1, 0.1), shape=(9, 31, 31),
        )  # fmt: skip
    assert "pip install" in caught.value.hint


def modelled(microscope: str, *, flat: bool = False, **options: Any) -> np.ndarray:
    """The kernel of a Gaussian model on voxels far smaller than the widths."""
    given = DeblurOptions(
        psf_model="gaussian", microscope=microscope, na=1.2, wavelength_um=0.52, **options
    )
    return find_kernel(given, (0.04, 0.02, 0.02), (1 if flat else 99, 99, 99))[0]


def test_an_open_pinhole_leaves_the_excitation_and_a_closed_one_narrows_it() -> None:
    laser = widths(modelled("widefield"))
    same = {"excitation_um": 0.52}
    wide, closed = (modelled("confocal", pinhole_au=au, **same) for au in (20.0, 0.02))
    assert widths(wide)[1:] == pytest.approx(laser[1:], rel=0.02)
    assert widths(closed) == pytest.approx([w / math.sqrt(2) for w in laser], rel=0.02)
    middle = widths(modelled("confocal", **same))
    assert widths(closed)[1] < middle[1] < widths(wide)[1]


def test_two_photon_excitation_is_narrower_by_the_square_root_of_two() -> None:
    twice = widths(modelled("two-photon", excitation_um=1.04))
    laser = widths(modelled("widefield"))
    assert twice == pytest.approx([2 * w / math.sqrt(2) for w in laser], rel=0.02)


def test_a_light_sheet_narrows_the_psf_along_z_alone() -> None:
    wide, sheet = widths(modelled("widefield")), widths(modelled("light-sheet", sheet_um=0.4))
    sigma = 0.4 / 2.3548 / 0.04
    assert sheet[0] == pytest.approx((sigma**-2 + wide[0] ** -2) ** -0.5, rel=0.02)
    assert sheet[1:] == pytest.approx(wide[1:], rel=0.02)


@pytest.mark.parametrize("microscope", ["confocal", "two-photon", "light-sheet"])
def test_each_microscope_has_a_psf_of_a_plane_and_names_what_it_lacks(microscope: str) -> None:
    kernel = modelled(microscope, flat=True, excitation_um=0.5, sheet_um=1.0)
    assert kernel.ndim == 2
    assert kernel.sum() == pytest.approx(1)
    with pytest.raises(UsageError, match="needs the") as caught:
        modelled(microscope)
    assert "sheet_um" in caught.value.hint or "excitation_um" in caught.value.hint


def test_diffraction_makes_a_confocal_psf_that_ends_along_z() -> None:
    pytest.importorskip("psfmodels")
    options = {"psf_model": "born-wolf", "na": 1.2, "wavelength_um": 0.52, "excitation_um": 0.488}
    planes = []
    for microscope in ("widefield", "confocal"):
        kernel = find_kernel(
            DeblurOptions(microscope=microscope, **options), (0.2, 0.1, 0.1), (41, 81, 81)
        )[0]
        light = kernel.sum((1, 2))
        planes.append(light[0] / light.max())
    assert planes[0] > 0.3
    assert planes[1] < 0.1
