"""Read scans stored as TIFF files, one per frame or several frames in a file.

Flats and darks are recognised by the names of their folders or files: ``flat_0001.tif`` beside
``proj_0001.tif``, or folders ``tomo``, ``flat_before``, ``flat_after``, ``dark``, as Mantid Imaging
exports them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_ct.angles import assumed_angles, listed_angles
from tiltkit_ct.frames import stack
from tiltkit_ct.projections import Projections
from tiltkit_ct.tiff_frames import tiff_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.projections import Stack

__all__ = ["TiffFolder"]

_SUFFIXES = (".tif", ".tiff")
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Words in the names of files and folders.
_KINDS = {
    "flats": re.compile(
        r"flats?|flatfields?|whites?|refs?|references?|open|openbeam|ob|bright|brightfield"
    ),
    "darks": re.compile(r"darks?|darkfields?|df|dc|di"),
}
_ALL_KINDS = ("projections", *_KINDS)
_AFTER = frozenset(("after", "post"))
# A single view for alignment, as Mantid Imaging stores it beside a scan.
_OTHER = frozenset(("proj180", "180deg", "deg180"))
_ANGLES = re.compile(r"(.*[^a-z])?(angles?|thetas?)([^a-z].*)?\.(txt|csv|dat)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Group:
    """Frames of one kind in one place.

    Attributes:
        name: The folder, or the first file, for people.
        files: Files in the order of their numbers.
        kind: projections, flats or darks.
        after: They were taken after the scan; before it where not.
    """

    name: str
    files: tuple[Path, ...]
    kind: str = "projections"
    after: bool = False


class TiffFolder:
    """Reader of a folder with TIFF files, or of one TIFF file with several pages."""

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a folder with projections in TIFF files, and for a TIFF file."""
        if path.is_dir():
            return any(group.kind == "projections" for group in _groups(path))
        if path.suffix.lower() not in _SUFFIXES:
            return False
        with path.open("rb") as file:
            return file.read(4) in _MAGIC

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Projections]:
        """Find the frames of a scan; they are read later, in parts.

        Raises:
            InputError: There are no projections, or they cannot be told from other images.
        """
        yield _scan(path)


def _scan(path: Path) -> Projections:
    groups = _groups(path) if path.is_dir() else [_Group(path.name, (path,))]
    projections = _projections(groups, path)
    frames = tiff_frames(projections.files)
    n, rows, columns = frames.shape
    notes = [Note("frames_source", _described(path, groups))] if path.is_dir() else []
    angles = _angles(path, n, notes)
    return Projections(
        path=path,
        layout="TIFF files",
        projections=stack(frames, (0, 1, 2), np.arange(n), np.arange(n, dtype=np.float64)),
        stored_angles=angles,
        angle_unit="deg",
        rows=range(rows),
        columns=range(columns),
        flats=_references(groups, "flats", (rows, columns), n),
        darks=_references(groups, "darks", (rows, columns), n),
        notes=tuple(notes),
    )


def _groups(path: Path) -> list[_Group]:
    """TIFF files of a folder by their names, and those of the folders inside it."""
    files = _tiffs(path)
    words = [_words(file.stem) for file in files]
    # Words that all names share tell nothing apart.
    common = frozenset.intersection(*words) if len(set(words)) > 1 else frozenset[str]()
    kinds = [_kind(own - common) for own in words]
    groups = []
    for kind, after in dict.fromkeys(kinds):
        some = [f for f, own in zip(files, kinds, strict=True) if own == (kind, after)]
        groups.append(_Group(some[0].name, tuple(some), kind, after))
    for folder in sorted(item for item in path.iterdir() if item.is_dir()):
        if (inside := _tiffs(folder)) and not _words(folder.name) & _OTHER:
            groups.append(_Group(f"{folder.name}/", inside, *_kind(_words(folder.name))))
    return groups


def _projections(groups: Sequence[_Group], path: Path) -> _Group:
    """The one group that is neither flats nor darks.

    Raises:
        InputError: There is none, or several.
    """
    found = [group for group in groups if group.kind == "projections"]
    if not found:
        raise InputError(
            f"{path} has no projections in TIFF files.",
            "put them into the folder itself, or into a folder inside it.",
        )
    if len(found) > 1:
        raise InputError(
            f"{path} has TIFF files in {' and '.join(group.name for group in found)}, of which one"
            " must hold the projections.",
            "name the others after flat or dark, or give the folder of one scan.",
        )
    return found[0]


def _kind(words: frozenset[str]) -> tuple[str, bool]:
    """Kind of frames by the words of their names, and whether they were taken after the scan."""
    for kind, names in _KINDS.items():
        if any(names.fullmatch(word) for word in words):
            return kind, bool(words & _AFTER)
    return "projections", False


def _words(name: str) -> frozenset[str]:
    """Words of a name in small letters: ``Flat_Before`` has flat and before."""
    lower = name.lower()
    return frozenset(re.findall(r"[a-z]+", lower)) | {re.sub(r"[^a-z0-9]", "", lower)}


def _tiffs(folder: Path) -> tuple[Path, ...]:
    """TIFF files of a folder in the order of the numbers in their names."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES]

    def numbered(file: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", file.stem)
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

    return tuple(sorted(files, key=numbered))


def _references(
    groups: Sequence[_Group], kind: str, shape: tuple[int, int], n: int
) -> Stack | None:
    """Flats or darks, before the first of ``n`` projections or after the last."""
    some = [group for group in groups if group.kind == kind]
    if not some:
        return None
    parts = [tiff_frames(group.files) for group in some]
    for group, part in zip(some, parts, strict=True):
        if part.image != shape:
            raise InputError(
                f"{group.name} has frames of shape {part.image}, the projections {shape}.",
                "flats and darks must come from the same detector region as the projections.",
            )
    times = [
        np.full(len(part.pages), n - 0.5 if group.after else -0.5)
        for group, part in zip(some, parts, strict=True)
    ]
    pages = tuple(page for part in parts for page in part.pages)
    frames = replace(parts[0], pages=pages)
    return stack(frames, (0, 1, 2), np.arange(len(pages)), np.concatenate(times))


def _angles(path: Path, n: int, notes: list[Note]) -> NDArray[np.float64]:
    """Angles in degrees from a list in the folder, or half a turn."""
    listed = sorted(file for file in path.iterdir() if _ANGLES.fullmatch(file.name)) \
        if path.is_dir() else []  # fmt: skip
    angles, note = listed_angles(listed[0], n) if listed else assumed_angles(n)
    notes.append(note)
    return angles


def _described(path: Path, groups: Sequence[_Group]) -> str:
    """Where frames were found, in a sentence."""

    def place(group: _Group) -> str:
        more = len(group.files) - 1
        inside = group.name.endswith("/") or not more
        return group.name if inside else f"{group.name} and {more} more files"

    places = {kind: [place(g) for g in groups if g.kind == kind] for kind in _ALL_KINDS}
    parts = [f"{kind} in {' and '.join(names)}" for kind, names in places.items() if names]
    return f"By its names {path.name} has {', '.join(parts)}."
