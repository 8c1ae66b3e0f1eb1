"""Result files, and which reader reads an input file."""

from __future__ import annotations

from tiltkit.files.reading import open_hdf5

__all__ = ["open_hdf5"]
