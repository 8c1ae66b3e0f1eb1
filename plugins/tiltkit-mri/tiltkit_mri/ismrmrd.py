"""Read ISMRMRD raw data: a table of acquisitions and an XML header in one group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.opening import hdf5_file, open_hdf5
from tiltkit.problem import Note
from tiltkit_mri.acquisitions import COUNTERS, Acquisitions, Flag, read_acquisitions
from tiltkit_mri.cartesian_lines import Lines, place_lines
from tiltkit_mri.geometry import image_grid
from tiltkit_mri.header import Header, parse_header, plain_text
from tiltkit_mri.kspace import SLICE_AXES, VOLUME_AXES, Geometry, KSpace
from tiltkit_mri.readouts import read_readouts, read_stack
from tiltkit_mri.samples import check_samples, find_measured
from tiltkit_mri.slicing import Slicing, slices_of
from tiltkit_mri.trajectories import trajectory_scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ismrmrd"]

# Acquisitions that are no part of an image.
_OTHER = (
    Flag.NAVIGATION, Flag.PHASE_CORRECTION, Flag.FEEDBACK, Flag.DUMMY, Flag.REALTIME_FEEDBACK,
    Flag.SURFACE_COIL_CORRECTION, Flag.PHASE_STABILISATION_REFERENCE, Flag.PHASE_STABILISATION,
)  # fmt: skip
_DIRECTIONS = ("read_dir", "phase_dir", "slice_dir")
_CARTESIAN = ("", "cartesian", "epi")
# A grid with more points than this is a mistake of the header.
_LARGEST = 2**14


class Ismrmrd:
    """Reader of slices, Cartesian or with a trajectory, and of Cartesian volumes, cut into slices.

    Averages are averaged and segments joined. Repetitions, phases, sets, contrasts and slices are
    slices of the result, in this order, slices fastest.
    """

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a file with a group that holds ``xml`` and ``data``."""
        with hdf5_file(path) as file:
            return bool(_groups(file))

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[KSpace]:
        """Open a file read-only and check it.

        Raises:
            InputError: The file cannot be read, has another layout, or no image that can be used.
        """
        with open_hdf5(path) as file:
            yield _kspace(file, path)


def _groups(file: h5py.File) -> list[str]:
    """Groups with raw data, the usual name first."""
    found = [
        name
        for name, item in file.items()
        if isinstance(item, h5py.Group)
        and isinstance(item.get("xml"), h5py.Dataset)
        and isinstance(item.get("data"), h5py.Dataset)
        and {"head", "data", "traj"} <= set(item["data"].dtype.names or ())
    ]
    return sorted(found, key=lambda name: name != "dataset")


def _kspace(file: h5py.File, path: Path) -> KSpace:
    groups = _groups(file)
    if not groups:
        raise InputError(
            f"{path} holds no ISMRMRD raw data: no group with 'xml' and a table 'data'.",
            "see what it holds with 'tiltkit show'.",
        )
    group, *others = groups
    everything = read_acquisitions(file[group]["data"], path)
    noise, reference, imaging, notes = _sort(everything)
    if others:
        text = f"Only the group {group} is read, not {', '.join(others)}."
        notes = (*notes, Note("groups_left_out", text, assumed=True))
    xml = _text(file[group]["xml"])
    _check_coils(imaging)
    metadata = {"ismrmrd_header": xml}
    header = parse_header(xml, int(imaging.field("encoding_space_ref")[0]))
    if header.trajectory in _CARTESIAN:
        scan = _Scan.build(xml, header, imaging, reference)
        return scan.kspace(noise, metadata, notes)
    if len(reference):
        text = f"{len(reference)} calibration lines are left out: the maps come from the image."
        notes = (*notes, Note("calibration_left_out", text))
    return replace(_non_cartesian(header, imaging, noise, notes), metadata=metadata)


def _sort(
    everything: Acquisitions,
) -> tuple[Acquisitions, Acquisitions, Acquisitions, tuple[Note, ...]]:
    """Noise scan, calibration and imaging data by their flags, and notes on what is left out."""
    noise = everything.has(Flag.NOISE)
    other = everything.has(*_OTHER) & ~noise
    calibration = everything.has(Flag.CALIBRATION) & ~noise & ~other
    both = everything.has(Flag.CALIBRATION_AND_IMAGING)
    imaging = ~noise & ~other & (~calibration | both)
    path = everything.path
    if not imaging.any():
        raise InputError(
            f"{path} has {len(everything)} acquisitions, none of them of an image: {noise.sum()}"
            f" measure noise, {calibration.sum()} calibration, {other.sum()} are of other kinds.",
            "give the file of the scan itself.",
        )
    # A scan with more than one encoding has the one with most lines for its image.
    encodings, counts = np.unique(
        everything.field("encoding_space_ref")[imaging], return_counts=True
    )
    chosen = everything.field("encoding_space_ref") == encodings[counts.argmax()]
    notes = []
    if (imaging & ~chosen).any():
        text = (
            f"{(imaging & ~chosen).sum()} acquisitions of other encodings are left out: the image"
            f" is that of encoding {encodings[counts.argmax()]}."
        )
        notes.append(Note("encodings_left_out", text, assumed=True))
    if other.any():
        text = f"{other.sum()} acquisitions for navigation or phase correction are left out."
        notes.append(Note("acquisitions_left_out", text))
    reverse = everything.has(Flag.REVERSE) & imaging
    if reverse.any():
        mixed = bool((imaging & ~reverse).any())
        text = f"{reverse.sum()} of {imaging.sum()} lines are flagged as reversed and are turned."
        if mixed:
            text += " Lines of both directions are not phase corrected: ghosts are possible."
        notes.append(Note("readouts_reversed", text, assumed=mixed))
    separate = calibration & ~both
    reference = (calibration | both) if separate.any() else separate
    parts = (noise, reference, imaging & chosen)
    one, two, three = (everything.where(part) for part in parts)
    return one, two, three, tuple(notes)


def _check_coils(imaging: Acquisitions) -> None:
    """Refuse acquisitions with different numbers of coils."""
    coils = np.unique(imaging.field("active_channels"))
    if len(coils) != 1 or coils[0] < 1:
        raise InputError(
            f"The acquisitions of {imaging.path} have {', '.join(map(str, coils))} coils; all must"
            " have the same number.",
            "export the scan again with the same coils switched on throughout.",
        )


def _non_cartesian(
    header: Header, imaging: Acquisitions, noise: Acquisitions, notes: tuple[Note, ...]
) -> KSpace:
    """A scan with a trajectory: all readouts of an image together, averages too.

    Raises:
        InputError: Positions are missing or cannot be used, or partitions are not complete.
    """
    path, step = imaging.path, imaging.field("kspace_encode_step_2")
    if not imaging.field("trajectory_dimensions").all():
        raise InputError(
            f"The trajectory of {path} is {header.trajectory}, but acquisitions have no positions.",
            "export the scan with its trajectory: traj of each acquisition, in cycles per pixel.",
        )
    stack = bool(step.any())
    total = max(header.partitions[0], int(step.max()) + 1) if stack else 1
    header = replace(header, partitions=(total, max(header.partitions[1], 1) if stack else 1))
    images, image = np.unique(imaging.counters, axis=0, return_inverse=True)
    rows = [np.flatnonzero(image.reshape(-1) == i) for i in range(len(images))]
    slicing = slices_of(replace(header, encoded=header.encoded or (0, 0)), complete=True)
    middle = header.partition_centre
    place = step + total // 2 - (total // 2 if middle is None else middle)

    @lru_cache(maxsize=1)
    def volume(number: int) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        return read_stack(imaging.where(rows[number]), place[rows[number]], total)

    def read(index: int) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        number, partition = divmod(index, len(slicing.numbers))
        if not stack:
            return read_readouts(imaging.where(rows[number]))
        samples, positions = volume(number)
        return samples[slicing.numbers[partition]], positions

    count = len(images) * len(slicing.numbers)
    scan = trajectory_scan(read, count, header, path, "ISMRMRD", notes)
    samples, more = _noise(noise, imaging, header)
    names = _names(images, slicing)
    # Positions are those of the samples as they are stored, in whatever direction.
    own = [note for note in scan.notes if note.code != "readouts_reversed"]
    return replace(
        scan,
        notes=(*own, *more, *_notes_on_names(names)),
        noise=samples,
        geometry=_geometry(slicing, [imaging.head[part[0]] for part in rows], scan.pixel_mm),
        slice_names=names,
    )


@dataclass(frozen=True)
class _Scan:
    """Imaging and calibration data on the grid of one encoding."""

    header: Header
    images: NDArray[np.int64]  # (image, counter), the counters in the order of COUNTERS
    lines: Lines
    image: NDArray[np.intp]  # of each line
    reference: Lines | None
    repairs: tuple[Note, ...]

    @classmethod
    def build(
        cls, xml: str, stated: Header, imaging: Acquisitions, reference: Acquisitions
    ) -> _Scan:
        """Place all lines.

        Args:
            xml: The header of all encodings.
            stated: The header of the encoding of the image.
            imaging: Acquisitions of the image.
            reference: Acquisitions for calibration.

        Raises:
            InputError: The header or the acquisitions contradict themselves.
        """
        header, repairs = _header(stated, imaging)
        assert header.encoded is not None  # noqa: S101
        images, image = np.unique(imaging.counters, axis=0, return_inverse=True)
        image = image.reshape(-1)
        shape = (*header.encoded, header.partitions[0])
        lines = place_lines(imaging, image, shape, _centre(header))
        kept = lines.rank < _averages(lines, image)
        if not kept.all():
            text = (
                f"{(~kept).sum()} repeated lines are left out: all lines must have as many averages"
                " as the one with the fewest, for their noise to be equal."
            )
            repairs = (*repairs, Note("averages_left_out", text))
        refs, extra = _reference(xml, header, reference, shape)
        return cls(header, images, lines.where(kept), image[kept], refs, (*repairs, *extra))

    @property
    def path(self) -> Path:
        """The file."""
        return self.lines.acquisitions.path

    def of(self, image: int) -> Lines:
        """Lines of one image."""
        return self.lines.where(np.flatnonzero(self.image == image))

    @cached_property
    def averages(self) -> int:
        """Number of averages of each line."""
        return int(self.lines.rank.max()) + 1

    @cached_property
    def slicing(self) -> Slicing:
        """How images are cut into slices."""
        n = self.lines.shape[2]
        keys = np.stack([self.image, self.lines.column])
        places = np.unique(np.concatenate([keys, self.lines.partition[None]]), axis=1)
        counts = np.unique(places[:2], axis=1, return_counts=True)[1]
        return slices_of(self.header, complete=bool((counts == n).all()))

    def kspace(
        self, noise: Acquisitions, metadata: dict[str, Any], notes: tuple[Note, ...]
    ) -> KSpace:
        """The scan for the task."""
        slicing = self.slicing
        grid = image_grid(slicing.header, slicing.shape)
        everywhere = np.ones(slicing.shape[1], dtype=np.bool_)
        data = self._reader(self.of)

        def read(index: int) -> NDArray[np.complex64]:
            found = data(index)
            check_samples(found, everywhere, self.path, index, axes_known=True)
            return found

        measured = find_measured(read, len(self.images) * len(slicing.numbers), everywhere)
        imaging = self.lines.acquisitions
        samples, more = _noise(noise, imaging, self.header, self.averages)
        heads = [self.of(image).acquisitions.head[0] for image in range(len(self.images))]
        reference = None if self.reference is None else self._reader(self._reference_lines)
        return KSpace(
            path=self.path,
            n_slices=len(self.images) * len(slicing.numbers),
            n_coils=int(self.lines.acquisitions.field("active_channels")[0]),
            shape=slicing.shape,
            columns=measured.columns,
            image=grid,
            read=read,
            layout="ISMRMRD",
            header=slicing.header,
            metadata=metadata,
            notes=(*notes, *self.repairs, *more, *measured.notes, *self._notes()),
            unusable=measured.unusable,
            points=None if measured.points is None else measured.points.__getitem__,
            reference=reference,
            reference_points=None if reference is None else self._reference_points,
            noise=samples,
            differences=self._differences() if self.averages > 1 else None,
            geometry=_geometry(slicing, heads, grid.pixel_mm),
            slice_names=_names(self.images, slicing),
            axes=VOLUME_AXES if slicing.along_readout else SLICE_AXES,
            places=self._places(),
        )

    def _reader(self, lines: Callable[[int], Lines]) -> Callable[[int], NDArray[np.complex64]]:
        """Reads a slice (coil, row, column); slices next to each other are kept together.

        Args:
            lines: Gives the lines of an image.
        """
        slicing, per_image = self.slicing, len(self.slicing.numbers)
        block = slicing.block(int(self.lines.acquisitions.field("active_channels")[0]))

        @lru_cache(maxsize=1)
        def part(image: int, number: int) -> NDArray[np.complex64]:
            numbers = slicing.numbers[number * block : (number + 1) * block]
            return slicing.read(lines(image), numbers)

        def read(index: int) -> NDArray[np.complex64]:
            image, number = divmod(index, per_image)
            return np.ascontiguousarray(part(image, number // block)[number % block])

        return read

    def _differences(self) -> Callable[[int], NDArray[np.complex64]]:
        """Reads even less odd averages of a slice, with the noise of the mean of all."""

        def half(odd: int) -> Callable[[int], Lines]:
            def lines(image: int) -> Lines:
                found = self.of(image)
                return found.where(found.rank % 2 == odd)

            return lines

        even, odd = self._reader(half(0)), self._reader(half(1))
        n = self.averages
        variance = 1 / ((n + 1) // 2) + 1 / (n // 2)
        scale = np.float32(np.sqrt(1 / n / variance))
        return lambda index: (even(index) - odd(index)) * scale

    def _reference_lines(self, image: int) -> Lines:
        """Calibration lines of the same image, or else of the same slice."""
        assert self.reference is not None  # noqa: S101
        counters = self.reference.acquisitions.counters
        same = (counters == self.images[image]).all(axis=1)
        if not same.any():
            same = counters[:, -1] == self.images[image][-1]
        return self.reference.where(np.flatnonzero(same))

    def _reference_points(self, index: int) -> NDArray[np.bool_]:
        """Points (row, column) of the calibration data of a slice."""
        return self.slicing.mask(self._reference_lines(index // len(self.slicing.numbers)))

    def _places(self) -> tuple[int, ...]:
        """A number for each slice; repetitions and phases of one image have the same."""
        others = self.images[:, [COUNTERS.index(name) for name in ("set", "contrast", "slice")]]
        place = np.unique(others, axis=0, return_inverse=True)[1].reshape(-1)
        n = len(self.slicing.numbers)
        numbers: list[int] = (place[:, None] * n + np.arange(n)).ravel().tolist()
        return tuple(numbers)

    def _notes(self) -> Iterator[Note]:
        if self.averages > 1:
            yield Note("averaged", f"{self.averages} averages of each line are averaged.")
        if self.slicing.along_readout:
            yield from self._notes_on_volume()
        yield from _notes_on_names(_names(self.images, self.slicing))

    def _notes_on_volume(self) -> Iterator[Note]:
        """A note where the readout of a volume is not complete."""
        first, last = int(self.lines.first.max()), int(self.lines.last.min())
        rows = self.lines.shape[0]
        if first > 0 or last < rows:
            text = (
                f"Lines are measured from sample {first} to {last - 1} of {rows} only (partial"
                " echo); the rest is taken as zero, which blurs the volume along the readout."
            )
            yield Note("readout_zero_filled", text, assumed=True)


def _notes_on_names(names: tuple[str, ...]) -> Iterator[Note]:
    if names:
        text = f"The {len(names)} slices of the result are: {'; '.join(names[:4])}"
        yield Note("slices_named", text + ("; ..." if len(names) > 4 else "."))


def _names(images: NDArray[np.int64], slicing: Slicing) -> tuple[str, ...]:
    """Names with all counters that vary; none for a plain stack of slices."""
    varying = [i for i in range(len(COUNTERS)) if len(np.unique(images[:, i])) > 1]
    several = len(slicing.numbers) > 1
    if varying in ([], [len(COUNTERS) - 1]) and not (varying and several):
        return ()
    return tuple(
        ", ".join(
            [f"{COUNTERS[i]} {image[i]}" for i in reversed(varying)]
            + ([f"{slicing.word} {p}"] if several else [])
        )
        for image in images
        for p in range(len(slicing.numbers))
    )


def _geometry(
    slicing: Slicing, heads: list[NDArray[np.void]], pixel: tuple[float, float] | None
) -> tuple[Geometry, ...]:
    """Position of every slice; none where directions or sizes are missing.

    Args:
        slicing: How images are cut into slices.
        heads: Header of the first acquisition of each image.
        pixel: Height and width of a pixel in mm.
    """
    thickness = slicing.thickness
    if pixel is None or not thickness:
        return ()
    found = []
    for head in heads:
        axes = [_vector(head[name]) for name in _DIRECTIONS]
        if not all(abs(np.linalg.norm(axis) - 1) < 1e-2 for axis in axes):
            return ()
        rows, columns, across = [*axes[1:], axes[0]] if slicing.along_readout else axes
        for number in slicing.numbers:
            offset = (number - slicing.total // 2) * thickness
            place = np.asarray(head["position"], float) + offset * np.asarray(across)
            found.append(Geometry(_vector(place), rows, columns, across, (*pixel, thickness)))
    return tuple(found)


def _header(header: Header, imaging: Acquisitions) -> tuple[Header, tuple[Note, ...]]:
    """The header with a matrix that holds all lines."""
    length = imaging.field("number_of_samples") - imaging.field("discard_pre")
    longest = int((length - imaging.field("discard_post")).max())
    steps, partitions = (imaging.field(f"kspace_encode_step_{axis}") for axis in (1, 2))
    if header.encoded is None:
        encoded = longest, int(steps.max()) + 1
        header = replace(header, encoded=encoded, partitions=(int(partitions.max()) + 1,) * 2)
        text = (
            f"The header has no encoded matrix: {encoded[0]} x {encoded[1]} is taken from the"
            " acquisitions."
        )
        return _sized(header, imaging.path), (Note("matrix_assumed", text, assumed=True),)
    rows, columns = header.encoded
    notes: tuple[Note, ...] = ()
    if longest > rows:
        # Only readout oversampling that the header leaves out makes lines longer.
        fov = header.encoded_fov
        if fov is not None:
            fov = fov[0] * longest / rows, fov[1]
        header = replace(header, encoded=(longest, columns), encoded_fov=fov)
        text = (
            f"Lines have up to {longest} samples, the header's encoded matrix only {rows}: the rest"
            " is taken for readout oversampling."
        )
        notes = (Note("matrix_adapted", text, assumed=True),)
    return _sized(header, imaging.path), notes


def _sized(header: Header, path: Path) -> Header:
    """Refuse a grid that no scan has."""
    assert header.encoded is not None  # noqa: S101
    size = (*header.encoded, header.partitions[0])
    if max(size) > _LARGEST or min(size[:2]) < 2:
        raise InputError(
            f"The encoded matrix of {path} is {' x '.join(map(str, size))}; each side of an image"
            f" must be between 2 and {_LARGEST}.",
            "correct the matrix of encodedSpace in its header.",
        )
    return header


def _centre(header: Header) -> tuple[int, int]:
    """Steps of the k-space centre: the middle of the grid where the header has no limits."""
    assert header.encoded is not None  # noqa: S101
    columns, partitions = header.encoded[1], header.partitions[0]
    middle = header.partition_centre
    if partitions == 1 or middle is None:
        middle = partitions // 2
    return columns // 2 if header.centre is None else header.centre, middle


def _averages(lines: Lines, image: NDArray[np.intp]) -> int:
    """Least number of lines at one place of one image."""
    keys = np.stack([image, lines.partition, lines.column])
    return int(np.unique(keys, axis=1, return_counts=True)[1].min())


def _reference(
    xml: str, header: Header, lines: Acquisitions, shape: tuple[int, int, int]
) -> tuple[Lines | None, tuple[Note, ...]]:
    """Calibration lines on the grid of the image, or a note where they do not fit it."""
    if not len(lines):
        return None, ()
    image = np.unique(lines.counters, axis=0, return_inverse=True)[1].reshape(-1)
    own = parse_header(xml, int(lines.field("encoding_space_ref")[0]))
    centre = _centre(own if own.encoded else header)
    try:
        if own.encoded_fov != header.encoded_fov:
            raise InputError("Another field of view.")
        return place_lines(lines, image, shape, centre), ()
    except InputError:
        text = f"{len(lines)} calibration lines are left out: they do not fit the image's k-space."
        return None, (Note("calibration_left_out", text, assumed=True),)


def _noise(
    noise: Acquisitions, imaging: Acquisitions, header: Header, averages: int = 1
) -> tuple[NDArray[np.complex64] | None, tuple[Note, ...]]:
    """Samples of the noise scan with the level that the noise of the image has."""
    if not len(noise):
        return None, ()
    blocks = [block.swapaxes(0, 1).reshape(block.shape[1], -1) for _, block in noise.blocks()]
    n_coils = int(imaging.field("active_channels")[0])
    if any(len(block) != n_coils for block in blocks):
        text = f"The noise scan is left out: it has not the {n_coils} coils of the image."
        return None, (Note("noise_left_out", text, assumed=True),)
    samples = np.concatenate(blocks, axis=1)
    if samples.size == 0 or not np.isfinite(samples).all() or not samples.any():
        text = "The noise scan is left out: it has no samples, or samples that are not numbers."
        return None, (Note("noise_left_out", text, assumed=True),)
    mine, theirs = (float(part.head["sample_time_us"][0]) for part in (imaging, noise))
    # Noise power is proportional to the bandwidth, the inverse of the sampling time.
    ratio = theirs / mine if mine > 0 and theirs > 0 else 1.0
    power = ratio / header.noise_bandwidth / averages
    return samples * np.float32(np.sqrt(power)), ()


def _vector(values: Any) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _text(item: h5py.Dataset) -> str:
    """The XML header, whatever way it is stored."""
    values = np.asarray(item[()]).reshape(-1)
    return plain_text(values[0]) if len(values) else ""
