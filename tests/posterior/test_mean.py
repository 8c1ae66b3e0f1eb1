"""The posterior mean of few particles, against exact means and their sampling variance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tiltkit.posterior.average import MeanEstimate, StreamingMean, frequency_bands
from tiltkit.posterior.mean import PosteriorMean, shrink
from tiltkit.posterior.outcome import Outcome
from tiltkit.problem import Problem
from tiltkit.recon.solve import solve
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions

CPU = torch.device("cpu")
SHAPE = (64, 64)


def images(n: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def averaged(x: torch.Tensor, weights: torch.Tensor | None = None) -> MeanEstimate:
    found = StreamingMean()
    found.add(x, torch.ones(len(x)) if weights is None else weights)
    return found.result()


def run(problem: Problem, n: int, memory_gb: float = 1.0, **options: int) -> Outcome:
    *_, outcome = solve([problem], Twisted(TwistedOptions.model_validate(options)), seed=(0,), n=n,
                        devices=[CPU], memory_gb=memory_gb)  # fmt: skip
    assert isinstance(outcome, Outcome)
    return outcome


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_an_average_is_that_of_numpy_however_the_images_arrive(offset: float) -> None:
    x, weights = images(20) + offset, torch.rand(20, generator=torch.Generator().manual_seed(1))
    whole, parts = StreamingMean(), StreamingMean()
    whole.add(x, weights)
    for part, w in zip(torch.split(x, 7), torch.split(weights, 7), strict=True):
        parts.add(part, w)
    exact = np.average(x.double().numpy(), axis=0, weights=weights)
    np.testing.assert_allclose(whole.image, exact, rtol=1e-6, atol=1e-6)
    spread = np.average((x.double().numpy() - exact) ** 2, axis=0, weights=weights).sum()
    assert float(whole.scatter.sum()) == pytest.approx(spread, rel=1e-3)
    for name, value in whole.dump().items():
        rtol = 1e-5 if name == "scatter" else 1e-12
        torch.testing.assert_close(value, parts.dump()[name], rtol=rtol, atol=0)


@pytest.mark.parametrize("weights", [torch.ones(12), torch.arange(1.0, 13.0)], ids=["even", "not"])
def test_the_variance_is_the_mean_squared_error_of_means(
    weights: torch.Tensor,
) -> None:
    found = [averaged(images(12, seed), weights) for seed in range(60)]
    off = [one.bands.inner(one.image[None], one.image[None])[0] for one in found]
    variance = torch.stack([one.variance for one in found]).mean(0)
    assert variance.numel() > 1
    torch.testing.assert_close(variance, torch.stack(off).mean(0), rtol=0.08, atol=0)


def test_one_image_has_no_estimate_of_a_variance() -> None:
    assert not averaged(images(1)).variance.any()


def test_a_difference_within_the_sampling_variance_does_not_move_the_mean() -> None:
    truth, n = images(1)[0], 8
    old = averaged(truth + 0.5 * images(n, 1))
    # Every particle's image is the old one with more detail, drawn at random.
    new = averaged(truth + 0.5 * images(n, 1) + images(n, 2))
    both = shrink(old, new)

    def error(one: MeanEstimate) -> float:
        return float((one.image - truth).square().mean())

    assert error(both) < 1.1 * error(old) < 0.4 * error(new)


def test_a_bias_of_the_old_mean_is_removed_in_its_own_bands() -> None:
    truth, n = images(1)[0], 8
    # The bias is a smooth ramp without fine detail.
    ramp = torch.linspace(-1, 1, SHAPE[1]).expand(SHAPE)
    old = averaged(truth + ramp + 0.1 * images(n, 1))
    new = averaged(truth + 0.1 * images(n, 1) + images(n, 2))
    both = shrink(old, new)
    left = (both.image - truth).square().mean()
    assert left < 0.4 * min((one.image - truth).square().mean() for one in (old, new))
    fine = frequency_bands(SHAPE, CPU).inner(*2 * [(both.image - old.image)[None]])[0]
    assert fine[0] > 10 * fine[-1]


def test_bands_of_one_or_two_coefficients_take_the_newer_mean() -> None:
    old, new = averaged(images(8, 1, (2,))), averaged(images(8, 2, (2,)))
    torch.testing.assert_close(shrink(old, new).image, new.image)


def test_rounds_that_repeat_each_other_have_the_variance_of_one() -> None:
    truth, n = images(1)[0], 8
    old = averaged(truth + 0.5 * images(n, 1))

    def error(rounds: list[torch.Tensor]) -> float:
        mean = PosteriorMean()
        mean.add_denoised_mean(old)
        for one in rounds:
            mean.add_samples(one)
        return float((mean.image - truth).square().mean())

    stuck = [truth + images(n, 2)] * 40
    moving = [truth + images(n, seed) for seed in range(2, 42)]
    assert error(stuck) < 1.1 * 0.25 / n
    assert error(moving) < 1.3 / (n * 40)


def test_positive_images_have_a_positive_mean() -> None:
    mean = PosteriorMean()
    spike = torch.zeros(6, *SHAPE)
    spike[:, 30, 30] = 100.0
    mean.add_denoised_mean(averaged((spike + images(6, 1)).clamp_min(0)))
    mean.add_samples((images(6, 2) * 30).clamp_min(0))
    assert mean.image.min() >= 0


def test_projected_images_keep_their_light() -> None:
    """Most values vary about 0: clipping their mean at 0 would add a tenth of the light."""
    spike = torch.zeros(SHAPE)
    spike[30, 30] = 10000.0
    free = spike + images(8, 2)
    # The projection of this test takes the light that clipping adds from the spike.
    projected = free.clamp_min(0)
    projected[:, 30, 30] -= (projected - free).sum((1, 2))
    mean = PosteriorMean()
    mean.add_denoised_mean(averaged(spike + images(8, 1)))
    mean.add_samples(free, projected)
    light = float(projected.sum((1, 2)).mean())
    assert mean.image.min() >= 0
    assert float(mean.image.sum()) == pytest.approx(light, rel=0.02)


def test_projected_images_of_positive_ones_leave_the_estimate_as_it_is() -> None:
    with_them, without = PosteriorMean(), PosteriorMean()
    x = 30 + images(6, 2)
    for mean in (with_them, without):
        mean.add_denoised_mean(averaged(30 + images(6, 1)))
    with_them.add_samples(x, x)
    without.add_samples(x)
    torch.testing.assert_close(with_them.image, without.image)


def test_samples_alone_give_their_mean() -> None:
    mean, x = PosteriorMean(), images(5)
    mean.add_samples(x)
    torch.testing.assert_close(mean.image, x.double().mean(0))
    with pytest.raises(ValueError, match="no images"):
        _ = PosteriorMean().image


@pytest.mark.parametrize("denoised", [False, True])
def test_a_restored_estimate_continues_to_the_same_bits(*, denoised: bool) -> None:
    first, again = PosteriorMean(), PosteriorMean()
    if denoised:
        first.add_denoised_mean(averaged(images(8, 1)))
    first.add_samples(images(8, 2))
    again.restore(*first.dump())
    for mean in (first, again):
        mean.add_samples(images(8, 3))
    assert torch.equal(first.image, again.image)


def test_few_samples_come_near_to_the_exact_mean(
    blurred: tuple[Problem, torch.Tensor, torch.Tensor],
) -> None:
    problem, exact, variance = blurred
    outcome = run(problem, 8, levels=48)

    def error(image: np.ndarray) -> float:
        return float((torch.as_tensor(image) - exact).square().mean() / variance)

    assert error(outcome.samples.mean(0)) > 0.1
    assert error(outcome.mean) < 0.03


def test_the_fit_that_is_certified_is_that_of_the_written_mean(
    blurred: tuple[Problem, torch.Tensor, torch.Tensor],
) -> None:
    to_image = lambda x: 50 * x[:, 0, 3:-3, 2:-5].flip(-1)  # noqa: E731
    shown = replace(blurred[0], to_image=to_image, baseline=None)
    outcome = run(shown, 4, levels=12, collect=1)
    of_samples = torch.as_tensor(outcome.particles).mean(0)
    written = of_samples.clone()
    written[0, 3:-3, 2:-5] = torch.as_tensor(outcome.mean).flip(-1) / 50
    fits = [float(shown.likelihood.chi2(x[None])) for x in (written, of_samples)]
    assert abs(fits[0] / fits[1] - 1) > 0.01
    assert outcome.diagnostics["chi2_mean"] == pytest.approx(fits[0], rel=1e-3)


def test_a_single_sample_is_its_own_mean(
    blurred: tuple[Problem, torch.Tensor, torch.Tensor],
) -> None:
    outcome = run(blurred[0], 1, levels=12, collect=1)
    np.testing.assert_allclose(outcome.mean, outcome.samples[0], atol=1e-6)


def test_rounds_of_a_single_particle_are_averaged() -> None:
    mean, rounds = PosteriorMean(), images(6, 1)
    mean.add_denoised_mean(averaged(images(1, 2)))
    for one in rounds:
        mean.add_samples(one[None])
    torch.testing.assert_close(mean.image, rounds.double().mean(0))


def test_the_mean_does_not_depend_on_how_many_particles_fit_side_by_side(
    blurred: tuple[Problem, torch.Tensor, torch.Tensor],
) -> None:
    means = [run(blurred[0], 4, memory_gb=gb, levels=12).mean for gb in (1e-6, 1.0)]
    np.testing.assert_allclose(*means, atol=2e-4)
