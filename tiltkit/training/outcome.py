"""The outcome of a training, for the model card and the page."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tiltkit.training.job import Job
from tiltkit.training.record import Check, Record

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes:
        job: The training.
        record: Losses and checks.
        why: Reason of the end: ``budget`` or ``patience``.
        levels: Noise levels of the table.
        tv: PSNR of total variation with the best strength in hindsight, in dB per level.
        noise_only: PSNR of the noisy images themselves.
        parameters: Number of parameters of the network.
        device: Names of the devices.
        precision: Number type inside the network while training.
        samples: Unconditional samples of the prior (batch, row, column).
        held_out: Held-out images of the same size (batch, row, column).
        sha256: Digest of the weights file; empty until it is written.
    """

    job: Job
    record: Record
    why: str
    levels: tuple[float, ...]
    tv: tuple[float, ...]
    noise_only: tuple[float, ...]
    parameters: int
    device: str
    precision: str
    samples: Tensor
    held_out: Tensor
    sha256: str = ""

    @property
    def best(self) -> Check:
        """The check whose weights were kept."""
        assert self.record.best is not None  # noqa: S101 - a training ends with a check
        return self.record.best

    @property
    def steps(self) -> str:
        """Number of steps, in words."""
        scans, steps = self.job.recipe.scans, f"{self.record.step} steps"
        return f"{steps} in the last of {scans.rounds} rounds" if scans else steps

    @property
    def gain(self) -> tuple[float, ...]:
        """PSNR above total variation, in dB per level."""
        return tuple(a - b for a, b in zip(self.best.psnr, self.tv, strict=True))

    def cautions(self) -> list[str]:
        """Reasons for care, one or two sentences each."""
        found = []
        split = self.job.split
        if {s.name for s in split.train} & {s.name for s in split.held_out}:
            found.append(f"No other subject was measured: {split.note}.")
        elif len(split.train) < 5:
            found.append(
                f"It was trained on {len(split.train)} subject{'s' * (len(split.train) != 1)}: its"
                " samples will look like them, and its intervals will be too narrow for others."
            )
        behind = [s for s, gain in zip(self.levels, self.gain, strict=True) if gain < 0]
        if behind:
            at = ", ".join(f"{s:g}" for s in behind)
            found.append(
                f"Total variation denoises better at noise {at}: train longer, or on more images."
            )
        if self.why == "patience":
            found.append(
                f"It was stopped early: nothing improved after step {self.best.step}. More images"
                " or stronger augmentation would help, longer training would not."
            )
        if self.job.recipe.data.noise > 0:
            found.append(
                f"It was trained on noisy images and has no noise levels below"
                f" {self.job.sigma_range[0]:.3g}; the figures below are estimates of those for"
                " clean images."
            )
        if self.job.recipe.scans:
            found.append(
                "It was trained on undersampled scans alone. Detail that no scan measured is not in"
                " it, and the figures compare with images that such a prior drew, not with a truth."
            )
        return found
