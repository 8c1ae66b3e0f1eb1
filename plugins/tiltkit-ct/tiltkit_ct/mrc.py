"""Headers of MRC stacks, and the tilt angles in them or beside them.

Cheng et al., MRC2014: extensions to the MRC format header for electron cryo-microscopy and
tomography, J. Struct. Biol. 192 (2015) 146-150.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fits", "marked", "tilt_angles"]

_HEADER = 1024  # bytes
_BYTES = {0: 1, 1: 2, 2: 4, 6: 2, 12: 2}  # of a value, by mode; complex ones are no images


def marked(header: bytes) -> bool:
    """True for a header with the mark of the format, which old writers leave out."""
    return header[208:211] == b"MAP"


def fits(header: bytes, size: int) -> bool:
    """True where the file has the size that its header implies, in either byte order."""
    if len(header) < _HEADER:
        return False
    for order in "<>":
        nx, ny, nz, mode = struct.unpack(f"{order}4i", header[:16])
        (extended,) = struct.unpack(f"{order}i", header[92:96])
        if min(nx, ny, nz) > 0 and mode in _BYTES and 0 <= extended < size:
            return bool(_HEADER + extended + nx * ny * nz * _BYTES[mode] <= size)
    return False


def tilt_angles(mrc: Any, n: int, path: Path) -> tuple[NDArray[np.float64], str]:
    """Tilt angles in degrees, from a file beside the stack or from its extended header.

    Raises:
        InputError: There are none, or not one per frame.
    """
    beside = [path.with_suffix(end) for end in (".rawtlt", ".tlt", ".mdoc")]
    beside.append(path.with_name(path.name + ".mdoc"))
    for file in beside:
        if file.is_file():
            angles = _listed(file)
            if len(angles) != n:
                raise InputError(
                    f"{path} has {n} projections, but {file.name} has {len(angles)} angles.",
                    f"give one angle per projection in {file.name}.",
                )
            return angles, file.name
    found = _extended(mrc, n)
    if found is None:
        raise InputError(
            f"{path} has no tilt angles, neither in its header nor in a file beside it.",
            f"write {beside[0].name}: one angle in degrees per line.",
        )
    return found, "its header"


def _listed(file: Path) -> NDArray[np.float64]:
    """Angles of a list of numbers, or of the sections of SerialEM, in the order of the stack."""
    content = file.read_text(errors="replace")
    sections = re.split(r"^\[ZValue\s*=\s*(\d+)\s*\]", content, flags=re.MULTILINE)[1:]
    of_frame: dict[int, str] = {}
    for frame, section in zip(sections[::2], sections[1::2], strict=True):
        if tilt := re.search(r"^\s*TiltAngle\s*=\s*(\S+)", section, re.MULTILINE):
            of_frame[int(frame)] = tilt[1]
    words = [of_frame[frame] for frame in sorted(of_frame)] or content.split()
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        raise InputError(
            f"{file} holds something else than tilt angles.", "write one angle per line."
        ) from None


def _extended(mrc: Any, n: int) -> NDArray[np.float64] | None:
    """Angles of the extended header: a table with names (FEI1, FEI2), or its old plain form.

    The old form has 1024 records of 32 float32 each, the tilt first.
    """
    header = mrc.extended_header
    if header.dtype.names and "Alpha tilt" in header.dtype.names:
        angles = np.asarray(header["Alpha tilt"], np.float64).reshape(-1)
    elif header.nbytes == 1024 * 32 * 4 and n <= 1024:
        order = mrc.header.nx.dtype.newbyteorder("=").byteorder
        angles = np.frombuffer(header.tobytes(), f"{order}f4").reshape(1024, 32)[:, 0]
        angles = angles.astype(np.float64)
    else:
        return None
    angles = angles[:n]
    fits = len(angles) == n and np.isfinite(angles).all() and np.abs(angles).max() <= 180
    return angles if fits and np.ptp(angles) > 0 else None
