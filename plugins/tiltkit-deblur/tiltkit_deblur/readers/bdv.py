"""Read BigDataViewer's pairs of an HDF5 file with the pixels and an XML file with all else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.reading import open_hdf5
from tiltkit_deblur.volume import Volume, Window, checked_voxel, micrometres

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BigDataViewer"]


@dataclass(frozen=True, slots=True)
class Setup:
    """One view of the XML: a channel, an angle, a tile."""

    number: int
    name: str
    shape: tuple[int, int, int]
    voxel_um: tuple[float, float, float] | None


class BigDataViewer:
    """``/tTTTTT/sSS/0/cells`` (z, y, x); view setups are presented as channels."""

    @staticmethod
    def matches(path: Path) -> bool:
        """By the names of its groups, or the image loader of its XML."""
        if path.suffix.lower() == ".xml":
            return _root(path).find(".//ImageLoader[@format='bdv.hdf5']") is not None
        with open_hdf5(path) as file:
            return any(re.fullmatch(r"t\d{5,}", name) for name in file)

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Volume]:
        """Open the HDF5 file read-only; either of the two files may be named.

        Raises:
            InputError: A file is missing, cannot be read, or they do not belong together.
        """
        xml, pixels = _pair(path)
        setups = _setups(xml)
        with open_hdf5(pixels) as file:
            times = sorted(int(name[1:]) for name in file if re.fullmatch(r"t\d{5,}", name))
            first = _cells(file, pixels, times[0] if times else 0, setups[0].number)
            odd = [s.name for s in setups if s.shape != setups[0].shape]
            if odd or first.shape != setups[0].shape:
                raise InputError(
                    f"The views of {xml} have different sizes: {setups[0].shape} and"
                    f" {first.shape if not odd else odd[0]}.",
                    "resave one view alone.",
                )

            def block(time: int, channel: int, window: Window) -> NDArray[Any]:
                cells = _cells(file, pixels, times[time], setups[channel].number)
                part = np.asarray(cells[window])
                # Java has no unsigned types: pixels are stored as if they were signed.
                return part.view(np.uint16) if part.dtype == np.int16 else part

            stored = np.dtype(np.uint16) if first.dtype == np.int16 else first.dtype
            yield Volume(
                path=path,
                layout="BigDataViewer",
                shape=(len(times), len(setups), *setups[0].shape),
                dtype=stored,
                read_block=block,
                voxel_um=setups[0].voxel_um,
                channels=[setup.name for setup in setups],
                metadata={"bigdataviewer_xml": xml.read_text(encoding="utf-8", errors="replace")},
            )


def _pair(path: Path) -> tuple[Path, Path]:
    """The XML file and the HDF5 file."""
    if path.suffix.lower() == ".xml":
        loader = _root(path).find(".//ImageLoader/hdf5")
        name = (loader.text or "").strip() if loader is not None else ""
        if not name:
            raise InputError(f"{path} names no HDF5 file.", "give BigDataViewer's dataset.xml.")
        return path, path.parent / name
    xml = path.with_suffix(".xml")
    if not xml.exists():
        raise InputError(
            f"{path} is BigDataViewer's, but its XML file {xml.name} is not beside it.",
            "copy that file to the same folder: voxel sizes and channels are in it.",
        )
    return xml, path


def _root(path: Path) -> ET.Element:
    try:
        # Entities that expand to huge texts need a document type, which these files do not have.
        text = path.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text:
            raise InputError(f"{path} has a document type.", "give BigDataViewer's own XML file.")
        return ET.fromstring(text)  # noqa: S314  (checked above)
    except (ET.ParseError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is no readable XML file: {error}.", "copy it again.") from error


def _setups(xml: Path) -> list[Setup]:
    found = [_setup(element) for element in _root(xml).iter("ViewSetup")]
    if not found:
        raise InputError(f"{xml} describes no view.", "give BigDataViewer's dataset.xml.")
    return sorted(found, key=lambda setup: setup.number)


def _setup(element: ET.Element) -> Setup:
    number = int(element.findtext("id") or 0)
    x, y, z = (int(n) for n in (element.findtext("size") or "0 0 0").split())
    sizes = (element.findtext("voxelSize/size") or "").split()
    scale = micrometres(element.findtext("voxelSize/unit") or "")
    voxel = None
    if scale and len(sizes) == 3:
        voxel = checked_voxel([float(size) * scale for size in reversed(sizes)])
    name = element.findtext("name") or f"setup {number}"
    return Setup(number, name, (z, y, x), voxel)


def _cells(file: h5py.File, path: Path, time: int, setup: int) -> h5py.Dataset:
    groups: Mapping[str, Any] = file
    name = f"t{time:05d}/s{setup:02d}/0/cells"
    if not isinstance(groups.get(name), h5py.Dataset):
        raise InputError(
            f"{path} has no {name}, which its XML file promises.",
            "check that both files belong together.",
        )
    return groups[name]
