"""Further rounds of moves at the last level, until the spread of the samples has settled."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from tiltkit.posterior.rhat import independent_samples
from tiltkit.posterior.stein import stein_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.posterior.level import Info
    from tiltkit.posterior.verdict import BandCheck
    from tiltkit.sampling.state import State
    from tiltkit.sampling.target import Target

__all__ = ["further_rounds", "level_or_settling"]

# Deviation of a band's variance ratio from 1 that counts as settled, and the standard errors that
# chance explains.
SETTLED, CHANCE = 0.1, 2.0


class Settling(Protocol):
    """The methods of a `Sampler` that `level_or_settling` needs."""

    def levels(self, target: Target) -> Sequence[float]:
        """See `Sampler`."""
        ...

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        ...

    def scores(self, target: Target, state: State) -> Tensor | None:
        """See `Sampler`."""
        ...


def level_or_settling(
    level: float | None,
    target: Target,
    sampler: Settling,
    state: State | None,
    infos: Sequence[Info],
    share: float,
) -> float | None:
    """The planned level; after the last the same once more, while a band can still settle.

    Moves at the last level ``tau`` change a coefficient by ``tau`` at most. Bands whose standard
    deviation is above ``tau`` times the root of the number of rounds do not settle, and are not
    waited for.

    Args:
        level: The planned level; None after the last.
        target: The problem.
        sampler: The sampler; a round at its last level costs one network call.
        state: State after the level before; None before the first.
        infos: Reports of all levels so far.
        share: Network calls of further rounds, at most, over those of the planned levels.
    """
    if level is not None or state is None or not share:
        return level
    rounds = further_rounds(sampler, target, infos)
    most = int(share * (target.network_calls - rounds))
    if rounds >= most:
        return None
    x, score = sampler.images(target, state), sampler.scores(target, state)
    independent = independent_samples(target.n, state.shared_ancestry)
    report = stein_report(target.problem, x, score, independent, target.chunk)
    waiting = [
        band for band in report.get("bands", ())
        if not _settled(band) and band.variance < most * state.level**2
    ]  # fmt: skip
    return state.level if waiting else None


def further_rounds(sampler: Settling, target: Target, infos: Sequence[Info]) -> int:
    """Number of rounds at the last level beyond the planned ones.

    0 for samplers without the option ``settle``: they need not repeat their last level.

    Args:
        sampler: The sampler.
        target: The problem.
        infos: Reports of all levels of a run.
    """
    if not getattr(getattr(sampler, "options", None), "settle", 0):
        return 0
    planned = sum(a == b for a, b in pairwise(sampler.levels(target)))
    return max(sum(info.final for info in infos) - planned, 0)


def _settled(band: BandCheck) -> bool:
    return abs(band.spread - 1) <= max(SETTLED, CHANCE * band.spread_error)
