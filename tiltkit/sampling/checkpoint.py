"""The checkpoint of a slice: all that a stopped run needs to go on from its last level."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tiltkit.posterior.level import Info
from tiltkit.posterior.mean import PosteriorMean
from tiltkit.posterior.moments import Moments, Quantiles
from tiltkit.sampling.gaussian.conditioning import LastNoise
from tiltkit.sampling.state import Guidance, LikelihoodTerm, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.problem_digest import ProblemDigest

__all__ = ["CheckpointWriter", "Progress", "load", "save"]

# A checkpoint with another number is one of another release.
FORMAT = 9


@dataclass
class Progress:
    """State and statistics of a group of particles after its last finished level.

    Attributes:
        state: After the last finished level; None before the first.
        infos: Of all finished levels.
        particles: Statistics of the samples so far, in the units of the prior.
        halves: Statistics of early and late collected samples, in the user's units.
        quantiles: Quantiles of all of them, in the user's units.
        mean: Estimate of the posterior mean, in the user's units.
        network_calls: Score evaluations so far.
        seconds: Time spent so far.
        rng: Counters of the random numbers after the last finished level.
    """

    state: State | None = None
    infos: list[Info] = field(default_factory=list)
    particles: Moments = field(default_factory=Moments)
    halves: tuple[Moments, Moments] = field(default_factory=lambda: (Moments(), Moments()))
    quantiles: Quantiles = field(default_factory=Quantiles)
    mean: PosteriorMean = field(default_factory=PosteriorMean)
    network_calls: float = 0.0
    seconds: float = 0.0
    rng: Tensor | None = None

    @property
    def images(self) -> Moments:
        """Statistics of all collected samples, in the user's units."""
        return self.halves[0].merged(self.halves[1], same_group=True)

    def restart_samples(self) -> None:
        """Leave out the samples collected so far."""
        self.particles, self.halves = Moments(), (Moments(), Moments())
        self.quantiles = Quantiles()
        self.mean.restart_samples()

    def start_over(self) -> None:
        """Leave out all levels and samples so far."""
        self.infos, self.mean = [], PosteriorMean()
        self.restart_samples()

    def statistics(self) -> dict[str, Moments | Quantiles | PosteriorMean]:
        """All that samples are taken into, by the names of a checkpoint."""
        early, late = self.halves
        return {
            "particles": self.particles, "early": early, "late": late,
            "quantiles": self.quantiles, "mean": self.mean,
        }  # fmt: skip


def save(path: Path, progress: Progress, digest: ProblemDigest) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: The file; what is there is replaced once the new one is on the disk.
        progress: After at least one level.
        digest: The problem that the checkpoint belongs to.

    Raises:
        OSError, SafetensorError: The disk is full or broken.
    """
    state, rng = progress.state, progress.rng
    assert state is not None and rng is not None  # noqa: S101, PT018  (made after a level)
    tensors = {"c": state.c, "score": state.score, "log_weight": state.log_weight}
    notes: dict[str, Any] = {"format": FORMAT, "problem": asdict(digest)}
    notes |= {"level": state.level, "mean_jacobian": state.mean_jacobian}
    notes |= {"shared_ancestry": state.shared_ancestry, "started_over": state.started_over}
    if state.last_noise is not None:
        tensors |= {
            "last_noise.spread": state.last_noise.spread,
            "last_noise.xi": state.last_noise.xi,
        }
        notes["kernel"] = state.last_noise.kernel_variance
    if state.likelihood_term is not None:
        tensors |= {
            "likelihood_term.potential": state.likelihood_term.potential,
            "likelihood_term.score": state.likelihood_term.score,
        }
    if state.guidance is not None:
        tensors["guidance.score"] = state.guidance.score
        notes["guidance"] = list(state.guidance.variance)
    for name, part in progress.statistics().items():
        own, counts = part.dump()
        tensors |= {f"{name}.{key}": value for key, value in own.items()}
        notes[name] = counts
    tensors["rng"] = rng
    notes |= {
        "infos": [asdict(info) for info in progress.infos],
        "network_calls": progress.network_calls,
        "seconds": progress.seconds,
    }
    new = path.with_name(path.name + ".new")
    # A tensor that shares memory with another one cannot be saved as it is.
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    try:
        save_file(whole, new, metadata={"notes": json.dumps(notes)})
        _sync(new)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def load(path: Path, rng: ParticleRng, digest: ProblemDigest) -> Progress | None:
    """The progress of a checkpoint, its counters put into ``rng``.

    None where there is no checkpoint, or one of another problem or release, or a damaged one: then
    the slice starts again, which costs time and changes nothing.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get("notes", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
        return None
    if notes.get("format") != FORMAT or not digest.matches(**notes["problem"]):
        return None
    rng.restore(tensors["rng"])
    device = rng.device
    progress = Progress(
        state=_state(notes, {name: value.to(device) for name, value in tensors.items()}),
        infos=[Info(**info) for info in notes["infos"]],
        network_calls=notes["network_calls"],
        seconds=notes["seconds"],
    )
    for name, part in progress.statistics().items():
        prefix = f"{name}."
        own = {
            key.removeprefix(prefix): value.to(device)
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        part.restore(own, notes[name])
    return progress


class CheckpointWriter:
    """Keeps a checkpoint up to date at no more than a twentieth of the run's time.

    A run that is interrupted, or fails, leaves its last finished level; one that is killed loses at
    most that share of its time.
    """

    def __init__(self, path: Path | None, progress: Progress, digest: ProblemDigest | None) -> None:
        self._path, self._progress, self._digest = path, progress, digest
        self._saved, self._cost, self._levels = time.perf_counter(), 0.0, len(progress.infos)
        self._whole = True

    def __enter__(self) -> CheckpointWriter:
        return self

    @contextmanager
    def level(self) -> Iterator[None]:
        """Inside of the block the progress takes a level in; half of one is never saved."""
        self._whole = False
        yield
        self._whole = True
        if time.perf_counter() - self._saved >= 20 * self._cost:
            self._save()

    def finished(self) -> None:
        """Save the end, which other groups of the slice may still wait for."""
        self._save()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._save()

    def _save(self) -> None:
        levels = len(self._progress.infos)
        if self._path is None or self._digest is None or not self._whole or levels <= self._levels:
            return
        start = time.perf_counter()
        # Without a checkpoint a run that is stopped loses time, and all others nothing.
        with suppress(OSError, SafetensorError):
            save(self._path, self._progress, self._digest)
            self._levels = levels
        self._saved = time.perf_counter()
        self._cost = self._saved - start


def _sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _state(notes: dict[str, Any], tensors: dict[str, Tensor]) -> State:
    state = State(
        tensors["c"], tensors["score"], tensors["log_weight"].cpu(), notes["level"],
        mean_jacobian=notes["mean_jacobian"],
        shared_ancestry=notes["shared_ancestry"],
        started_over=notes["started_over"],
    )  # fmt: skip
    if "kernel" in notes:
        last_noise = LastNoise(
            tensors["last_noise.spread"], tensors["last_noise.xi"], notes["kernel"]
        )
        state = replace(state, last_noise=last_noise)
    if "likelihood_term.score" in tensors:
        likelihood_term = LikelihoodTerm(
            tensors["likelihood_term.potential"], tensors["likelihood_term.score"]
        )
        state = replace(state, likelihood_term=likelihood_term)
    if "guidance" in notes:
        guidance = Guidance(tensors["guidance.score"], notes["guidance"])
        state = replace(state, guidance=guidance)
    return state
