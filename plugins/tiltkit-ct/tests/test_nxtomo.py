"""NXtomo as the standard, Diamond, Mantid Imaging and the ESRF write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiltkit_ct.nxtomo import NxTomo
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.select import select

from tiltkit.errors import InputError, UsageError

Write = Callable[..., Path]

FRAMES = np.random.default_rng(0).integers(100, 4000, (10, 3, 5)).astype(np.uint16)
KEYS = np.array([2, 1, 1, 0, 0, 3, 0, 1, 0, 2])
ANGLES = np.array([0, 0, 0, 0, 45, 60, 90, 90, 135, 135.0])
PROJECTIONS, FLATS, DARKS = [3, 4, 6, 8], [1, 2, 7], [0, 9]


def standard(entry: str = "entry", frames: Any = FRAMES, keys: Any = KEYS) -> dict[str, Any]:
    return {f"{entry}__instrument__detector__data": frames,
            f"{entry}__instrument__detector__image_key": keys,
            f"{entry}__sample__rotation_angle": ANGLES,
            f"{entry}__definition": "NXtomo"}  # fmt: skip


def check(path: Path, degrees: Any = ANGLES) -> None:
    assert NxTomo.matches(path)
    with NxTomo.open(path) as scan:
        np.testing.assert_allclose(scan.angles, np.radians(np.asarray(degrees)[PROJECTIONS]))
        band = scan.read(0, 3)
        np.testing.assert_array_equal(band.counts, FRAMES[PROJECTIONS])
        np.testing.assert_array_equal(band.flats, FRAMES[FLATS])
        np.testing.assert_array_equal(band.darks, FRAMES[DARKS])


def test_a_standard_file_gives_frames_by_their_key(write: Write) -> None:
    path = write({"entry/sample/rotation_angle": {"units": "deg"}}, **standard())
    check(path)
    with NxTomo.open(path) as scan:
        assert scan.notes == ()


def test_degrees_are_an_assumption_where_the_file_states_no_unit(write: Write) -> None:
    with NxTomo.open(write(**standard())) as scan:
        (note,) = scan.notes
        assert (note.code, note.assumed) == ("angle_unit_default", True)


def test_flats_lie_in_time_between_the_projections_around_them(write: Write) -> None:
    with NxTomo.open(write(**standard())) as scan:
        band = scan.read(0, 1)
        np.testing.assert_allclose(band.flat_times, [-0.5, -0.5, 2.5])
        np.testing.assert_allclose(band.dark_times, [-0.5, 3.5])


def test_diamond_keeps_keys_apart_from_the_data(write: Write) -> None:
    check(write(entry1__tomo_entry__data__data=FRAMES,
                entry1__tomo_entry__data__rotation_angle=ANGLES,
                entry1__instrument__image_key__image_key=KEYS))  # fmt: skip


def test_mantid_writes_a_subentry_with_radians_and_bytes(write: Write) -> None:
    base = standard("entry1__tomo_entry") | {
        "entry1__tomo_entry__sample__rotation_angle": np.radians(ANGLES),
        "entry1__tomo_entry__definition": np.bytes_("NXtomo"),
    }
    attrs = {
        "entry1": {"NX_class": np.bytes_("NXentry")},
        "entry1/tomo_entry": {"NX_class": np.bytes_("NXsubentry")},
        "entry1/tomo_entry/sample/rotation_angle": {"units": np.bytes_("rad")},
    }
    check(write(attrs, **base))


def test_alignment_frames_of_the_esrf_are_no_projections(write: Write) -> None:
    control = np.where(KEYS == 3, -1, KEYS)
    path = write(
        **standard("entry0000", keys=np.where(KEYS == 3, 0, KEYS)),
        entry0000__instrument__detector__image_key_control=control,
    )
    check(path)


def test_soft_links_and_absolute_links_are_followed(tmp_path: Path, write: Write) -> None:
    path = write(raw__frames=FRAMES, raw__angle=ANGLES, raw__key=KEYS)
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/data"] = h5py.SoftLink("/raw/frames")
        file["entry/instrument/detector/image_key"] = h5py.SoftLink("/raw/key")
        file["entry/sample/rotation_angle"] = h5py.SoftLink("/raw/angle")
        file["entry/data/data"] = h5py.SoftLink("/entry/instrument/detector/data")
        file["entry/broken"] = h5py.SoftLink("/not/there")
        file["entry/elsewhere"] = h5py.ExternalLink("not_there.h5", "/data")
        file["broken"] = h5py.ExternalLink("not_there.h5", "/")
    check(path)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, ">u2"])
def test_frames_of_any_number_type_are_read(write: Write, kind: Any) -> None:
    check(write(**standard(frames=FRAMES.astype(kind))))


def test_keys_may_be_of_any_number_type(write: Write) -> None:
    check(write(**standard(keys=KEYS.astype(np.float64))))


def test_angles_of_the_projections_alone_are_enough(write: Write) -> None:
    base = standard() | {"entry__sample__rotation_angle": ANGLES[PROJECTIONS]}
    check(write(**base))


def test_angles_of_other_frames_do_not_matter(write: Write) -> None:
    angles = ANGLES.copy()
    angles[[0, 1, 2, 5, 7, 9]] = np.nan
    check(write(**(standard() | {"entry__sample__rotation_angle": angles})))


def test_the_default_of_several_entries_is_read_and_the_others_are_named(write: Write) -> None:
    other = standard("entry0002") | {"entry0002__sample__rotation_angle": 2 * ANGLES}
    path = write({"/": {"default": "entry0002"}}, **standard("entry0001"), **other)
    check(path, degrees=2 * ANGLES)
    with NxTomo.open(path) as scan:
        assert any("entry0001" in note.text for note in scan.notes)
        chosen = select(scan, PrepareOptions(entry="entry0001"))
        np.testing.assert_allclose(chosen.angles, np.radians(ANGLES[PROJECTIONS]))
        with pytest.raises(UsageError, match="no scan 'entry3'") as caught:
            select(scan, PrepareOptions(entry="entry3"))
        assert "entry0002, entry0001" in caught.value.hint


def test_the_first_entry_is_read_where_there_is_no_default(write: Write) -> None:
    other = standard("entry0002") | {"entry0002__sample__rotation_angle": 2 * ANGLES}
    check(write(**standard("entry0001"), **other))


def test_lengths_and_energies_are_read_in_their_units(write: Write) -> None:
    attrs = {"entry/instrument/detector/distance": {"units": "cm"},
             "entry/instrument/beam/incident_energy": {"units": "J"},
             "entry/instrument/detector/x_pixel_size": {"units": "um"}}  # fmt: skip
    path = write(attrs, **standard(), entry__instrument__detector__x_pixel_size=6.5,
                 entry__instrument__detector__distance=[12.0],
                 entry__instrument__beam__incident_energy=3.2e-15,
                 entry__instrument__detector__x_rotation_axis_pixel_position=2.25)  # fmt: skip
    with NxTomo.open(path) as scan:
        assert scan.pixel_mm == pytest.approx(6.5e-3)
        assert scan.distance_mm == pytest.approx(120)
        assert scan.energy_kev == pytest.approx(19.97, abs=0.01)
        assert scan.axis_hint == 2.25


def test_lengths_without_units_are_metres_as_the_standard_says(write: Write) -> None:
    path = write(**standard(), entry__instrument__detector__x_pixel_size=6.5e-6)
    with NxTomo.open(path) as scan:
        assert scan.pixel_mm == pytest.approx(6.5e-3)


def test_a_number_without_unit_that_makes_no_pixel_is_left_out_and_said(write: Write) -> None:
    with NxTomo.open(write(**standard(), entry__instrument__detector__x_pixel_size=6.5)) as scan:
        assert scan.pixel_mm is None
        assert any("pixel size 6.5" in note.text for note in scan.notes)


def test_the_pixel_at_the_sample_comes_before_that_of_the_camera(write: Write) -> None:
    path = write(**standard(), entry__instrument__detector__x_pixel_size=6.5e-6,
                 entry__sample__x_pixel_size=0.65e-6)  # fmt: skip
    with NxTomo.open(path) as scan:
        assert scan.pixel_mm == pytest.approx(0.65e-3)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no key": (
        {k: v for k, v in standard().items() if "key" not in k},
        "no image key",
    ),
    "incomplete keys": (standard(keys=KEYS[:8]), "10 frames, but 8 image keys"),
    "incomplete frames": (standard(frames=FRAMES[:8]), "8 frames, but 10 image keys"),
    "no projection": (standard(keys=np.where(KEYS == 0, 3, KEYS)), "marks one as a projection"),
    "other angles": (
        standard() | {"entry__sample__rotation_angle": ANGLES[:7]},
        "10 frames, but 7 angles",
    ),
    "one frame": (standard(frames=FRAMES[0]), "3 frames, but 10 image keys"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_does_not_fit_is_refused_in_two_lines(write: Write, case: str) -> None:
    datasets, message = BAD[case]
    path = write(**datasets)
    with pytest.raises(InputError, match=message) as caught, NxTomo.open(path):
        pass
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.filterwarnings("ignore")
def test_files_of_the_nxtomo_library_are_read(tmp_path: Path) -> None:
    pytest.importorskip("nxtomo", reason="writes the file that is read here")
    from nxtomo import NXtomo
    from nxtomo.nxobject.nxdetector import ImageKey
    from pint import get_application_registry

    units = get_application_registry()
    scan = NXtomo()
    scan.instrument.detector.data = FRAMES
    keys = [ImageKey(int(key)) for key in KEYS]
    scan.instrument.detector.image_key_control = keys
    scan.instrument.detector.x_pixel_size = 6.5 * units.micrometer
    scan.instrument.detector.distance = 0.12 * units.meter
    scan.sample.name = "sample"
    scan.sample.rotation_angle = ANGLES * units.degree
    scan.energy = 20.0 * units.keV
    path = tmp_path / "scan.nx"
    scan.save(str(path), "entry0000")
    check(path)
    with NxTomo.open(path) as found:
        assert found.pixel_mm == pytest.approx(6.5e-3)
        assert found.distance_mm == pytest.approx(120)
        assert found.energy_kev == pytest.approx(20)


def turned_detector(system: str | None, vector: tuple[int, ...], degrees: float = 180.0) -> Any:
    attrs: dict[str, Any] = {
        "entry/instrument/detector/transformations/turn": {
            "transformation_type": "rotation", "units": "deg", "vector": vector,
        }
    }  # fmt: skip
    if system:
        attrs["entry"] = {"NeXus_Coordinate_System": system}
    return attrs, {"entry__instrument__detector__transformations__turn": degrees}


@pytest.mark.parametrize(
    ("system", "vector", "mirrored"),
    [
        ("McStas", (0, 1, 0), np.s_[:, :, ::-1]),
        ("McStas", (1, 0, 0), np.s_[:, ::-1]),
        ("McStas", (0, 0, 1), np.s_[:, ::-1, ::-1]),
        (None, (0, 1, 0), np.s_[:, :, ::-1]),
        ("ESRF", (0, 0, 1), np.s_[:, :, ::-1]),
        ("ESRF", (0, 1, 0), np.s_[:, ::-1]),
    ],
)
def test_half_turns_of_the_detector_are_undone(
    write: Write, system: str | None, vector: tuple[int, ...], mirrored: Any
) -> None:
    attrs, datasets = turned_detector(system, vector)
    with NxTomo.open(write(attrs, **standard(), **datasets)) as scan:
        upright = FRAMES[mirrored]
        np.testing.assert_array_equal(scan.read(0, 3).counts, upright[PROJECTIONS])
        np.testing.assert_array_equal(scan.read(1, 2).flats, upright[FLATS, 1:2])
        np.testing.assert_array_equal(scan.read(2, 3).darks, upright[DARKS, 2:3])
        assert "frames_mirrored" in [note.code for note in scan.notes]


@pytest.mark.parametrize("degrees", [0.0, 360.0, 90.0])
def test_other_turns_of_the_detector_mirror_nothing(write: Write, degrees: float) -> None:
    attrs, datasets = turned_detector("McStas", (0, 1, 0), degrees)
    with NxTomo.open(write(attrs, **standard(), **datasets)) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).counts, FRAMES[PROJECTIONS])


def test_flags_of_older_files_mirror_frames_and_the_rotation_axis(write: Write) -> None:
    detector = "entry__instrument__detector__"
    flags = {f"{detector}x_flipped": True, f"{detector}y_flipped": False}
    flags[f"{detector}x_rotation_axis_pixel_position"] = 1.25
    with NxTomo.open(write(**standard(), **flags)) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).counts, FRAMES[PROJECTIONS][:, :, ::-1])
        assert scan.axis_hint == FRAMES.shape[2] - 1 - 1.25
