"""Units as they are written in instrument files, in terms of radians, millimetres and keV."""

from __future__ import annotations

import math

__all__ = ["ANGLES", "ENERGIES", "LENGTHS", "factor", "known", "shown_length"]

_DEGREE = math.pi / 180
_JOULE = 1 / 1.602176634e-16  # keV, exact since 2019

# Units of length by the pixel in mm from which on they are used.
_SHOWN = (("mm", 1.0, 0.02), ("um", 1e3, 2e-5), ("nm", 1e6, 0.0))

# Each table: the size of a unit in radians, millimetres or keV.
ANGLES = {
    "deg": _DEGREE, "degree": _DEGREE, "degrees": _DEGREE, "degs": _DEGREE, "°": _DEGREE,
    "rad": 1.0, "radian": 1.0, "radians": 1.0, "mrad": 1e-3, "milliradian": 1e-3,
}  # fmt: skip
LENGTHS = {
    "m": 1e3, "meter": 1e3, "metre": 1e3, "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0,
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3,
    "micron": 1e-3, "micrometer": 1e-3, "micrometre": 1e-3, "nm": 1e-6, "nanometer": 1e-6,
    "nanometre": 1e-6, "a": 1e-7, "å": 1e-7, "angstrom": 1e-7, "pm": 1e-9,
}  # fmt: skip
ENERGIES = {
    "ev": 1e-3, "electronvolt": 1e-3, "kev": 1.0, "kiloelectronvolt": 1.0, "mev": 1e3,
    "megaelectronvolt": 1e3, "j": _JOULE, "joule": _JOULE, "kj": 1e3 * _JOULE,
}  # fmt: skip


def factor(unit: str, table: dict[str, float]) -> float | None:
    """Size of a unit in terms of the table's own; None where the table does not know it.

    Case does not matter, nor does a plural s. (Nobody measures X-rays in milli-electronvolts.)
    """
    name = unit.strip().lower()
    return table.get(name, table.get(name.removesuffix("s")))


def known(table: dict[str, float]) -> str:
    """The short names of a table, for messages."""
    shortest: dict[float, str] = {}
    for name, size in table.items():
        shortest.setdefault(size, name)
    return ", ".join(shortest.values())


def shown_length(pixel_mm: float | None) -> tuple[str, float]:
    """A unit of length for a pixel, and how many there are in a mm."""
    if pixel_mm is None:
        return "px", 1.0
    return next((name, factor) for name, factor, least in _SHOWN if pixel_mm >= least)
