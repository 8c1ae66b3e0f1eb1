"""Writer of a BIDS derivative dataset: NIfTI files and descriptions with the names of BIDS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from tiltkit.io.grid import Grid, make_grid
from tiltkit.io.nifti import (
    Images,
    NiftiOptions,
    further_images,
    remarks,
    save,
    sidecar,
    stored_images,
)
from tiltkit.io.places import read_places
from tiltkit.io.reading import open_result, read_provenance

__all__ = ["BidsOptions", "write_bids"]

_VERSION = "1.9.0"
_LABEL = r"[A-Za-z0-9]+"
# A file name of BIDS without its extension: entities, the subject first, and perhaps a suffix.
_NAME = re.compile(rf"(sub-{_LABEL}(?:_[a-z]+-{_LABEL})*)(?:_({_LABEL}))?")
# Folders of suffixes that are not anatomical.
_FOLDERS = {
    "bold": "func", "sbref": "func", "cbv": "func", "dwi": "dwi", "asl": "perf", "m0scan": "perf",
    "phasediff": "fmap", "fieldmap": "fmap", "magnitude": "fmap", "epi": "fmap",
}  # fmt: skip
# Where the name of the scan does not state what is shown.
_UNKNOWN = "image"
_README = """Posterior images by tiltkit: mean (desc-mean), standard deviation (desc-std) and the
ends of the 90 % interval (desc-q05, desc-q95). The JSON file beside each image has the
warnings and the verdict of its result. Not for diagnosis.
"""


def _text(value: Any) -> Any:
    """Numbers are labels, too."""
    return str(value) if isinstance(value, int) else value


_Label = Annotated[str, BeforeValidator(_text), Field(pattern=rf"^({_LABEL})?$")]


class BidsOptions(NiftiOptions):
    """Options of the writer."""

    subject: _Label = Field(
        "", description="label of the subject; from the name of the scan when empty"
    )
    suffix: _Label = Field(
        "", description="what the images show, such as T1w; from the name of the scan when empty"
    )


def write_bids(result: Path, output: Path, options: BidsOptions) -> list[str]:
    """Write ``sub-01/anat/sub-01_desc-mean_T1w.nii.gz`` and so on, each with a JSON file.

    Entities of BIDS in the name of the scan are kept; another name becomes the label of the
    subject. Images and coordinates are those of `tiltkit.io.nifti.write_nifti`.

    Args:
        result: A result file.
        output: Folder of the dataset.
        options: Subject, suffix, and whether to write samples.

    Returns:
        Sentences for the user.

    Raises:
        InputError: The result cannot be read, or its slices lie on no common grid.
        OSError: A file cannot be written.
    """
    origin = read_provenance(result)
    entities, suffix = name_parts(str(origin.get("raw_file") or result.name), options)
    places = read_places(result)
    grid = make_grid(places, result)
    folder = _folder(output, entities, suffix)
    folder.mkdir(parents=True)
    about = sidecar(result, grid, places)
    raw, made_by = about.pop("Sources")[0], about.pop("GeneratedBy")
    title = about.pop("Description")
    with open_result(result) as file:
        further = further_images(file, samples=False)
        real = (images for images in further if images.dtype == np.float32)
        for images in (*stored_images(file, samples=options.samples), *real):
            described = {"Description": f"{images.text}. {title}", "RawFile": raw}
            for entity, part, volumes, more in _files(images, grid, folder.name == "anat"):
                path = folder / f"{entities}{entity}_desc-{part.name}_{suffix}.nii.gz"
                save(path, part, grid, places, volumes)
                values = described | {"SkullStripped": False} | about | more
                if images.units is not None:
                    values["Units"] = images.units or "arbitrary"
                _dump(path.with_name(path.name.replace(".nii.gz", ".json")), values)
    dataset = {
        "Name": "Posterior images by tiltkit",
        "BIDSVersion": _VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [made_by],
    }
    _dump(output / "dataset_description.json", dataset)
    (output / "README").write_text(_README, encoding="utf-8")
    told = remarks(grid, places)
    if suffix == _UNKNOWN:
        told.append(
            f"The name of the scan does not state its contrast: files end with {_UNKNOWN}, which is"
            " no suffix of BIDS. Give one, as in bids,suffix=T1w."
        )
    return told


def check_bids(result: Path, _output: Path, _options: BidsOptions) -> None:
    """Check that the slices of a result, which may have no finished ones, lie on a common grid.

    Raises:
        InputError: They do not.
    """
    make_grid(read_places(result), result)


write_bids.Options = BidsOptions  # type: ignore[attr-defined]
write_bids.check = check_bids  # type: ignore[attr-defined]


def name_parts(scan: str, options: BidsOptions) -> tuple[str, str]:
    """Entities and suffix of the names of all images.

    Args:
        scan: File name of the scan.
        options: Subject and suffix, which win over the name.
    """
    stem = scan.split(".")[0]
    found = _NAME.fullmatch(stem)
    entities, suffix = (found[1], found[2]) if found else ("", "")
    # The entity desc is that of the images, and a scan that is a derivative has its own.
    entities = re.sub(rf"_desc-{_LABEL}", "", entities)
    subject = options.subject or ("" if found else re.sub(r"[^A-Za-z0-9]", "", stem) or "scan")
    if subject:
        entities = re.sub(rf"^(sub-{_LABEL})?", f"sub-{subject}", entities)
    return entities, options.suffix or suffix or _UNKNOWN


def _files(
    images: Images, grid: Grid, anatomical: bool
) -> Iterator[tuple[str, Images, Sequence[int] | None, dict[str, Any]]]:
    """Parts of images that are files of their own: samples, and volumes of anatomical images.

    Anatomical images of BIDS have three axes. Yields a further entity (``"_echo-1"``), the images,
    their volumes, and further values of the description.
    """
    for number, draw in enumerate(images.draws, start=1):
        label = f"sample{number:03d}" if images.name == "samples" else _label(images.name)
        part = replace(images, name=label, draws=[draw])
        if not anatomical or len(grid.names) < 2:
            yield "", part, None, {}
            continue
        for position, volume in enumerate(grid.names):
            echo = re.fullmatch(r"(?:contrast|echo) (\d+)", volume)
            entity = f"_echo-{int(echo[1]) + 1}" if echo else ""
            name = label if echo else f"{label}Volume{position + 1}"
            yield entity, replace(part, name=name), [position], {"VolumeNames": [volume]}


def _label(name: str) -> str:
    """A name without other characters than letters and digits: ``map-g_factor``, ``mapGFactor``."""
    first, *others = re.split(r"[^A-Za-z0-9]+", name)
    return first + "".join(word.capitalize() for word in others)


def _folder(output: Path, entities: str, suffix: str) -> Path:
    """Folder of subject, perhaps session, and type of data."""
    subject, *others = entities.split("_")
    session = [one for one in others if one.startswith("ses-")]
    return output.joinpath(subject, *session[:1], _FOLDERS.get(suffix, "anat"))


def _dump(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")
