"""The training loop: batches, steps, checks on held-out images, saved states."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tiltkit.errors import UsageError
from tiltkit.io.atomic import part_path
from tiltkit.priors.denoiser import NetworkOptions, prior_of
from tiltkit.training import checkpoint
from tiltkit.training.batches import Batch, batches
from tiltkit.training.checkpoint import Checkpoint
from tiltkit.training.group import Group, together
from tiltkit.training.job import Job
from tiltkit.training.learner import Learner, new_network
from tiltkit.training.record import Check, Record
from tiltkit.training.validation import ValidationSet

__all__ = ["Checked", "Stepped", "Stopped", "Trained", "learn"]

# Steps between reads of the losses: each read waits for the device.
_LOOK = 25
_WARM_UP = 300  # steps with a rising rate, until Adam's running averages have settled


@dataclass(frozen=True, slots=True)
class Stepped:
    """Progress of the steps: budget spent (0 to 1), mean loss, and time left in seconds."""

    step: int
    spent: float
    loss: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Checked:
    """A check of the averaged network on held-out images."""

    check: Check
    levels: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """End by the caller; the state is in the file or folder."""

    step: int
    state: Path


@dataclass(frozen=True, slots=True)
class Trained:
    """The end: ``why`` is ``budget``, ``patience`` or ``stopped``."""

    why: str
    record: Record
    best: Mapping[str, Tensor]


def learn(
    job: Job,
    devices: Sequence[torch.device],
    *,
    resume: bool,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Stepped | Checked, None, Trained]:
    """Train on all devices, see `fit`; returns the end of the training."""
    with together(devices, partial(follow, job, resume)) as group:
        for event in fit(job, group, resume=resume, stop=stop):
            if isinstance(event, Trained):
                return event
            yield event
    raise AssertionError("a training ends with what was trained")


def follow(job: Job, resume: bool, group: Group) -> None:
    """Train on a further device, in step with the first one."""
    for _ in fit(job, group, resume=resume):
        pass


def fit(
    job: Job, group: Group, *, resume: bool, stop: Callable[[], bool] = lambda: False
) -> Iterator[Stepped | Checked | Trained]:
    """Train until the budget is spent, nothing improves any more, or ``stop`` returns true.

    Args:
        job: The training.
        group: This device among all that share the batches.
        resume: Continue from a saved state, where there is one.
        stop: Called at every step; the state is saved before the end.
    """
    return _Loop(job, group, resume=resume).run(stop)


class _Loop:
    def __init__(self, job: Job, group: Group, *, resume: bool) -> None:
        self.job, self.group, self.training = job, group, job.recipe.training
        net = new_network(job.recipe, job.sigma_data, job.sigma_range)
        self.learner = Learner(net, group.device, self.training, group.wrap)
        self.kept = Checkpoint(Record(), {}, job.settings())
        self.path = part_path(job.output)
        if resume and self.path.exists():
            self.kept = checkpoint.load(self.path, self.learner, self.kept.settings)
        self.record = self.kept.record
        self.validation: ValidationSet = job.validation()
        self.pending: list[Tensor] = []

    def run(self, stop: Callable[[], bool]) -> Iterator[Stepped | Checked | Trained]:
        feed = self._feed()
        saved = time.monotonic()
        begun = saved - self.record.seconds
        while True:
            now = time.monotonic()
            self.record.seconds = now - begun
            late = now - saved > 60 * self.training.save_minutes
            spent, stopped, saving = self.group.agreed(self._spent(), stop(), late)
            checking = int(spent * self.training.checks) > self.record.due
            if checking or stopped or saving or len(self.pending) >= _LOOK:
                yield from self._look(spent)
            paused = time.monotonic()
            if checking:
                yield self._check(spent)
            end = self._end(spent, stopped=bool(stopped))
            if checking or saving or end:
                self._save()
                saved = time.monotonic()
            if end:
                yield Trained(end, self.record, self.kept.best)
                return
            begun += time.monotonic() - paused  # the budget is for learning alone
            self.pending.append(self.learner.step(next(feed), self._rate(spent)))
            self.record.step += 1

    def _feed(self) -> Iterator[Batch]:
        cuda = self.group.device.type == "cuda"
        workers = self.training.workers
        if workers is None:
            workers = 6 if cuda else 1
        source = self.job.batches(self.group.rank, self.group.size)
        return batches(source, self.record.step, workers, pin=cuda)

    def _spent(self) -> float:
        """The part of the budget that is used up."""
        if self.training.steps is not None:
            return self.record.step / self.training.steps
        assert self.training.minutes is not None  # noqa: S101 - a recipe has one of the two
        return self.record.seconds / (60 * self.training.minutes)

    def _rate(self, spent: float) -> float:
        """Up to the peak over 300 steps or a tenth of the budget, then as a cosine to zero."""
        up = max((self.record.step + 1) / _WARM_UP, spent / 0.1)
        return self.training.rate * min(1.0, up) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, spent)))

    def _look(self, spent: float) -> Iterator[Stepped]:
        """Fetch the losses since the last read."""
        if not self.pending:
            return
        losses = self.group.mean(torch.stack(self.pending)).tolist()
        self.pending.clear()
        if not all(map(math.isfinite, losses)):
            raise UsageError(
                f"The training diverged before step {self.record.step}: its loss is not finite.",
                "lower training.rate and start again with --overwrite.",
            )
        self.record.losses += losses
        left = self.record.seconds / spent * max(0.0, 1 - spent) if spent else math.inf
        yield Stepped(self.record.step, spent, sum(losses) / len(losses), left)

    def _check(self, spent: float) -> Checked:
        """Measure the averaged network, on rank 0, and keep it when it is the best so far."""
        self.record.due = int(spent * self.training.checks)
        levels = self.validation.levels
        net = self.learner.averaged()
        psnr = (0.0,) * len(levels)
        if self.group.rank == 0:
            options = NetworkOptions(precision=self.training.precision)
            denoise = prior_of(net, {}, options).to(self.group.device).denoise
            psnr = self.validation.psnr(denoise, self.group.device)
        check = Check(self.record.step, tuple(self.group.agreed(*psnr)))
        self.record.checks.append(check)
        if self.record.best is check:
            best = {name: value.cpu() for name, value in net.state_dict().items()}
            self.kept = replace(self.kept, best=best)
        return Checked(check, levels)

    def _end(self, spent: float, *, stopped: bool) -> str:
        if spent >= 1:
            return "budget"
        if self.record.stale >= self.training.patience:
            return "patience"
        return "stopped" if stopped else ""

    def _save(self) -> None:
        if self.group.rank == 0:
            checkpoint.save(self.path, self.learner, self.kept)
