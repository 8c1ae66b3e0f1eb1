"""The task ``mri-recon``: posterior of the coil-combined image of undersampled Cartesian MRI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from tiltkit.errors import InputError
from tiltkit.io.sniff import find_reader
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.priors.scale import image_scale
from tiltkit.problem import Constraint, Note, Problem
from tiltkit.protocols import Axis, Layout
from tiltkit_mri.arrays import Cfl, Npy
from tiltkit_mri.axes import parse_axes
from tiltkit_mri.calibration import with_calibration
from tiltkit_mri.centring import centred, parse_centre
from tiltkit_mri.choose import choose_slices, parse_choice
from tiltkit_mri.espirit import FEWEST_LINES, describe_maps
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.folded import combine_parts, largest_part
from tiltkit_mri.foreign import foreign_format
from tiltkit_mri.geometry import interpolation
from tiltkit_mri.given_maps import read_maps, read_positions
from tiltkit_mri.kspace import VOLUME_AXES
from tiltkit_mri.noise import Source, describe_noise
from tiltkit_mri.noise_maps import describe_g_factor, noise_maps
from tiltkit_mri.noise_places import noise_of_slices
from tiltkit_mri.non_cartesian import NonCartesianSense
from tiltkit_mri.operators import CartesianSense, MaskedFourier
from tiltkit_mri.options import ESTIMATED, MriOptions
from tiltkit_mri.prepare import Prepared, centre, no_geometric, prepare
from tiltkit_mri.prepare_non_cartesian import prepare_non_cartesian
from tiltkit_mri.sense import MaskedSense
from tiltkit_mri.shared_maps import with_shared_maps

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

    from tiltkit.protocols import Prior, Reader
    from tiltkit_mri.kspace import KSpace

__all__ = ["MriOptions", "MriRecon", "MriScan"]


Operator = CartesianSense | MaskedFourier | MaskedSense | NonCartesianSense
_NAMES = {
    CartesianSense: "mri.cartesian", MaskedFourier: "mri.masked_fft", MaskedSense: "mri.sense",
    NonCartesianSense: "mri.non_cartesian",
}  # fmt: skip

# Settings that readers of arrays take.
_SETTINGS: dict[Any, set[str]] = {
    FastMri: {"axes", "positions"},
    Npy: {"axes", "positions"},
    Cfl: {"positions"},
}
# Of the image that sets the scale: a hundredth of the largest eigenvalue that A^H A can have.
_DAMPING = 0.01


class MriRecon:
    """Reconstruct undersampled multi-coil or single-coil Cartesian scans.

    Coils are mixed so that their noise is white. The unknown is the coil-combined image:
    sensitivities whose squares sum to 1 carry the coils, the image carries the rest. The result is
    its magnitude, with the brightness of the root of the sum of squares over the coils of the file.
    """

    Options: ClassVar[type[BaseModel]] = MriOptions
    default_prior: ClassVar[str] = "mri.brain"

    def __init__(self, options: MriOptions) -> None:
        self.options = options

    @contextmanager
    def open(self, path: Path) -> Iterator[MriScan]:
        """Open a scan read-only and check all of its values.

        Raises:
            InputError: The file cannot be read, has another layout, or holds unusable values.
        """
        reader, o = _reader(path), self.options
        given: dict[str, Any] = {}
        if o.axes is not None:
            given["axes"] = parse_axes(o.axes)
        if o.trajectory is not None:
            given["positions"] = read_positions(Path(o.trajectory))
        known = _SETTINGS.get(reader, set())
        for name in sorted(given.keys() - known):
            setting = "task.trajectory" if name == "positions" else "task.axes"
            raise InputError(
                f"{setting} is given, but the layout of {path} states its {name} itself.",
                f"leave {setting} out.",
            )
        opened = reader.open(path, **given)
        with opened as kspace, self._calibration() as calibration:
            stated = self.options.centre
            kspace = centred(kspace, parse_centre(stated) if stated else None)
            if calibration is not None:
                kspace = with_calibration(kspace, centred(calibration))
            elif self.options.shared_maps and self.options.maps == ESTIMATED:
                kspace = with_shared_maps(kspace)
            if self.options.choose:
                kspace = choose_slices(kspace, parse_choice(self.options.choose))
            scan = MriScan(kspace, self.options)
            _ = scan.first  # too few calibration lines show here, before there is any output
            yield scan

    def _calibration(self) -> AbstractContextManager[KSpace | None]:
        """The scan with the calibration lines, where it is another file."""
        given = self.options.calibration
        return nullcontext() if given is None else _reader(Path(given)).open(Path(given))


@dataclass(frozen=True)
class MriScan:
    """An open scan; see `tiltkit.problem.Scan`."""

    kspace: KSpace
    options: MriOptions

    @cached_property
    def layout(self) -> Layout:
        """Slices, rows and columns, in mm where the header states the field of view."""
        ny, nx = self._output_shape
        mm = self.kspace.pixel_mm
        height, width = mm or (1.0, 1.0)
        units = "mm" if mm else "px"
        across, along, columns = self.kspace.axes
        return Layout(
            axes=(
                Axis("z", [float(z) for z in range(self.kspace.n_slices)], "px", across),
                Axis("y", _positions(ny, height), units, along),
                Axis("x", _positions(nx, width), units, columns),
            ),
            long_name="magnitude",
            title=f"MRI reconstruction of {self.kspace.path.name}",
            metadata={**self.kspace.metadata, **_geometry(self.kspace)},
            unusable=self.kspace.unusable,
        )

    @cached_property
    def prepare(self) -> Callable[[int], Prepared]:
        """White coil data and sensitivities of one slice; the last one is kept.

        Opening a scan prepares a slice to find faults early, and sampling needs it again.
        """
        return lru_cache(maxsize=1)(self._prepare)

    @cached_property
    def _air(self) -> Source | None:
        """Noise of slices of air, of a volume with two phase encodings."""
        return noise_of_slices(self.kspace)

    @cached_property
    def first(self) -> int:
        """The first slice that can be used: a bad one must not spoil those that were chosen.

        Raises:
            InputError: None can be used; says why of the first with enough calibration lines, or
                of the first where none has.
        """
        k, o = self.kspace, self.options
        needed = (o.kernel or FEWEST_LINES) if o.maps == ESTIMATED else 0
        # How many lines there are is known without reading all slices once more.
        usable = [i for i in range(k.n_slices) if i not in k.unusable]
        enough = [i for i in usable if min(map(len, k.centre_block(i))) >= needed]
        faults = []
        for index in enough or [0]:
            try:
                self.prepare(index)
            except InputError as fault:
                faults.append(fault)
            else:
                return index
        raise faults[0]

    def _chosen(self, index: int) -> Prepared:
        """A slice to sample.

        Raises:
            InputError: It cannot be used; others can, or the scan would not be open.
        """
        try:
            return self.prepare(index)
        except InputError as fault:
            hint = f"{fault.hint.removesuffix('.')}, or leave slice {index} out with --slices."
            raise InputError(fault.message, hint) from fault

    def _prepare(self, index: int) -> Prepared:
        o, maps = self.options, None
        if o.maps != ESTIMATED:
            maps = torch.from_numpy(read_maps(Path(o.maps), self.kspace, index))
        given: dict[str, Any] = {
            "noise_level": o.noise_level,
            "calibration_lines": o.calibration_lines,
            "kernel": o.kernel,
            "threshold": o.threshold,
            "coils": o.coils,
            "maps": maps,
        }
        if self.kspace.trajectory is not None:
            if o.compression == "geometric":
                raise no_geometric(self.kspace)
            return prepare_non_cartesian(self.kspace, index, **given)
        air = self._air if o.noise_level is None else None
        rows = o.calibration_rows
        given["compression"] = o.compression
        return prepare(self.kspace, index, calibration_rows=rows, air=air, **given)

    def problem(self, index: int, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of one slice, scaled to the prior's range."""
        slice_ = self._chosen(index)
        operator, y = _operator(slice_, device)
        zero_filled = operator.adjoint(y)
        scale = self.options.scale or self._scale(operator, zero_filled, index)
        file_maps = slice_.file_maps().to(device)
        shading = file_maps.abs().square().sum(0).sqrt()
        pixels = self._pixels(device)
        on_field_of_view = _on_field_of_view(slice_, file_maps, shading)

        def to_image(x: Tensor) -> Tensor:
            re, im = pixels(on_field_of_view(x)).unbind(1)
            return torch.hypot(re, im) * scale

        def phase(x: Tensor) -> Tensor:
            re, im = pixels(on_field_of_view(x[None])[0])
            return torch.atan2(im, re)

        def complex_image(x: Tensor) -> Tensor:
            return torch.complex(*pixels(on_field_of_view(x)).unbind(1)) * scale

        columns, at = slice_.mask.shape[1], slice_.sensitivities.at
        largest = partial(largest_part, columns=columns, at=at)
        noise_level, wanted = slice_.whitening.noise_level, self.options.output
        step = self.kspace.image.step
        gain = prod(min(1.0, along**-0.5) for along in step)  # larger pixels average noise
        return Problem(
            prior=prior,
            likelihood=GaussianLikelihood(operator, y / scale, (noise_level / scale) ** 2),
            shape=tuple(zero_filled.shape[1:]),
            to_image=to_image,
            baseline=to_image(_picture(operator, y, zero_filled) / scale)[0],
            phase=phase,
            notes=(
                *slice_.notes,
                *(describe_noise(slice_.noise) if slice_.noise else ()),
                *describe_maps(slice_.sensitivities, columns),
                *describe_g_factor(wanted, operator),
            ),
            complex_image=complex_image if "complex" in wanted else None,
            maps=noise_maps(wanted, operator, noise_level, pixels, gain, largest, shading),
            constraint=_support(slice_.sensitivities.maps, device),
            facts={
                "data_noise_level": noise_level,
                "scale": scale,
                "acceleration": self.kspace.acceleration(index),
                "coils": self.kspace.n_coils,
                "virtual_coils": len(slice_.y),
                "coil_energy_kept": slice_.energy_kept,
                "calibration_lines": slice_.calibration_lines,
                "map_certainty": slice_.sensitivities.certainty,
                "folded_columns": slice_.sensitivities.maps.shape[-1] - columns,
            },
        )

    def describe(self) -> Mapping[str, Any]:
        """Facts about the file and the first usable slice, by their names."""
        k, index = self.kspace, self.first
        first = self.prepare(index)
        operator, y = _operator(first, torch.device("cpu"))
        scale = self.options.scale or self._scale(operator, operator.adjoint(y), index)
        noise = first.whitening.noise_level
        rows, columns = k.shape
        blocks = k.recon[0] * columns**2 * 8 / 1e6 if isinstance(operator, CartesianSense) else 0.0
        return {
            "layout": k.layout,
            "slices": k.n_slices,
            "coils": _coils(k, first),
            "k-space": f"{rows} x {columns}",
            **_sampling(k, index),
            "coil maps": self._maps_source(first),
            "image": " x ".join(map(str, self._output_shape)),
            "pixel": "unknown" if k.pixel_mm is None
            else " x ".join(f"{size:.3g}" for size in k.pixel_mm) + " mm",
            "noise level": f"{noise:.3g} per component"
            + (f" (from {first.noise.source}, slice {index})" if first.noise else " (given)"),
            "signal": f"{scale:.3g}, {scale / noise:.0f} times the noise level",
            "operator": _NAMES[type(operator)],
            "memory for the operator": f"{blocks:.0f} MB",
        }  # fmt: skip

    def _maps_source(self, slice_: Prepared) -> str:
        """Where the coil maps of a slice come from, for people."""
        o = self.options
        if o.maps != ESTIMATED:
            return f"from {o.maps}, scaled to squares that sum to 1"
        source = f" of {o.calibration}" if o.calibration else ""
        lines = len(self.kspace.calibration(self.first))
        folded = slice_.sensitivities.maps.shape[-1] - slice_.mask.shape[1]
        sets = f", two sets in {folded} columns" if folded else ""
        return (
            f"ESPIRiT, from {slice_.calibration_lines} of {lines} calibration lines{source}{sets}"
        )

    @cached_property
    def notes(self) -> Sequence[Note]:
        """Notes on data left out or estimated, and on unusual features of the file."""
        k, notes = self.kspace, list(self.kspace.notes)
        if k.axes == VOLUME_AXES:
            text = (
                "Both phase encodings of the volume are undersampled: slices are positions along"
                " the readout."
            )
            notes.append(Note("sliced_along_readout", text))
        if k.pixel_mm is None:
            notes.append(Note("pixel_unknown", "The pixel size is unknown: axes are in pixels."))
        if k.unusable:
            numbers = ", ".join(map(str, k.unusable))
            notes.append(Note("slices_left_out", f"Slices that cannot be used: {numbers}."))
        return tuple(notes)

    @property
    def _output_shape(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        grid = self.kspace.image
        all_columns = int(self.kspace.shape[1] / grid.step[1] + 1e-6)
        return grid.matrix[0], grid.matrix[1] if self.options.crop else all_columns

    def _pixels(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Function from images (..., row, column) of the operator to those of the result.

        Whole columns are cut with the readout oversampling before sampling, all else here.
        """
        height, width = self._output_shape
        (rows, _), (down, across) = self.kspace.image.cut, self.kspace.image.step
        vertical = None if down == 1 else interpolation(rows, height, down).to(device)
        n = self.kspace.shape[1]
        horizontal = None if across == 1 else interpolation(n, width, across).to(device)

        def pixels(x: Tensor) -> Tensor:
            x = centre(x, rows, dim=-2)
            x = x if vertical is None else vertical.to(x) @ x
            return centre(x, width, dim=-1) if horizontal is None else x @ horizontal.to(x).mT

        return pixels

    def _scale(self, operator: Operator, zero_filled: Tensor, index: int) -> float:
        """Image value that becomes 1 in the prior's units, from damped least squares.

        A zero-filled image is blurred and so too dark where it is brightest, by a fifth at 4x.
        """
        if index not in self._scales:
            image = operator.solve(_DAMPING, 1.0, zero_filled)
            scale = image_scale(torch.hypot(image[0, 0], image[0, 1]).cpu())
            if not scale > 0:
                raise InputError(
                    f"Slice {index} of {self.kspace.path} holds no signal.",
                    "leave it out with --slices.",
                )
            self._scales[index] = scale
        return self._scales[index]

    @cached_property
    def _scales(self) -> dict[int, float]:
        """Scales by slice: `check` needs that of the first one twice, and it is slow to find."""
        return {}


def _coils(k: KSpace, slice_: Prepared) -> int | str:
    """Number of coils, and of those they are reduced to."""
    if slice_.energy_kept == 1:
        return k.n_coils
    where = " at each position along the readout" if slice_.mix.ndim == 3 else ""
    return (
        f"{k.n_coils}, reduced to {len(slice_.y)} virtual ones{where} with"
        f" {100 * slice_.energy_kept:.2f} % of the energy"
    )


def _sampling(k: KSpace, index: int) -> dict[str, str]:
    """How much of a slice is measured, in columns or in points."""
    if k.trajectory is not None:
        count, near = k.trajectory(index).shape[1], k.mask(index)
        return {
            "samples": f"{count}, near {near.mean():.0%} of the points of k-space, acceleration"
            f" {k.acceleration(index):.2f}"
        }
    unit, measured = (
        ("columns", k.columns[index]) if k.points is None else ("points", k.mask(index))
    )
    return {f"measured {unit}": f"{measured.sum()}, acceleration {k.acceleration(index):.2f}"}


def _geometry(kspace: KSpace) -> dict[str, Any]:
    """Names, positions and directions of all slices, for the result's metadata; may be empty."""
    found: dict[str, Any] = {}
    if kspace.geometry:
        # (slice, 3): vectors in the coordinates of the patient, and voxel sizes in mm.
        found["geometry"] = {
            name: np.array([getattr(place, name) for place in kspace.geometry])
            for name in ("position", "read_dir", "phase_dir", "slice_dir", "voxel_mm")
        }
    if kspace.slice_names:
        found["slice_names"] = "; ".join(kspace.slice_names)
    return found


def _reader(path: Path) -> type[Reader]:
    """The reader that any plugin brings for this file.

    A file that no reader recognises goes to `FastMri`, which says best what is wrong with it.

    Raises:
        InputError: The file has a format that must be converted first.
    """
    try:
        return find_reader(path, gives="mri.kspace")
    except InputError as error:
        if foreign := foreign_format(path):
            raise foreign from error
        return FastMri


def _operator(slice_: Prepared, device: torch.device) -> tuple[Operator, Tensor]:
    """The operator of a slice, and its measurement as the operator gives it."""
    y, mask = slice_.y.to(device), slice_.mask.to(device)
    if slice_.trajectory is not None:
        maps = slice_.sensitivities.maps.to(device)
        return NonCartesianSense(maps, slice_.trajectory.to(device)), y[None]
    if len(y) == 1:
        return MaskedFourier(mask), y.reshape(1, -1)
    found = slice_.sensitivities
    maps, at = found.maps.to(device), found.at
    if y.ndim == 2:
        return MaskedSense(maps, mask, at), y[None]
    return CartesianSense(maps, mask[0], at), y[None]


def _on_field_of_view(
    slice_: Prepared, file_maps: Tensor, shading: Tensor
) -> Callable[[Tensor], Tensor]:
    """Function from images (n, 2, ny, width) of the operator to those of the field of view.

    Args:
        slice_: The slice.
        file_maps: Maps of the coils of the file (coil, ny, width).
        shading: Root of the sum of their squares (ny, width).
    """
    found, columns = slice_.sensitivities, slice_.mask.shape[1]
    if found.at is None:
        return lambda x: x * shading
    maps = file_maps / shading.clamp_min(1e-30)
    combine = partial(combine_parts, maps, columns, found.at.to(maps.device))
    return lambda x: combine(x * shading)


def _picture(operator: Operator, y: Tensor, zero_filled: Tensor) -> Tensor:
    """The zero-filled image, with samples weighted by their density where that varies."""
    if not isinstance(operator, NonCartesianSense):
        return zero_filled
    return operator.adjoint(y * operator.density_compensation())


def _support(maps: Tensor, device: torch.device) -> Constraint | None:
    """The image is 0 where there is no coil map; None where there are maps everywhere."""
    known = (maps != 0).any(dim=0)
    return None if bool(known.all()) else Constraint(support=known.expand(2, -1, -1).to(device))


def _positions(n: int, step: float) -> list[float]:
    """Centres of pixels from the centre of the image."""
    return [(i - n // 2) * step for i in range(n)]
