"""The judge of priors: true priors obey its laws exactly, false ones are found out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tiltkit.errors import InputError, PluginError, TiltkitError, UsageError
from tiltkit.io.images import read_images
from tiltkit.priors.check import check_prior, from_images, from_prior, laws, levels_of
from tiltkit.priors.check.ancestral import ancestral
from tiltkit.priors.check.baselines import best_weight
from tiltkit.priors.check.findings import findings, overall
from tiltkit.priors.closed_form import Mixture, SmoothGaussian
from tiltkit.priors.denoiser import DenoiserPrior
from tiltkit.priors.total_variation import total_variation

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def gaussian():
    return SmoothGaussian(0.3, 2.0, 3.0, channels=1)


@pytest.fixture
def mixture():
    means = torch.randn(6, 1, 4, 4, generator=generator(3))
    return Mixture(means, 0.05, torch.arange(1.0, 7.0), (0.01, 5.0))


def noisy_draws(prior, sigma, count=4, size=24):
    images = torch.cat(from_prior(prior, size, count, generator(1)).images)
    return images, images + sigma * torch.randn(images.shape, generator=generator(2))


def wrong(prior, change):
    """A denoiser made of another one's."""
    return DenoiserPrior(
        lambda x, sigma: change(x, x + sigma**2 * prior.score(x, sigma), sigma), 1, (0.01, 5.0), ""
    )


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_a_gaussian_drifts_by_nothing_at_all_even_in_one_step(gaussian, sigma):
    _, x = noisy_draws(gaussian, sigma)
    for steps in (1, 4):
        found = laws.drift(gaussian, x, sigma, 0.3 * sigma, 0.0, generator(), steps=steps)
        assert found < 1e-3


@pytest.mark.parametrize(("sigma", "few", "many"), [(0.3, 0.0, 0.0), (1.0, 0.15, 0.02)])
def test_what_a_mixture_drifts_is_the_finite_steps(mixture, sigma, few, many):
    _, x = noisy_draws(mixture, sigma, count=200)
    expected = laws.predicted_error(mixture, x, sigma, generator())
    for steps, drift in ((1, few), (24, many)):
        found = laws.drift(
            mixture, x, sigma, 0.6 * sigma, expected, generator(), steps=steps, pairs=20
        )
        assert found == pytest.approx(drift, abs=0.03)


@pytest.mark.parametrize("strength", [0.7, 1.4])
def test_scores_of_different_densities_at_different_levels_drift(gaussian, strength):
    """Every level is that of a Gaussian, but each of another one."""
    false = DenoiserPrior(
        lambda x, sigma: x + sigma**2 * SmoothGaussian(
            0.3 * sigma**(strength - 0.4), 2.0, 3.0, 1).score(x, sigma), 1, (0.01, 5.0), ""
    )  # fmt: skip
    _, x = noisy_draws(gaussian, 0.4)
    expected = laws.predicted_error(false, x, 0.4, generator())
    assert laws.drift(false, x, 0.4, 0.2, expected, generator()) > 0.1


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_the_expected_error_is_the_error_on_draws_from_the_prior(gaussian, mixture, sigma):
    for prior, count in ((gaussian, 40), (mixture, 4000)):
        images, x = noisy_draws(prior, sigma, count)
        expected = laws.predicted_error(prior, x, sigma, generator())
        actual = float((x + sigma**2 * prior.score(x, sigma) - images).square().mean())
        assert actual == pytest.approx(expected, rel=0.1)


def test_the_expected_error_of_a_gaussian_is_its_formula(gaussian):
    sigma = 0.2
    _, x = noisy_draws(gaussian, sigma, count=60)
    spectrum = gaussian.spectrum((24, 24), CPU)
    exact = float((sigma**2 * spectrum / (spectrum + sigma**2)).mean())
    assert laws.predicted_error(gaussian, x, sigma, generator()) == pytest.approx(exact, rel=0.03)


def test_true_scores_are_gradients_and_others_are_found_out(gaussian, mixture):
    for prior in (gaussian, mixture):
        _, x = noisy_draws(prior, 0.3)
        assert laws.asymmetry(prior, x, 0.3, generator()) < 1e-2
    _, x = noisy_draws(gaussian, 0.3)
    shifted = wrong(gaussian, lambda _x, clean, _s: clean.roll(1, -1))
    assert laws.asymmetry(shifted, x, 0.3, generator()) > 0.1
    random = torch.randn(576, 576, generator=generator(5)) / 24
    scrambled = wrong(gaussian, lambda x, _c, _s: (x.flatten(1) @ random).view_as(x))
    assert laws.asymmetry(scrambled, x[:1], 0.3, generator(), count=12) == pytest.approx(1, abs=0.3)


def test_a_denoiser_that_ignores_the_noise_level_is_found_out(gaussian):
    _, x = noisy_draws(gaussian, 0.3)
    blind = DenoiserPrior(lambda x, _s: 0.5 * x, 1, (0.01, 5.0), "")
    assert laws.takes_noise_level(gaussian, x, 0.3)
    assert not laws.takes_noise_level(blind, x, 0.3)


@pytest.mark.parametrize("beyond", [4.0, math.nan])
def test_a_denoiser_that_breaks_out_on_bright_images_is_found_out(gaussian, beyond):
    """As usual images go it is as good as any."""
    (image,) = from_prior(gaussian, 24, 1, generator(1)).images
    top = 1.5 * float(image.abs().max())
    tame = wrong(gaussian, lambda _x, clean, _sigma: clean)
    wild = wrong(
        gaussian, lambda _x, clean, _s: torch.where(clean.abs() < top, clean, beyond * clean)
    )
    report = check_prior("wild", wild, from_prior(gaussian, 24, 1, generator(1)), [0.1], facts={},
                         samples=0, seed=0, device=CPU)  # fmt: skip
    assert laws.growth(tame, image, 0.1, generator()) <= 1.01
    assert laws.growth(wild, image, 0.1, generator()) > 3
    assert judgements(report)["brightness"] == "bad"
    assert judgements(report)["denoising"] == "good"


def test_samples_of_a_gaussian_have_its_spectrum(gaussian):
    x = ancestral(gaussian, (300, 1, 8, 8), steps=60, generator=generator())
    found = torch.fft.fft2(x).abs().square().mean((0, 1)) / 64
    expected = gaussian.spectrum((8, 8), CPU).float()
    strong = expected > 0.01
    assert (found / expected)[strong].mean() == pytest.approx(1, abs=0.1)


def test_samples_are_the_same_for_the_same_seed(mixture):
    one, two = (ancestral(mixture, (2, 1, 4, 4), steps=9, generator=generator()) for _ in range(2))
    assert torch.equal(one, two)


def test_total_variation_has_the_optimality_that_defines_it():
    """No small change lowers what it minimises."""
    x = torch.randn(1, 2, 12, 10, generator=generator())

    def value(u):
        down, right = u.diff(dim=-2, append=u[..., -1:, :]), u.diff(dim=-1, append=u[..., -1:])
        length = (down.square() + right.square()).sum(1).sqrt()
        return float((u - x).square().sum() / 2 + 0.3 * length.sum())

    best = total_variation(x, 0.2 * 1.5, steps=3000)
    for seed in range(10):
        change = 0.01 * torch.randn(x.shape, generator=generator(seed))
        assert value(best) <= value(best + change) + 1e-4


def test_the_best_weight_of_a_baseline_is_the_best_of_a_grid():
    clean = torch.zeros(1, 1, 32, 32)
    clean[..., 8:24, 6:20] = 1
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=generator())
    _, (out,) = best_weight("TV", [noisy], [clean], 0.2)
    error = float((out - clean).square().mean())
    grid = [float((total_variation(noisy, 0.2 * w) - clean).square().mean())
            for w in np.geomspace(0.3, 5, 12)]  # fmt: skip
    assert error < 1.03 * min(grid)


def report_of(prior, sigmas=(0.1, 0.4), **changes):
    material = from_prior(prior, 32, 2, generator(1))
    report = check_prior("lab.prior", prior, material, list(sigmas), facts={}, samples=1, seed=0,
                         device=CPU)  # fmt: skip
    return replace(report, **changes)


def judgements(report):
    return {finding.about: finding.judgement for finding in findings(report)}


def test_a_true_prior_passes(gaussian):
    report = report_of(gaussian)
    found = judgements(report)
    for about in (
        "denoising",
        "calibration",
        "consistency",
        "symmetry",
        "noise range",
        "brightness",
    ):
        assert found[about] == "good", (about, report)
    for level in report.levels:
        assert level.psnr > max(level.baselines.values())


def test_the_noise_is_independent_of_draws_of_the_same_seed(gaussian):
    """Nothing beats the exact posterior mean on draws from its own prior."""
    material = from_prior(gaussian, 32, 2, generator(0))
    report = check_prior("g", gaussian, material, [0.02], facts={}, samples=0, seed=0, device=CPU)
    (level,) = report.levels
    assert level.psnr > max(level.baselines.values())
    assert level.noisy == pytest.approx(-20 * math.log10(0.02), abs=0.3)


def test_the_noise_of_the_check_is_no_fault_of_the_prior():
    """An exact prior that takes away next to nothing at its smallest level."""
    rough = Mixture(torch.zeros(1, 1, 8, 8), 1.0, torch.ones(1), (0.01, 5.0))
    for seed in range(6):
        report = check_prior("m", rough, from_prior(rough, 8, 1, generator(seed)), [0.1], facts={},
                             samples=0, seed=seed, device=CPU)  # fmt: skip
        assert judgements(report)["noise range"] == "good"


def test_a_prior_of_other_images_is_refused(gaussian):
    other = Mixture(torch.zeros(1, 1, 8, 8), 1.0, torch.ones(1), (0.01, 5.0))
    with pytest.raises(PluginError, match=r"failed on \(1, 1, 16, 16\) images"):
        check_prior("m", other, from_prior(gaussian, 16, 1, generator()), [0.1], facts={},
                    samples=0, seed=0, device=CPU)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda score: score.double(), "is torch.float64"),
        (lambda score: score[..., :1], r"is torch.float32 \(1, 1, 16, 1\)"),
        (lambda score: score.numpy(), "is ndarray"),
    ],
)
def test_a_score_that_no_run_would_take_is_refused(gaussian, change, said):
    class Changed(SmoothGaussian):
        def score(self, x, sigma):
            return change(super().score(x, sigma))

    odd = Changed(0.3, 2.0, 3.0, channels=1)
    with pytest.raises(TiltkitError, match=said):
        check_prior("odd", odd, from_prior(gaussian, 16, 1, generator()), [0.1], facts={},
                    samples=0, seed=0, device=CPU)  # fmt: skip


def test_a_false_prior_does_not(gaussian):
    blind = DenoiserPrior(lambda x, _s: 0.5 * x.roll(1, -1), 1, (0.05, 0.5), "")
    report = check_prior("bad", blind, from_prior(gaussian, 32, 2, generator()), [0.1], facts={},
                         samples=1, seed=0, device=CPU)  # fmt: skip
    found = judgements(report)
    assert found["noise level"] == found["symmetry"] == found["calibration"] == "bad"
    assert found["noise range"] == "bad"
    assert "Do not read its spread" in overall(findings(report))


def test_no_samples_are_drawn_where_none_are_wanted(gaussian):
    report = check_prior("g", gaussian, from_prior(gaussian, 16, 1, generator()), [0.1], facts={},
                         samples=0, seed=0, device=CPU)  # fmt: skip
    assert judgements(report)["samples"] == "good"
    assert len(report.samples) == 0


def test_the_same_seed_gives_the_same_figures(gaussian):
    assert report_of(gaussian, [0.2]).figures() == report_of(gaussian, [0.2]).figures()


def test_a_prior_that_gives_nan_is_named(gaussian):
    broken = DenoiserPrior(lambda x, _s: x * math.nan, 1, (0.05, 0.5), "")
    with pytest.raises(PluginError, match=r"not finite at noise 0\.1"):
        check_prior("bad", broken, from_prior(gaussian, 16, 1, generator()), [0.1], facts={},
                    samples=1, seed=0, device=CPU)  # fmt: skip


def test_levels_outside_the_noise_range_are_refused(gaussian):
    assert levels_of(gaussian) == [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert levels_of(replace(gaussian, sigma_range=(0.04, 0.3))) == [0.05, 0.1, 0.2]
    assert len(levels_of(replace(gaussian, sigma_range=(5.0, 300.0)))) == 6
    with pytest.raises(UsageError, match="Noise level 9 is outside"):
        levels_of(gaussian, [0.1, 9.0])


def test_images_come_from_every_kind_of_file(tmp_path):
    import h5py
    from skimage.io import imsave

    picture = np.random.default_rng(0).integers(0, 200, (20, 24), np.uint8)
    np.savez(tmp_path / "a.npz", image=np.stack([picture] * 3), height=np.arange(3))
    np.save(tmp_path / "b.npy", picture)
    imsave(tmp_path / "c.png", picture, check_contrast=False)
    imsave(tmp_path / "d.tif", picture, check_contrast=False)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["deep/image"] = picture[None, None]
    files = sorted(tmp_path.iterdir())
    material = from_images(read_images(files, 1), "files", 1, 100, "none", generator())
    assert len(material.images) == 7
    for image in material.images:
        assert torch.equal(image[0, 0], torch.from_numpy(picture.astype(np.float32)))


def test_magnitudes_become_complex_images_of_the_same_magnitude(tmp_path):
    np.save(tmp_path / "m.npy", np.random.default_rng(0).random((2, 20, 20), np.float32))
    real = from_images(read_images([tmp_path / "m.npy"], 1), "m.npy", 1, 2, "auto", generator())
    complex_ = from_images(read_images([tmp_path / "m.npy"], 2), "m.npy", 2, 2, "auto", generator())
    assert "phase" in complex_.origin
    for one, other in zip(real.images, complex_.images, strict=True):
        torch.testing.assert_close(other.square().sum(1).sqrt(), one[:, 0])


def test_complex_arrays_are_taken_as_they_are(tmp_path):
    array = np.random.default_rng(0).normal(size=(2, 20, 20, 2)) @ [1, 1j]
    np.save(tmp_path / "c.npy", array)
    (first, _) = from_images(
        read_images([tmp_path / "c.npy"], 2), "c.npy", 2, 2, "none", generator()
    ).images
    torch.testing.assert_close(first[0, 1].double(), torch.from_numpy(array[0].imag), rtol=1e-6,
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    ("array", "what"),
    [(np.full((20, 20), np.nan), "not finite"), (np.zeros((20, 20)), "are zero"),
     (np.ones((4, 4)), "4 x 4 pixels"), (np.ones((1, 3, 20, 20)), "3 channels"),
     (np.ones(20), "of 1 axes"), (np.ones((1, 1, 1, 20, 20)), "5 axes")],
)  # fmt: skip
def test_images_that_cannot_be_used_are_named(tmp_path, array, what):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=what):
        from_images(read_images([tmp_path / "x.npy"], 2), "x.npy", 2, 4, "auto", generator())
