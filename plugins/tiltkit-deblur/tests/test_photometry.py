"""Light of point sources in results, with the prior that ships with the task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from tiltkit_deblur.prepare import grid_of, prepare
from tiltkit_deblur.psf import kernel_of
from tiltkit_deblur.task import Deblur, DeblurOptions

from tiltkit.plugins import load_plugins
from tiltkit.posterior.outcome import Outcome
from tiltkit.recon.solve import solve

SKY, GAIN = 11.0, 2.2
BRIGHT, FAINT = (12, 11), (24, 25)


def moffat(half: int = 12) -> np.ndarray:
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    psf = (1 + (y**2 + x**2) / 8) ** -2.5
    return psf / psf.sum()


def sky() -> np.ndarray:
    """Two stars; the field is wider than the image by the PSF."""
    truth = np.full((60, 60), SKY)
    truth[12 + BRIGHT[0], 12 + BRIGHT[1]] += 20000
    truth[12 + FAINT[0], 12 + FAINT[1]] += 1500
    return truth


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    import tifffile

    folder = tmp_path_factory.mktemp("stars")
    rng, blurred = np.random.default_rng(3), fftconvolve(sky(), moffat(), mode="valid")
    readings = GAIN * rng.poisson(blurred / GAIN) + 100 + 3.5 * rng.standard_normal((36, 36))
    data, psf = folder / "data.tif", folder / "psf.tif"
    tifffile.imwrite(data, readings.astype(np.float32))
    tifffile.imwrite(psf, moffat().astype(np.float32))
    host, device = load_plugins(), torch.device("cpu")
    prior = host.create("prior", Deblur.default_prior, {})
    sampler = host.create("sampler", "moments", {"levels": 18})
    options = DeblurOptions(psf=psf, gain=GAIN, offset=100.0, read_noise=3.5)
    with Deblur(options).open(data) as scan:
        problem = scan.problem(0, prior, device)
        *_, found = solve([problem], sampler, seed=(0, 0), n=6, devices=[device])
    return found


def light(image: Any, place: tuple[int, int]) -> Any:
    y, x = np.indices((36, 36))
    return image[..., np.hypot(y - place[0], x - place[1]) <= 5].sum(-1)


def test_light_is_conserved(outcome: Outcome) -> None:
    """Noise and ringing about a dark sky, clipped at zero, would add a tenth of it."""
    truth, mean = sky()[12:-12, 12:-12], outcome.mean.squeeze()
    assert mean.min() >= 0
    assert mean.sum() == pytest.approx(truth.sum(), rel=0.05)
    assert light(mean, BRIGHT) == pytest.approx(light(truth, BRIGHT), rel=0.05)
    samples = light(outcome.samples.reshape(-1, 36, 36), FAINT)
    noise = np.sqrt(samples.var(ddof=1) * (1 + 1 / len(samples)))
    assert abs(light(mean, FAINT) - light(truth, FAINT)) < 3 * noise


def test_the_written_mean_is_the_one_whose_fit_is_certified(outcome: Outcome) -> None:
    particles = outcome.samples.mean(0).squeeze()
    difference = np.abs(outcome.mean.squeeze() - particles).max()
    assert difference < 0.05 * particles.max()
    assert outcome.diagnostics["chi2_mean"] == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("peak", [1e3, 1e5])
def test_the_noise_of_a_bright_point_is_that_of_its_own_light(peak: float) -> None:
    from tiltkit_deblur.noise import Camera

    kernel, _ = kernel_of(moffat()[None].astype(np.float32))
    truth = np.full((60, 60), SKY)
    truth[30, 30] += peak / kernel.max()
    blurred = fftconvolve(truth, moffat(), mode="valid")
    counts = np.random.default_rng(0).poisson(blurred / GAIN)
    prepared = prepare(
        (GAIN * counts).astype(np.float32), kernel, grid_of((36, 36), kernel, "free"),
        Camera(GAIN, 0.0, 3.5), background=0.0, least_variance=1.0,
        iterations=20, device=torch.device("cpu"),
    )  # fmt: skip
    at = prepared.grid.at
    expected = GAIN * blurred.max() + 3.5**2
    assert float(prepared.variance[at].max()) == pytest.approx(expected, rel=0.12)
