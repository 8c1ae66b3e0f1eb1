"""Random numbers of particles, counter-based: functions of seed, particle and number of the call.

The generator Squares (Widynski, arXiv:2004.06278) turns the key of a particle and a counter into 64
random bits, and the Box-Muller transform these into two normal numbers. Samples therefore depend
neither on the chunk size nor on the number of particles, and a checkpoint holds counters only.

One implementation serves every device: integer operations of torch on all particles of a chunk at
once. The bits are the same everywhere. Normal numbers differ between devices by the rounding of
logarithm, sine and cosine.

Measured on one CPU thread for 16 complex images of 256x256: 50 ms, 1.7 % of a call of the default
network; one generator of torch per particle needs 20 ms. A chunk costs 19 operations, each a launch
on a GPU. Philox2x32-10 takes as long on a CPU, but 40 operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["ParticleRng", "squares"]

# Pairs of numbers that a CPU computes at once, so that they stay in its cache.
CPU_BLOCK = 2**16
# Last number of the spawn keys of the particles' keys, and of uniform numbers.
KEYS, UNIFORM = 0, 1


class ParticleRng:
    """Random numbers of one run: normal ones per particle, and uniform ones that all share.

    Args:
        seed: Nonnegative integers, at least one. ``(seed, slice)`` gives each slice its own stream,
            ``(seed, slice, group)`` each independent group of particles.
        n: Number of particles.
        device: Device of the normal numbers.
    """

    def __init__(self, seed: Sequence[int], n: int, device: torch.device) -> None:
        self._seed = tuple(seed)
        self._keys = torch.from_numpy(_keys(self._sequence(KEYS), n)).to(device)
        self._calls = np.zeros(n, np.int64)  # of `normal`, per particle
        self._shared_calls = 0  # of `uniform`
        self.device = device

    def normal(self, rows: slice, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Real standard normal numbers (particle, *shape) for the particles ``rows``.

        They are made of 31 or 32 random bits each, and their absolute values are below 6.7.
        """
        calls, keys, size = self._calls[rows], self._keys[rows], prod(shape)
        assert (calls == calls[:1]).all()  # noqa: S101  (particles of a chunk stay together)
        start, pairs = int(calls[0]) << 32, (size + 1) // 2
        self._calls[rows] += 1
        step = len(keys) if self.device.type != "cpu" else max(1, CPU_BLOCK // max(pairs, 1))
        parts = [
            _box_muller(squares(start, pairs, keys[first : first + step]), dtype)
            for first in range(0, len(keys), step)
        ]
        xi = (parts[0] if len(parts) == 1 else torch.cat(parts)).flatten(1)
        return xi[:, :size].reshape(-1, *shape)

    def _sequence(self, *key: int) -> np.random.SeedSequence:
        """Hash of the seed and further numbers."""
        return np.random.SeedSequence(self._seed[0], spawn_key=(*self._seed[1:], *key))

    def uniform(self) -> float:
        """One uniform number in [0, 1) for all particles."""
        word = int(self._sequence(self._shared_calls, UNIFORM).generate_state(1, np.uint64)[0])
        self._shared_calls += 1
        return (word >> 11) * 2.0**-53

    def align(self) -> None:
        """Let all particles go on with the same call, after some of them drew more often."""
        self._calls[:] = self._calls.max(initial=0)

    def dump(self) -> Tensor:
        """Numbers of calls so far (particle + 1,) int64, for `restore`."""
        return torch.tensor([self._shared_calls, *self._calls.tolist()])

    def restore(self, calls: Tensor) -> None:
        """Continue after the calls that `dump` returned."""
        shared, *own = calls.tolist()
        self._shared_calls, self._calls = shared, np.array(own, np.int64)


def _keys(sequence: np.random.SeedSequence, n: int) -> NDArray[np.int64]:
    """Keys (n,) of `squares`; the first ones do not depend on ``n``.

    As its author advises, both halves have eight different hexadecimal digits, none of them 0, and
    the last one is odd.
    """
    # Random numbers in a fixed order of memory, whose ranks are a random permutation of the digits.
    words = sequence.generate_state(30 * n, np.uint64).reshape(n, 2, 15)
    digits = np.argsort(words, axis=2).astype(np.uint64)[..., :8] + np.uint64(1)
    # Of eight different digits at least one is odd, since only seven are even. It goes last.
    odd = (digits % 2).argmax(axis=2)[..., None]
    last = np.take_along_axis(digits, odd, 2)
    np.put_along_axis(digits, odd, digits[..., 7:], 2)
    digits[..., 7:] = last
    halves = (digits << (np.uint64(4) * np.arange(7, -1, -1, dtype=np.uint64))).sum(2)
    keys: NDArray[np.int64] = ((halves[:, 0] << np.uint64(32)) | halves[:, 1]).view(np.int64)
    return keys


def squares(start: int, count: int, keys: Tensor) -> Tensor:
    """Random bits (key, count, 2) int32 of the counters ``start`` to ``start + count - 1``.

    Args:
        start: The first counter, below 2^63.
        count: Number of counters.
        keys: (key,) int64.
    """
    key = keys[:, None]
    y = torch.arange(start, start + count, device=keys.device) * key
    z = y + key
    x = _swapped(torch.addcmul(y, y, y))
    x = _swapped(torch.addcmul(z, x, x))
    x = _swapped(torch.addcmul(y, x, x))
    t = torch.addcmul(z, x, x)
    x = _swapped(t)
    bits, last = _halves(t), _halves(torch.addcmul(y, x, x))
    bits[..., 0].bitwise_xor_(last[..., 1])
    return bits


def _halves(x: Tensor) -> Tensor:
    """Low and high halves (..., 2) int32 of int64 numbers, a view."""
    return x.view(torch.int32).view(*x.shape, 2)


def _swapped(x: Tensor) -> Tensor:
    """The numbers with their low and high halves exchanged."""
    return _halves(x).flip(-1).view(torch.int64)[..., 0]


def _box_muller(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Independent normal numbers (..., 2) of random bits (..., 2) int32."""
    # On the host: numbers with a type.
    half, angle = (torch.tensor(v, dtype=dtype) for v in (2.0**-32, math.pi * 2.0**-31))
    # Uniform in (-1, 1): the middle of its interval, so that it is never 0.
    uniform = torch.add(half, bits[..., 0], alpha=2.0**-31)
    radius = uniform.pow_(-2).log_().sqrt_()  # sqrt(-2 log |uniform|)
    return torch.view_as_real(torch.polar(radius, bits[..., 1] * angle))
