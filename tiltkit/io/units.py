"""Units of angle, length and energy as instrument files write them: sizes in rad, mm and keV."""

from __future__ import annotations

import math

__all__ = ["ANGLES", "ENERGIES", "LENGTHS", "display_length", "unit_names", "unit_size"]

_DEGREE = math.pi / 180
_JOULE = 1 / 1.602176634e-16  # keV, exact since 2019

# Units of length for axes: name, units per mm, and the smallest pixel in mm that is given in them.
_DISPLAYED = (("mm", 1.0, 0.02), ("um", 1e3, 2e-5), ("nm", 1e6, 0.0))

# Size of each unit by its name in lower case: in radians, millimetres or keV.
ANGLES = {
    "deg": _DEGREE, "degree": _DEGREE, "degrees": _DEGREE, "degs": _DEGREE, "°": _DEGREE,
    "rad": 1.0, "radian": 1.0, "radians": 1.0, "mrad": 1e-3, "milliradian": 1e-3,
}  # fmt: skip
LENGTHS = {
    "m": 1e3, "meter": 1e3, "metre": 1e3, "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0,
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3,
    "micron": 1e-3, "\\u00b5m": 1e-3, "micrometer": 1e-3, "micrometre": 1e-3,
    "nm": 1e-6, "nanometer": 1e-6, "nanometre": 1e-6,
    "a": 1e-7, "å": 1e-7, "angstrom": 1e-7, "pm": 1e-9,
}  # fmt: skip
ENERGIES = {
    "ev": 1e-3, "electronvolt": 1e-3, "kev": 1.0, "kiloelectronvolt": 1.0, "mev": 1e3,
    "megaelectronvolt": 1e3, "j": _JOULE, "joule": _JOULE, "kj": 1e3 * _JOULE,
}  # fmt: skip


def unit_size(unit: str, table: dict[str, float]) -> float | None:
    """Size of a unit in the base unit of a table; None where the table does not have it.

    Case and a plural s are ignored, so that "MeV" and "meV" are both the former.
    """
    name = unit.strip().lower()
    return table.get(name, table.get(name.removesuffix("s")))


def unit_names(table: dict[str, float]) -> str:
    """One name for each unit of a table, for messages."""
    shortest: dict[float, str] = {}
    for name, size in table.items():
        shortest.setdefault(size, name)
    return ", ".join(shortest.values())


def display_length(pixel_mm: float | None) -> tuple[str, float]:
    """Unit in which to display lengths for pixels of a given size, and units per mm."""
    if pixel_mm is None:
        return "px", 1.0
    return next((name, factor) for name, factor, least in _DISPLAYED if pixel_mm >= least)
