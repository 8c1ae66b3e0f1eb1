"""Certificates in a result file: scalars by slice, and curves along the noise levels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import h5py
import numpy as np

from tiltkit.posterior.level import REMOVED, RENAMED
from tiltkit.posterior.verdict import BandCheck, stored_verdict, verdict_text
from tiltkit.posterior.warnings import LEGACY, Caution
from tiltkit.problem import Note

__all__ = [
    "RECORDS", "early_allocation", "finish_ladder", "members", "plain_value", "read_diagnostics",
    "read_records", "renew_texts", "write_diagnostics",
]  # fmt: skip

COMPLETE = "complete"
_TEXT = h5py.string_dtype()
# Lists of records by their names; one text in JSON per slice.
RECORDS: Mapping[str, type[Caution] | type[Note] | type[BandCheck]] = {
    "warnings": Caution, "notes": Note, "bands": BandCheck,
}  # fmt: skip
# Runs may add rounds at the last level: the next slice may have more levels than this one.
_LEVELS_PER_CHUNK = 64


def write_diagnostics(entry: h5py.Group, index: int, values: Mapping[str, Any]) -> None:
    """Write the diagnostics of one slice; a new name creates a dataset for all slices.

    Args:
        entry: The NXentry of a result file.
        index: Position of the slice in the result.
        values: Scalars, texts and one-dimensional arrays by name, and the records ``warnings``,
            ``notes`` and ``bands``; None is left out.
    """
    values = {name: _text(value) if name in RECORDS else value for name, value in values.items()}
    if "verdict" not in values and "warnings" in values:  # read by tools for release 0.1
        warnings = read_records("warnings", values["warnings"])
        values["verdict"] = verdict_text(stored_verdict(values), warnings)
    slices = len(entry["diagnostics"][COMPLETE])
    curves = {name: np.asarray(v, float) for name, v in values.items() if _is_curve(v)}
    for name, value in values.items():
        if value is not None and name not in curves:
            _write_scalar(entry["diagnostics"], name, slices, index, value)
    if curves:
        _write_curves(_ladder(entry, slices), slices, index, curves)


def read_diagnostics(entry: h5py.Group, index: int) -> dict[str, Any]:
    """Read scalars, texts, arrays and records of one slice by name; missing ones are left out."""
    values: dict[str, Any] = {}
    for name, dataset in members(entry["diagnostics"]):
        if name == COMPLETE:
            continue
        value = dataset[index]
        if isinstance(value, bytes):
            values |= {name: value.decode(errors="replace")} if value else {}
        elif not np.isnan(value):
            values[name] = float(value)
    for name, dataset in members(entry["ladder"]) if "ladder" in entry else ():
        if dataset.ndim == 2:
            curve = dataset[index]
            known = np.flatnonzero(~np.isnan(curve))
            if known.size:
                values[name] = curve[: known[-1] + 1]
    found = {
        RENAMED.get(name, name): value for name, value in values.items() if name not in REMOVED
    }
    found |= {name: read_records(name, found[name]) for name in RECORDS if name in found}
    text = found.get("verdict", "ok")
    if "warnings" not in found and text != "ok":  # of release 0.1
        found["warnings"] = (Caution(LEGACY, text[:1].upper() + text[1:]),)
    return found


def read_records(name: str, stored: Any) -> tuple[Any, ...]:
    """Parse records; invalid JSON becomes the text of one record, or no `BandCheck`.

    Args:
        name: ``warnings``, ``notes`` or ``bands``.
        stored: JSON text, or the parsed list.
    """
    record: Any = RECORDS[name]
    known = {field.name for field in fields(record)}
    try:
        items = json.loads(stored) if isinstance(stored, str) else stored
        return tuple(record(**{k: item[k] for k in known & item.keys()}) for item in items)
    except (AttributeError, TypeError, ValueError):
        return () if record is BandCheck else (record(LEGACY, str(stored)),)


def renew_texts(entry: h5py.Group) -> None:
    """Write the texts of finished slices into new datasets.

    A process that was killed may leave references to texts that never reached the disk. HDF5
    fails where such a text is replaced ("bad heap index"), but not where its dataset is removed.

    Args:
        entry: The NXentry of an unfinished result file, open for writing.
    """
    group = entry["diagnostics"]
    finished = np.flatnonzero(group[COMPLETE][:]).tolist()
    for name, dataset in list(members(group)):
        if h5py.check_string_dtype(dataset.dtype) is None:
            continue
        texts, shape = {index: dataset[index] for index in finished}, dataset.shape
        attributes = dict(dataset.attrs)
        del group[name]
        group.create_dataset(name, shape, dtype=_TEXT).attrs.update(attributes)
        for index, text in texts.items():
            group[name][index] = text


def members(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """Iterate over names and members; unlike ``items``, it raises an error for a damaged one."""
    return ((name, group[name]) for name in group)


def finish_ladder(entry: h5py.Group) -> None:
    """Add the noise level as axis of the curves, if all slices have the same noise levels."""
    ladder = entry.get("ladder")
    if ladder is None or "noise_level" not in ladder:
        return
    levels = ladder["noise_level"][:]
    if np.isfinite(levels).all() and np.allclose(levels, levels[0], rtol=1e-5, atol=0):
        if "noise" in ladder:  # a run that was stopped right here, and resumed
            del ladder["noise"]
        ladder.create_dataset("noise", data=levels[0])
        ladder["noise"].attrs.update(units="", long_name="noise level")
        ladder.attrs["axes"] = np.array(["slice", "noise"], dtype=_TEXT)
        ladder.attrs["noise_indices"] = 1


def early_allocation() -> h5py.h5p.PropDCID:
    """Dataset properties that allocate disk space when a dataset is created or resized.

    By default HDF5 allocates it on closing the dataset, where h5py cannot raise an error.
    """
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    return properties


def plain_value(value: Any) -> Any:
    """Convert a diagnostic to types of JSON: numbers, texts, lists, and mappings for records."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [plain_value(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _text(records: Any) -> str:
    return json.dumps([plain_value(one) for one in records], ensure_ascii=False)


def _is_curve(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and np.ndim(value) == 1


def _write_scalar(group: h5py.Group, name: str, slices: int, index: int, value: Any) -> None:
    number = isinstance(value, bool | int | float | np.number)
    if name not in group:
        if number:
            group.create_dataset(name, data=np.full(slices, np.nan))
            group[name].attrs["units"] = ""
        else:
            group.create_dataset(name, (slices,), dtype=_TEXT)
    elif number != (group[name].dtype.kind == "f"):
        return  # the same name for a number in one slice and a text in another: keep the first
    group[name][index] = float(value) if number else str(value)


def _ladder(entry: h5py.Group, slices: int) -> h5py.Group:
    if "ladder" in entry:
        return entry["ladder"]
    group = entry.create_group("ladder")
    group.attrs["NX_class"] = "NXdata"
    group.attrs["axes"] = np.array(["slice", "level"], dtype=_TEXT)
    group.attrs["slice_indices"] = 0
    group.attrs["level_indices"] = 1
    group.create_dataset("slice", data=np.arange(slices))
    group.create_dataset("level", data=np.arange(0), maxshape=(None,), chunks=(_LEVELS_PER_CHUNK,))
    return group


def _write_curves(
    group: h5py.Group, slices: int, index: int, curves: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Write curves; all are padded to one common length, so that viewers can plot them together."""
    longest = max(len(group["level"]), *(len(curve) for curve in curves.values()))
    for name in curves.keys() - group.keys():
        group.create_dataset(
            name,
            (slices, longest),
            np.float64,
            maxshape=(slices, None),
            chunks=(1, _LEVELS_PER_CHUNK),
            fillvalue=np.nan,
            dcpl=early_allocation(),
        )
        group[name].attrs.update(units="", interpretation="spectrum")
    group["level"].resize((longest,))
    group["level"][:] = np.arange(1, longest + 1)
    names = [name for name, dataset in group.items() if dataset.ndim == 2]
    for name in names:
        group[name].resize((slices, longest))
    for name, curve in curves.items():
        group[name][index, : len(curve)] = curve
    signal = "ess" if "ess" in names else names[0]
    group.attrs["signal"] = signal
    others = [name for name in names if name != signal]
    group.attrs["auxiliary_signals"] = np.array(others, dtype=_TEXT)
