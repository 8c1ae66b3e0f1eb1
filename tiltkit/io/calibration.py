"""Calibration files: HDF5, written again as a whole after every draw, renamed when complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiltkit.calibration.draw import Draw
from tiltkit.calibration.functionals import GROUPS
from tiltkit.calibration.ranks import Ranks
from tiltkit.calibration.record import Calibration, Plan
from tiltkit.errors import InputError, UsageError
from tiltkit.io.atomic import part_path, publish, sync
from tiltkit.io.disk import explained
from tiltkit.io.nexus import store_tree
from tiltkit.io.opening import open_hdf5
from tiltkit.io.part import only_opener
from tiltkit.io.reading import tree

__all__ = ["finish", "held", "load_calibration", "resumed", "same_plan", "save_part"]

# The form of the file; another number is one of another release.
_FORMAT = 1
_ARRAYS = ("mean", "labels", "known", "variances")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Exclude other processes from writing the same calibration.

    Raises:
        OutputLockedError: Another process writes it.
    """
    with ExitStack() as stack:
        with explained(path, 0):
            stack.enter_context(only_opener(path))
        yield


def save_part(path: Path, calibration: Calibration) -> None:
    """Write an unfinished calibration to ``OUT.part``, whole or not at all.

    Args:
        path: The final name.
        calibration: With all draws that are finished.

    Raises:
        MachineError: The disk is full or broken.
    """
    part = part_path(path)
    new = part.with_name(part.name + ".next")
    size = sum(getattr(calibration, name).nbytes for name in _ARRAYS)
    try:
        with explained(path, size):
            with h5py.File(new, "w", locking=False) as file:
                _fill(file, calibration)
            sync(new)
            new.replace(part)
    finally:
        new.unlink(missing_ok=True)


def finish(path: Path, calibration: Calibration) -> None:
    """Write the report into a complete calibration, and give it its final name.

    Raises:
        MachineError: The disk is full or broken.
    """
    save_part(path, calibration)
    with explained(path, 0), h5py.File(part_path(path), "r+", locking=False) as file:
        file["report"] = json.dumps(calibration.report())
        if factors := calibration.factors():
            levels = list(next(iter(factors.values())))
            file["factors"] = np.array([list(row.values()) for row in factors.values()])
            file["factors"].attrs["regions"] = json.dumps(list(factors))
            file["factors"].attrs["levels"] = np.array([float(level) for level in levels])
    publish(part_path(path), path)


def load_calibration(path: str | Path, *, part: bool = False) -> Calibration:
    """Read a calibration file.

    Args:
        path: Its final name.
        part: Read the unfinished file.

    Raises:
        InputError: The file cannot be read, is no calibration, or one of another release.
    """
    source = part_path(Path(path)) if part else Path(path)
    with open_hdf5(source) as file:
        if file.attrs.get("creator") != "tiltkit" or file.attrs.get("kind") != "calibration":
            raise InputError(
                f"{source} is no calibration.", "give the file that 'tiltkit calibrate' wrote."
            )
        if file.attrs.get("format") != _FORMAT:
            raise InputError(
                f"{source} was written by another release of tiltkit.", "calibrate again."
            )
        values = json.loads(file["plan"].asstr()[()])
        lists = ("image_shape", "data_shape", "rows", "images_sha256")
        plan = Plan(**values | {name: tuple(values[name]) for name in lists})
        arrays = {name: file[name][()] for name in _ARRAYS}
        draws = {int(name): _draw(group) for name, group in file["draws"].items()}
        given = bool(file["labels"].attrs["given"])
        provenance = tree(file["provenance"])
    found = Calibration(plan, provenance, given_labels=given, draws=draws, **arrays)
    if not part and len(draws) < plan.draws:
        raise InputError(
            f"{path} has {len(draws)} of {plan.draws} draws.", "calibrate again with --resume."
        )
    return found


def resumed(path: Path, plan: Plan) -> Calibration | None:
    """Unfinished calibration of a plan; None where there is none.

    Raises:
        UsageError: The unfinished file is of another plan.
    """
    if not part_path(path).exists():
        return None
    old = load_calibration(path, part=True)
    same_plan(part_path(path), old.plan, plan)
    return old


def same_plan(path: Path, old: Plan, new: Plan) -> None:
    """Check that a file was made with this plan.

    Raises:
        UsageError: It was not.
    """
    before, now = _plain(asdict(old)), _plain(asdict(new))
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        names = _setting_names(before, now) if changed == ["settings"] else changed
        raise UsageError(
            f"{path} was made with another {', '.join(names)}.",
            "use --overwrite to start again, or the settings and input of the first call.",
        )


def _setting_names(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = before["settings"], now["settings"]
    return [name for name in new if old.get(name) != new[name]]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them back, without settings that change speed and rounding only."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    free = ("device", "memory_gb", "swmr", "threads")
    plain["settings"] = {k: v for k, v in plain["settings"].items() if k not in free}
    return plain


def _fill(file: h5py.File, calibration: Calibration) -> None:
    file.attrs.update(creator="tiltkit", kind="calibration", format=_FORMAT)
    file["plan"] = json.dumps(asdict(calibration.plan), default=str)
    store_tree(file.create_group("provenance"), calibration.provenance)
    for name in _ARRAYS:
        file.create_dataset(name, data=getattr(calibration, name))
    file["labels"].attrs["given"] = calibration.given_labels
    draws = file.create_group("draws")
    for number, draw in sorted(calibration.draws.items()):
        group = draws.create_group(str(number))
        group["pixels"] = draw.ranks.pixels
        for name, counts in draw.ranks.groups.items():
            group[f"groups/{name}"] = counts
        for name in ("gain", "held", "exceedance", "seconds"):
            group[name] = getattr(draw, name)


def _draw(group: h5py.Group) -> Draw:
    groups = {name: group[f"groups/{name}"][()] for name in GROUPS if name in group["groups"]}
    return Draw(
        Ranks(group["pixels"][()], groups),
        group["gain"][()],
        group["held"][()],
        group["exceedance"][()],
        float(group["seconds"][()]),
    )
