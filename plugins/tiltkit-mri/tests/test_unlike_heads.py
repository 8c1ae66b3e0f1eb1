"""The shipped prior on a head that it was not trained on, and on what is no head at all.

Bounds hold on any processor: the network computes in float32, and the ladder has the default
length. The head's largest residual ratio, for which 1.4 is the limit, was then 0.90 to 1.01 with
five seeds, and 0.94 with other rounding (``ATEN_CPU_CAPABILITY=default``). On half the levels a
sample of the head runs away in three of five runs, and it is 1.1 to 31; the run then warns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from skimage.transform import resize
from tiltkit_mri.operators import CartesianSense

from tiltkit.hookspecs import PriorEntry
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.plugins import load_plugins
from tiltkit.posterior.outcome import Outcome
from tiltkit.problem import Problem
from tiltkit.recon.solve import solve
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions

SIDE, NOISE = 128, 0.02
DATASETS = Path(__file__).parents[3] / "datasets"
HEAD, MACAQUE = DATASETS / "colin27.npz", DATASETS / "macaque.npz"


def complex_image(picture: np.ndarray) -> torch.Tensor:
    """A picture on the grid, real, of the brightness that the prior expects."""
    image = resize(picture.astype(float), (SIDE, SIDE), anti_aliasing=True)
    truth = torch.zeros(1, 2, SIDE, SIDE)
    truth[0, 0] = torch.from_numpy(image / np.percentile(image, 99))
    return truth


def brain_prior() -> Any:
    return load_plugins().create("prior", "mri.brain", {"precision": "float32"})


def outcome(picture: np.ndarray, levels: int = 48) -> Outcome:
    """Half of the lines of a picture, with two coils."""
    truth = complex_image(picture)
    ramp = torch.linspace(0.2, 1, SIDE).expand(SIDE, SIDE)
    maps = torch.stack([ramp, 1.2 - ramp]).to(torch.complex64)
    maps /= maps.abs().square().sum(0).sqrt()
    columns = torch.arange(SIDE) % 2 == 0
    columns[SIDE // 2 - 8 : SIDE // 2 + 8] = True
    operator = CartesianSense(maps, columns)
    g = torch.Generator().manual_seed(0)
    y = operator.forward(truth)
    y = y + NOISE * torch.view_as_complex(torch.randn(*y.shape, 2, generator=g))
    problem = Problem(
        brain_prior(),
        GaussianLikelihood(operator, y, NOISE**2),
        (2, SIDE, SIDE),
        lambda x: x,
        truth[0],
    )
    *_, found = solve(
        [problem], Twisted(TwistedOptions(levels=levels, collect=1)), seed=(0,), n=2,
        devices=[torch.device("cpu")],
    )  # fmt: skip
    assert isinstance(found, Outcome)
    return found


@pytest.mark.skipif(not HEAD.exists(), reason="needs the head in datasets/")
def test_a_head_outside_the_training_set_raises_no_warning() -> None:
    diagnostics = outcome(np.load(HEAD)["image"][4]).diagnostics
    assert diagnostics["residual_ratio_max"] < 1.4
    assert diagnostics["prior_distance"] < 1
    assert diagnostics["warnings"] == ()


@pytest.mark.parametrize("texture", ["brick", "grass"])
def test_a_texture_that_no_head_has_is_a_reason_for_care(texture: str) -> None:
    diagnostics = outcome(getattr(data, texture)(), levels=24).diagnostics
    assert diagnostics["residual_ratio_max"] > 1.4
    assert "residual_ratio_high" in {one.code for one in diagnostics["warnings"]}


def phantom() -> np.ndarray:
    return data.shepp_logan_phantom()


def ct_slice() -> np.ndarray:
    """A spine, which pydicom has among its test files."""
    files = pytest.importorskip("pydicom.data")
    pixels = pytest.importorskip("pydicom").dcmread(files.get_testdata_file("CT_small.dcm"))
    return pixels.pixel_array - pixels.pixel_array.min()


@pytest.mark.parametrize("picture", [phantom, ct_slice])
def test_a_smooth_image_that_is_no_head_is_a_reason_for_care(
    picture: Callable[[], np.ndarray],
) -> None:
    """The CT slice itself is at 0.80 times the largest usual distance, samples at 1.02 to 1.23.

    Where a sample runs away they are nearer, and the run warns of its residuals instead.
    """
    codes = {one.code for one in outcome(picture()).diagnostics["warnings"]}
    assert codes & {"far_from_training", "residual_ratio_high"}


@pytest.mark.skipif(not MACAQUE.exists(), reason="needs the macaque in datasets/")
@pytest.mark.skipif(not HEAD.exists(), reason="needs the head in datasets/")
def test_the_brain_of_a_macaque_is_farther_away_than_a_human_head() -> None:
    macaque, head = (
        float(brain_prior().training_distance(complex_image(np.load(path)["image"][k])))
        for path, k in ((MACAQUE, 0), (HEAD, 4))
    )
    assert macaque > 1 > head
    assert macaque > 1.2 * head


def test_what_is_no_head_has_the_wide_prior_proposed() -> None:
    host = load_plugins()
    entry = host.get("prior", "mri.brain")
    assert isinstance(entry, PriorEntry)
    assert brain_prior().fallback == entry.fallback
    assert host.create("prior", entry.fallback, {}).channels == 2


def test_the_wide_prior_removes_noise_from_a_picture_that_is_no_head() -> None:
    prior = load_plugins().create("prior", "mri.wide", {"precision": "float32"})
    picture = complex_image(data.brick())
    noise = 0.1 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    left = prior.denoise(picture + noise, 0.1) - picture
    assert left.square().mean() < 0.4 * noise.square().mean()
