"""Models of the diffusers library: from its time steps and predictions to exact scores."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tiltkit.errors import InputError
from tiltkit.hookspecs import PriorEntry
from tiltkit.priors.diffusers import DiffusersOptions, Schedule, denoised, diffusers_prior

ENTRY = PriorEntry(name="diffusers", target="", summary="")
PREDICTIONS = ["epsilon", "v_prediction", "sample"]
DEVIATION = 0.5


def schedule(prediction="epsilon"):
    betas = np.linspace(1e-4, 0.02, 1000)
    return Schedule.of(np.cumprod(1 - betas), prediction)


class GaussianUNet(nn.Module):
    """What a perfect UNet2DModel gives for images of independent Gaussian values."""

    def __init__(self, known: Schedule):
        super().__init__()
        self.config = {"block_out_channels": (8, 8), "in_channels": 1}
        self.known = known

    def forward(self, x, time):
        steps = np.arange(len(self.known.log_sigmas))
        sigma = float(np.exp(np.interp(float(time[0]), steps, self.known.log_sigmas)))
        total = (1 + sigma**2) ** 0.5
        clean = DEVIATION**2 / (DEVIATION**2 + sigma**2) * x * total
        noise = (x * total - clean) / sigma
        out = {"epsilon": noise, "sample": clean, "v_prediction": (noise - sigma * clean) / total}
        return SimpleNamespace(sample=out[self.known.prediction])


def images(size=12):
    return torch.randn(2, 1, size, size + 1, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sigma", [0.02, 0.3, 7.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_gives_the_exact_denoiser_of_a_gaussian(prediction, sigma):
    known = schedule(prediction)
    z = images()
    found = denoised(GaussianUNet(known), z, sigma, known)
    expected = DEVIATION**2 / (DEVIATION**2 + sigma**2) * z
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_noise_levels_of_time_steps_are_found_again():
    known = schedule()
    for step in (0, 17, 999):
        assert known.time(float(np.exp(known.log_sigmas[step]))) == pytest.approx(step, abs=1e-6)
    low, high = known.sigma_range
    assert low == pytest.approx(0.01, rel=0.01)
    assert high > 100


def test_a_schedule_that_ends_in_pure_noise_has_a_finite_last_level():
    assert np.isfinite(Schedule.of(np.array([0.9, 0.5, 0.0]), "sample").log_sigmas).all()


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("diffusers")


@pytest.fixture
def folder(library, tmp_path, request):
    """A tiny model as a pipeline saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = library.UNet2DModel(
            in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4,
            layers_per_block=1, down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2, attention_head_dim=4,
        )  # fmt: skip
    prediction = getattr(request, "param", "epsilon")
    noise = library.DDPMScheduler(prediction_type=prediction, clip_sample=False)
    net.save_pretrained(tmp_path / "unet", safe_serialization=True)
    noise.save_pretrained(tmp_path / "scheduler")
    return tmp_path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", PREDICTIONS, indirect=True)
def test_a_model_gives_the_clean_image_that_its_own_scheduler_would(library, folder):
    prior = diffusers_prior(DiffusersOptions(folder=folder, low=-1, high=1), ENTRY)
    net = library.UNet2DModel.from_pretrained(folder / "unet")
    noise = library.DDPMScheduler.from_pretrained(folder / "scheduler")
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    for step in (20, 400):
        alpha = noise.alphas_cumprod[step]
        with torch.no_grad():
            out = net(x * alpha.sqrt(), step).sample
        expected = noise.step(out, step, x * alpha.sqrt()).pred_original_sample
        sigma = float(((1 - alpha) / alpha).sqrt())
        torch.testing.assert_close(prior.denoise(x, sigma), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_units_of_images_and_any_image_size(folder):
    prior = diffusers_prior(DiffusersOptions(folder=folder, low=0, high=4), ENTRY)
    own = diffusers_prior(DiffusersOptions(folder=folder, low=-1, high=1), ENTRY)
    x = images(size=13)
    assert prior.channels == 1
    assert prior.sigma_range[1] == pytest.approx(2 * own.sigma_range[1])
    torch.testing.assert_close(
        prior.denoise(2 * x + 2, 0.6), 2 * own.denoise(x, 0.3) + 2, rtol=1e-3, atol=1e-3
    )


@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_is_no_model_is_named(library, folder, tmp_path):
    with pytest.raises(InputError, match="holds no network"):
        diffusers_prior(DiffusersOptions(folder=tmp_path / "nowhere"), ENTRY)
    next((folder / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        diffusers_prior(DiffusersOptions(folder=folder), ENTRY)
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(InputError, match="not a UNet2DModel"):
        diffusers_prior(DiffusersOptions(folder=folder), ENTRY)
