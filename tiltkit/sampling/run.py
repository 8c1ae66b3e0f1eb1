"""Drive a sampler down its levels: a generator, so that progress and saving are loops around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.errors import TiltkitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tiltkit.sampling.draw import Draw
    from tiltkit.sampling.state import Info, Sampler, State
    from tiltkit.sampling.target import Target

__all__ = ["run"]


def run(
    target: Target,
    sampler: Sampler,
    draw: Draw,
    state: State | None = None,
    infos: Sequence[Info] = (),
) -> Iterator[tuple[State, Info]]:
    """Yield the state after every level.

    Args:
        target: The problem, made ready.
        sampler: The sampler.
        draw: Randomness.
        state: After the last of the levels that are done already; None to start.
        infos: Of these levels.

    Raises:
        TiltkitError: A prior or operator gave NaN or infinite values.
    """
    visited = list(infos)
    with torch.inference_mode():
        while (level := sampler.next_level(target, state, visited)) is not None:
            if state is None:
                state, info = sampler.init(target, level, draw)
            else:
                state, info = sampler.step(target, state, level, draw)
            visited.append(info)
            _check_finite(state, info)
            yield state, info


def _check_finite(state: State, info: Info) -> None:
    # A sum is finite only when all its terms are: one pass, one number back from the device.
    if not bool(torch.isfinite(state.c.sum() + state.score.sum() + state.log_weight.sum())):
        raise TiltkitError(
            f"The samples became NaN or infinite at noise level {info.noise_level:.3g}.",
            "check that the prior fits this noise level and the data are scaled to its range,"
            " or use a smaller step.",
        )
