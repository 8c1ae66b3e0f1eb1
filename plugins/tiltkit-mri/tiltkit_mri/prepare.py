"""From the k-space of one slice to white coil data, sensitivities and a scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import InputError, UsageError
from tiltkit.problem import Note
from tiltkit_mri.compression import mix_coils, virtual_coils
from tiltkit_mri.espirit import FEWEST_LINES, Sensitivities, espirit, given_sensitivities
from tiltkit_mri.examine import examine
from tiltkit_mri.fourier import fft, ifft
from tiltkit_mri.geometric_compression import geometric_coils, mix_kspace
from tiltkit_mri.masks import MOST_LINES, around, complete_centre, whole_columns
from tiltkit_mri.noise import Noise, Source, Whitening, whitening
from tiltkit_mri.noise_places import find_noise

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_mri.kspace import KSpace
    from tiltkit_mri.options import Compression

__all__ = [
    "Prepared", "centre", "estimate_sensitivities", "find_whitening", "no_geometric", "prepare",
]  # fmt: skip

# Noise of a coil, over the median of all, from which on its map is mostly noise.
_NOISY = 5.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """One slice, ready for an operator; file units, noise white and equal in all coils.

    Attributes:
        y: Measured k-space: (coil, row, measured column) with the readout oversampling removed
            where whole columns are measured, else (coil, measured point) in row-major order. Coils
            are mixed, and may be fewer than those of the scan.
        mask: Measured points on the grid of the maps, bool (row, column).
        whitening: Matrix that mixes the coils, and the noise level.
        sensitivities: Coil maps of the mixed coils (coil, row, column).
        calibration_lines: Number of columns that the maps come from; 0 where they were given.
        mix: Matrix (virtual coil, coil) from the white coils to those of ``y``, or one for each
            row of the image (row, virtual coil, coil).
        noise: Estimate of the noise; None where its level was given.
        energy_kept: Share of the energy of the calibration lines in the coils of ``y``.
        notes: What the examination of the slice found.
        trajectory: Positions (2, sample) in cycles per pixel of the grid of the maps, of ``y``
            (coil, sample); ``mask`` then has the points of the grid near a sample. None for
            Cartesian sampling.
    """

    y: Tensor
    mask: Tensor
    whitening: Whitening
    sensitivities: Sensitivities
    calibration_lines: int
    mix: Tensor
    noise: Noise | None = None
    energy_kept: float = 1.0
    notes: tuple[Note, ...] = ()
    trajectory: Tensor | None = None

    def file_maps(self) -> Tensor:
        """Maps (coil, row, column) of the coils of the file, which were mixed for ``y``.

        The root of the sum of their squares, times the magnitude of the image, is the root of the
        sum of squares over the coils of the file, whatever the whitening. Coils with much more
        noise than others are left out: their maps are mostly noise.
        """
        back = torch.linalg.inv(self.whitening.matrix)
        noise = back.abs().square().sum(1).sqrt()
        maps = self.sensitivities.maps
        mixed = mix_coils(back, mix_coils(self.mix.mH, maps))
        return mixed[noise <= _NOISY * noise.median()]


def prepare(
    scan: KSpace,
    index: int,
    *,
    noise_level: float | None = None,
    calibration_lines: int | None = None,
    kernel: int | None = None,
    threshold: float = 0.02,
    coils: int | None = None,
    compression: Compression = "svd",
    maps: Tensor | None = None,
    calibration_rows: int | None = None,
    air: Source | None = None,
) -> Prepared:
    """Read a slice, estimate its noise, whiten its coils, and estimate its sensitivities.

    Args:
        scan: A Cartesian scan.
        index: Slice number.
        noise_level: Standard deviation per real component in all coils, in file units; then the
            coils are taken as white. None estimates the covariance.
        calibration_lines: Use so many lines at the centre; all there are (up to 32) when None.
        kernel: ESPIRiT kernel size; found from the number of lines when None.
        threshold: ESPIRiT singular value threshold.
        coils: Number of virtual coils; see `virtual_coils`.
        compression: ``"geometric"`` for `geometric_coils` in place of `virtual_coils`.
        maps: Maps of the scan's coils (coil, row, column), readout oversampling removed; estimated
            from calibration lines when None.
        calibration_rows: Use so many readout samples at the centre; 32, or as many as lines, when
            None.
        air: Noise of slices of air; see `noise_of_slices`.

    Raises:
        InputError: The slice cannot be used: no data, no noise, or too few calibration lines.
        UsageError: More lines were asked for than there are, or fewer than the kernel needs; or
            geometric compression of a scan without whole columns.
    """
    points = scan.mask(index)
    geometric = compression == "geometric"
    if geometric and not whole_columns(points):
        raise no_geometric(scan)
    stated = scan.header.measured_columns
    examined = examine(scan.read(index), points, stated)
    points = points & examined.columns
    with_spikes, points = points, points & examined.sound
    rows = lines = range(0)
    if maps is None:
        complete = complete_centre(points) if scan.reference is None else scan.centre_block(index)
        least = kernel or FEWEST_LINES
        _check_calibration(scan, index, complete, calibration_lines, calibration_rows, least)
        rows, lines = _trimmed(complete, scan.shape, calibration_rows, calibration_lines)
    mask, columns = torch.from_numpy(points), torch.from_numpy(examined.columns)
    whole = whole_columns(points)
    live = torch.from_numpy(examined.coils)
    kspace = torch.from_numpy(examined.data)[live]
    measured = kspace[..., columns] if whole else kspace[:, mask]

    def noise_of_slice() -> Noise:
        samples = None if scan.noise is None else torch.from_numpy(scan.noise)[live]
        place = air and replace(air, covariance=air.covariance[live][:, live])
        apart = scan.differences and torch.from_numpy(scan.differences(index))[live]
        # Spikes do not count there.
        return find_noise(kspace, torch.from_numpy(with_spikes), samples, place, apart)

    noise, white = find_whitening(scan, index, measured, noise_level, noise_of_slice)

    def whitened(kspace: Tensor) -> Tensor:
        """White coils; of whole columns (coil, row, column) without readout oversampling."""
        if not whole:
            # Without all rows the oversampling cannot be removed from k-space.
            return white.apply(kspace)
        return fft(centre(white.apply(ifft(kspace, (1,))), scan.recon[0], dim=1), (1,))

    y = calibration = whitened(measured)
    if maps is None:
        source = kspace if scan.reference is None else torch.from_numpy(scan.reference(index))[live]
        calibration = whitened(source[..., lines.start : lines.stop])
    if whole:  # fewer rows than before
        n_rows = y.shape[1]
        rows = around(range(n_rows), n_rows // 2, len(rows) or MOST_LINES)
    inner = calibration[:, rows.start : rows.stop]
    if geometric and whole:
        mix, energy_kept = geometric_coils(inner, y.shape[1], coils)
    else:
        mix, energy_kept = virtual_coils(calibration if maps is not None else inner, coils)
    y, calibration = (mix_kspace(mix, data) for data in (y, calibration))
    if whole:
        mask = columns.expand(y.shape[1], -1)
    if maps is None:
        shape = (mask.shape[0], mask.shape[1])
        block = calibration[:, rows.start : rows.stop]
        found = estimate_sensitivities(block, shape, kernel, threshold, white.noise_level)
    else:
        found = given_sensitivities(mix_coils(mix, white.apply(maps[live])))
    return Prepared(
        y=y,
        mask=mask,
        whitening=white,
        sensitivities=found,
        calibration_lines=len(lines),
        mix=mix,
        noise=noise,
        energy_kept=energy_kept,
        notes=examined.notes + (_compression_notes(mix) if geometric else ()),
    )


def no_geometric(scan: KSpace) -> UsageError:
    """Error for geometric compression of a scan that has no matrix for each row."""
    return UsageError(
        "Geometric coil compression needs a Cartesian scan with whole columns of k-space, which"
        f" {scan.path} is not.",
        "leave task.compression out.",
    )


def _compression_notes(mix: Tensor) -> tuple[Note, ...]:
    """A note where geometric compression was asked for, and the coils are combined otherwise."""
    if mix.ndim == 2:
        text = (
            "Coils are combined alike in the whole image: samples of k-space are left out, and"
            " geometric compression needs whole columns."
        )
        return (Note("compressed_by_svd", text, assumed=True),)
    if mix.shape[1] == mix.shape[2]:
        text = (
            f"task.compression=geometric changes nothing, since all {mix.shape[2]} coils are used:"
            " up to 16 are, unless task.coils is lower."
        )
        return (Note("not_compressed", text),)
    return ()


def find_whitening(
    scan: KSpace,
    index: int,
    measured: Tensor,
    noise_level: float | None,
    find: Callable[[], Noise],
) -> tuple[Noise | None, Whitening]:
    """Noise of the coils of a slice, and the matrix that whitens them.

    Args:
        scan: The scan.
        index: Slice number.
        measured: Samples (coil, ...).
        noise_level: As for `prepare`; the noise is None where it is given.
        find: Estimates the noise; raises ValueError where no place has any.

    Raises:
        InputError: A coil, or a mixture of coils, has no noise.
    """
    if noise_level is not None:
        return None, Whitening(torch.eye(len(measured), dtype=measured.dtype), noise_level)
    try:
        noise = find()
        return noise, whitening(noise.covariance)
    except ValueError as error:
        raise InputError(
            f"Slice {index} of {scan.path} has a coil or a mixture of coils without any noise.",
            "give the noise with -s task.noise_level=VALUE.",
        ) from error


def centre(image: Tensor, size: int, dim: int) -> Tensor:
    """Cut the middle of one axis, where fastMRI cuts it."""
    return image.narrow(dim, (image.shape[dim] - size) // 2, size)


def _check_calibration(
    scan: KSpace,
    index: int,
    block: tuple[range, range],
    lines: int | None,
    rows: int | None,
    least: int,
) -> None:
    """Refuse a centre of k-space that is too small for coil maps, or for what is asked for."""
    complete = min(map(len, block))
    if complete < least:
        found = f"{complete} calibration lines" if complete else "no calibration lines"
        shape = f"{scan.n_coils} coils, {scan.shape[0]} rows, {scan.shape[1]} columns"
        cause = "".join(f" {note.text}" for note in scan.notes if note.code == "off_centre")
        hint = (
            "use a scan with a fully sampled centre, axes in the order (slice, coil, row, column)"
        )
        raise InputError(
            f"Slice {index} of {scan.path} ({shape}) has {found} around the centre of k-space"
            f" (column {scan.shape[1] // 2}); coil maps need at least {least}.{cause}",
            f"state the centre of k-space, or {hint}." if cause else f"{hint}.",
        )
    if scan.recon[0] < least:
        raise InputError(
            f"The image of {scan.path} has {scan.recon[0]} rows; coil maps need at least {least}.",
            "correct the matrix of reconSpace in its header, or set task.kernel lower.",
        )
    if rows is not None and rows < least:
        raise UsageError(
            f"{rows} calibration rows were asked for, coil maps need {least}.",
            f"set task.calibration_rows to {least} or more.",
        )
    if lines is not None and not least <= lines <= len(block[1]):
        raise UsageError(
            f"{lines} calibration lines were asked for, {scan.path} has {len(block[1])} and coil"
            f" maps need {least}.",
            f"set task.calibration_lines between {least} and {len(block[1])}.",
        )


def _trimmed(
    block: tuple[range, range], shape: tuple[int, int], rows: int | None, lines: int | None
) -> tuple[range, range]:
    """The part of the complete centre that the maps are estimated from."""
    columns = around(block[1], shape[1] // 2, lines or MOST_LINES)
    return around(block[0], shape[0] // 2, rows or max(len(columns), MOST_LINES)), columns


def estimate_sensitivities(
    block: Tensor,
    shape: tuple[int, int],
    kernel: int | None,
    threshold: float,
    noise_level: float | None = None,
) -> Sensitivities:
    """Maps of size ``shape`` from the centre of k-space (coil, rows, columns)."""
    if len(block) == 1:  # one coil: its sensitivity is part of the image
        return Sensitivities(torch.ones(1, *shape, dtype=block.dtype), torch.ones(shape))
    return espirit(block, shape, kernel=kernel, threshold=threshold, noise_level=noise_level)
