"""Record of a training: steps, losses, measurements on held-out images."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Check", "Record"]

# An improvement of the mean PSNR below this (dB) does not count.
_WORTH = 0.02


@dataclass(frozen=True, slots=True)
class Check:
    """One measurement of the averaged network.

    Attributes:
        step: Steps before it.
        psnr: PSNR in dB, one per noise level.
    """

    step: int
    psnr: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the noise levels."""
        return sum(self.psnr) / len(self.psnr)


@dataclass(slots=True)
class Record:
    """Progress of a training.

    Attributes:
        step: Number of steps.
        seconds: Time of the steps, without checks.
        due: Number of checks that have come due.
        losses: Loss of each step, the mean over all devices.
        checks: Checks in order.
    """

    step: int = 0
    seconds: float = 0.0
    due: int = 0
    losses: list[float] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def best(self) -> Check | None:
        """The check that counts as the best one: the last that improved enough."""
        best: Check | None = None
        for check in self.checks:
            if best is None or check.mean > best.mean + _WORTH:
                best = check
        return best

    @property
    def stale(self) -> int:
        """Checks since the best one."""
        return 0 if self.best is None else len(self.checks) - 1 - self.checks.index(self.best)
