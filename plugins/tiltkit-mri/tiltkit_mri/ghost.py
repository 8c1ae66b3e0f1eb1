"""Ghosts of echo-planar imaging: odd columns of k-space that differ from even ones by a phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ghost", "find_ghost", "without_ghost"]

# With fewer coils a ghost cannot be told from structure of the object.
_FEWEST_COILS = 3
# Lines and rows at the centre of k-space that are compared, at most and at least.
_MOST, _FEWEST = 32, 10
# Smallest phase, root mean square over the object in radians, of the first estimate and of the
# final one. Without a ghost they are up to 0.18 and 0.03 (15 simulated scans, 9 real ones).
_LEAST_FIRST, _LEAST = 0.15, 0.1
# A correction must lower the energy outside of the signal's subspace to this share.
_LOWERED = 0.98
# Virtual coils, and side of the patches whose subspace is compared.
_COILS, _PATCH = 8, 5


@dataclass(frozen=True, slots=True)
class Ghost:
    """Phase of odd columns relative to even ones, linear along the readout in the image.

    Attributes:
        offset: Phase at the centre of the image, in radians.
        slope: Turns over the field of view: the shift of odd columns along the readout, in samples.
    """

    offset: float
    slope: float

    def phase(self, rows: int) -> NDArray[np.float64]:
        """Phase (row,) in radians."""
        position = (np.arange(rows) - rows // 2) / rows
        return self.offset + 2 * np.pi * self.slope * position


def find_ghost(data: NDArray[np.complexfloating], lines: range) -> Ghost | None:
    """The phase between odd and even columns, or None where there is none.

    The phase is estimated from products of neighbouring lines, and then chosen such that patches of
    k-space have the least energy outside of a subspace of half of their dimension: the coils of a
    slice without ghost span a small one (Uecker et al., ESPIRiT, 2014).

    Args:
        data: k-space (coil, row, column).
        lines: Calibration lines, side by side.
    """
    centre = data.shape[2] // 2
    run = range(max(lines.start, centre - _MOST // 2), min(lines.stop, centre + _MOST // 2))
    if len(data) < _FEWEST_COILS or len(run) < _FEWEST or data.shape[1] < 2 * _FEWEST:
        return None
    hybrid = _along_rows(_principal(data[:, :, run.start : run.stop]))
    odd = np.arange(run.start, run.stop) % 2 == 1
    power = np.square(np.abs(hybrid)).sum(axis=(0, 2))

    def size(ghost: Ghost) -> float:
        square = np.square(ghost.phase(len(power)))
        return float(np.sqrt((power * square).sum() / power.sum()))

    first = _from_neighbours(hybrid, odd)
    if size(first) < _LEAST_FIRST:
        return None
    from scipy.optimize import minimize  # slow to import, and seldom needed

    def energy(parameters: Any) -> float:
        return _outside(hybrid, odd, Ghost(*parameters))

    start = np.array([first.offset, first.slope])
    simplex = start + np.array([[0, 0], [0.15, 0], [0, 0.05]])
    options = {"initial_simplex": simplex, "maxfev": 60, "xatol": 1e-3, "fatol": 0}
    best = minimize(energy, start, method="Nelder-Mead", options=options)
    found = Ghost(*(float(value) for value in best.x))
    lowered = best.fun < _LOWERED * energy([0, 0])
    return found if lowered and size(found) >= _LEAST else None


def without_ghost(data: NDArray[np.complexfloating], ghost: Ghost) -> NDArray[np.complex64]:
    """k-space (coil, row, column) with the phase of odd columns removed."""
    hybrid = _along_rows(data[..., 1::2])
    hybrid = hybrid * np.exp(-1j * ghost.phase(data.shape[1]))[:, None]
    back = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(hybrid, axes=1), axis=1), axes=1)
    corrected = np.array(data, dtype=np.complex64)
    corrected[..., 1::2] = back
    return corrected


def _along_rows(data: NDArray[Any]) -> NDArray[Any]:
    """Inverse Fourier transform of k-space along the readout."""
    shifted = np.fft.ifftshift(data, axes=1)
    hybrid: NDArray[Any] = np.fft.fftshift(np.fft.ifft(shifted, axis=1), axes=1)
    return hybrid


def _principal(data: NDArray[Any]) -> NDArray[Any]:
    """The virtual coils with the most energy."""
    flat = data.reshape(len(data), -1).astype(np.complex128)
    _, vectors = np.linalg.eigh(flat @ flat.conj().T)
    strongest = vectors[:, -_COILS:].conj().T
    found: NDArray[Any] = np.einsum("vc,cyx->vyx", strongest, data)
    return found


def _from_neighbours(hybrid: NDArray[Any], odd: NDArray[np.bool_]) -> Ghost:
    """Phase from lines next to each other: odd after even ones against even after odd ones.

    The product of a line and its predecessor has the phase of the object's position, plus that of
    the ghost if the line is odd, and less it if it is even. Lines count alike, rows by their power.
    """
    strength = np.sqrt(np.square(np.abs(hybrid)).sum(axis=0))
    products = (hybrid[..., 1:] * hybrid[..., :-1].conj()).sum(axis=0)
    products /= np.maximum(strength[:, 1:] * strength[:, :-1], 1e-30 * strength.max() ** 2)
    later = products[:, odd[1:]].sum(axis=1)
    earlier = products[:, ~odd[1:]].sum(axis=1)
    twice = later * earlier.conj() * np.square(strength).sum(axis=1)
    rows, finer = len(twice), 16
    spectrum = np.fft.fft(np.fft.ifftshift(twice), finer * rows)
    turns = np.fft.fftfreq(finer * rows, 1 / rows)
    near = np.abs(turns) <= 4
    best = int(np.argmax(np.where(near, np.abs(spectrum), 0)))
    position = (np.arange(rows) - rows // 2) / rows
    constant = (twice * np.exp(-2j * np.pi * turns[best] * position)).sum()
    return Ghost(float(np.angle(constant)) / 2, float(turns[best]) / 2)


def _outside(hybrid: NDArray[Any], odd: NDArray[np.bool_], ghost: Ghost) -> float:
    """Energy of patches outside of their strongest subspace, of half of all dimensions."""
    rows = hybrid.shape[1]
    phase = np.where(odd[None], ghost.phase(rows)[:, None], 0.0)
    height = min(_MOST, rows) // 2
    frequency = np.arange(-height, height)
    position = np.arange(rows) - rows // 2
    transform = np.exp(-2j * np.pi / rows * np.outer(frequency, position))
    block = np.einsum("ky,cyx->ckx", transform, hybrid * np.exp(-1j * phase))
    patches = sliding_window_view(block, (_PATCH, _PATCH), axis=(1, 2))
    matrix = patches.transpose(1, 2, 0, 3, 4).reshape(-1, len(block) * _PATCH**2)
    values = np.linalg.eigvalsh(matrix.conj().T @ matrix)
    return float(values[: len(values) // 2].sum())
