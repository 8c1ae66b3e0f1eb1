"""Memory that a run leaves for the matrices of operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["matrix_memory", "run_memory"]

# Share of the memory of a run for matrices; the rest is for samples.
_SHARE = 0.5

_gigabytes: ContextVar[float | None] = ContextVar("gigabytes", default=None)


@contextmanager
def run_memory(gigabytes: float | None) -> Iterator[None]:
    """State the memory of a run, in this thread and block; None for no limit."""
    token = _gigabytes.set(gigabytes)
    try:
        yield
    finally:
        _gigabytes.reset(token)


def matrix_memory(most: int) -> int:
    """Largest size in bytes of the matrices of an operator, at most ``most``."""
    gigabytes = _gigabytes.get()
    return most if gigabytes is None else min(most, int(_SHARE * gigabytes * 1e9))
