"""The end of a training: weights, samples, model card and page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tiltkit.digest import digest
from tiltkit.errors import MachineError
from tiltkit.io.atomic import part_path, publish
from tiltkit.priors.check.ancestral import along
from tiltkit.priors.denoiser import DenoiserPrior, NetworkOptions, is_low, prior_of
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.weights import save_network
from tiltkit.sampling.particles.ladder import ladder
from tiltkit.training.card import card, notes
from tiltkit.training.job import Job
from tiltkit.training.learner import new_network
from tiltkit.training.loop import Trained
from tiltkit.training.outcome import Outcome
from tiltkit.training.page import page
from tiltkit.training.profile import training_profile
from tiltkit.training.validation import ValidationSet

__all__ = ["Finished", "finish"]

# Number of samples on the page, which fill one line, and their side in pixels where training crops
# are smaller: memory grows with its square.
_SAMPLES, _SIDE = 6, 128


@dataclass(frozen=True, slots=True)
class Finished:
    """The prior is written."""

    outcome: Outcome
    weights: Path
    card: Path
    page: Path


def finish(
    job: Job,
    validation: ValidationSet,
    trained: Trained,
    beside: tuple[tuple[float, ...], tuple[float, ...]],
    devices: Sequence[torch.device],
) -> Finished:
    """Draw samples from the best weights, write everything, remove the state.

    Args:
        job: The training.
        validation: Images that it was measured on.
        trained: Record and best weights of the training.
        beside: PSNR of total variation and of the noisy images, in dB per level.
        devices: Devices of the training; samples are drawn on the first one.

    Raises:
        MachineError: A file could not be written; the state is kept.
    """
    net = new_network(job.recipe, job.sigma_data, job.sigma_range)
    net.load_state_dict(dict(trained.best))
    net = net.eval().requires_grad_(requires_grad=False)
    outcome = _outcome(job, validation, trained, net, beside, devices)
    profile = training_profile(job, net.to(devices[0]), devices[0])
    state = part_path(job.output)
    weights = part_path(state)
    try:
        save_network(weights, net.cpu(), notes(outcome), profile)
        outcome = replace(outcome, sha256=digest(weights))
        files = Finished(
            outcome,
            job.output,
            _text(job.output.with_suffix(".md"), card(outcome)),
            _text(job.output.with_suffix(".html"), page(outcome)),
        )
    except OSError as error:
        raise MachineError(
            f"The prior could not be written to {job.output}: {error.strerror}.",
            "free some space and go on with --resume.",
        ) from error
    publish(weights, job.output)
    state.unlink(missing_ok=True)
    return files


def _outcome(
    job: Job,
    validation: ValidationSet,
    trained: Trained,
    net: ScoreUNet,
    beside: tuple[tuple[float, ...], tuple[float, ...]],
    devices: Sequence[torch.device],
) -> Outcome:
    """Figures and sample images of a finished training; arguments as of `finish`."""
    training, data = job.recipe.training, job.recipe.data
    prior = prior_of(net, {}, NetworkOptions(precision=training.precision)).to(devices[0])
    held_out = validation.images[:_SAMPLES]
    # the largest square in all of them, for pictures beside each other
    side = min(max(training.crop, _SIDE), *(n for x in held_out for n in x.shape[-2:]))
    shape = (_SAMPLES, job.recipe.channels, side, side)
    low = is_low(training.precision, devices[0])
    samples = unconditional_samples(prior, shape, job.recipe.seed, devices[0])
    return Outcome(
        job=job,
        record=trained.record,
        why=trained.why,
        levels=validation.levels,
        tv=beside[0],
        noise_only=beside[1],
        parameters=sum(p.numel() for p in net.parameters()),
        device=", ".join(map(str, devices)),
        precision="bfloat16" if low else "float32",
        samples=_visible(samples, data.kind),
        held_out=_visible(torch.stack([_middle(x, side) for x in held_out]), data.kind),
    )


def _text(path: Path, text: str) -> Path:
    part = part_path(path)
    part.write_text(text, encoding="utf-8")
    publish(part, path)
    return path


def _middle(image: Tensor, side: int) -> Tensor:
    top, left = ((n - side) // 2 for n in image.shape[-2:])
    return image[:, top : top + side, left : left + side]


def unconditional_samples(
    prior: DenoiserPrior, shape: tuple[int, ...], seed: int, device: torch.device
) -> Tensor:
    """Samples (batch, channel, row, column) of the prior without data."""
    low, high = prior.sigma_range
    generator = torch.Generator().manual_seed(seed)
    levels = ladder(high, low, 64)
    return along(prior, shape, levels, generator=generator, device=str(device)).cpu()


def _visible(images: Tensor, kind: str) -> Tensor:
    """One grey image (row, column) each: the magnitude, or the mean over the channels."""
    return images.norm(dim=1) if kind == "complex" else images.mean(1)
