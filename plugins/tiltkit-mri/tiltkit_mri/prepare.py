"""From the k-space of one slice to white coil data, sensitivities and a scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import InputError, UsageError
from tiltkit_mri.compression import virtual_coils
from tiltkit_mri.espirit import Sensitivities, espirit, given_sensitivities
from tiltkit_mri.examine import examine
from tiltkit_mri.fourier import fft, ifft
from tiltkit_mri.noise import (
    Noise,
    Whitening,
    combine_sources,
    noise_of_air,
    noise_of_outer_kspace,
    noise_of_scan,
    whitening,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tiltkit.problem import Note
    from tiltkit_mri.kspace import KSpace

__all__ = ["Prepared", "centre", "find_noise", "prepare"]

# More calibration lines than this do not improve the maps.
_MOST_LINES = 32


@dataclass(frozen=True, slots=True)
class Prepared:
    """One slice, ready for an operator; file units, noise white and equal in all coils.

    Attributes:
        y: Measured k-space (coil, row, measured column), readout oversampling removed. Coils are
            mixed, and may be fewer than those of the scan.
        columns: Measured columns, bool (columns,).
        whitening: Matrix that mixes the coils, and the noise level.
        sensitivities: Coil maps of the mixed coils (coil, row, column).
        calibration_lines: Columns that the maps come from; 0 where they were given.
        noise: Estimate of the noise; None where its level was given.
        energy_kept: Share of the energy of the calibration lines in the coils of ``y``.
        notes: What the examination of the slice found.
    """

    y: Tensor
    columns: Tensor
    whitening: Whitening
    sensitivities: Sensitivities
    calibration_lines: int
    noise: Noise | None = None
    energy_kept: float = 1.0
    notes: tuple[Note, ...] = ()


def prepare(
    scan: KSpace,
    index: int,
    *,
    noise_level: float | None = None,
    calibration_lines: int | None = None,
    kernel: int = 6,
    threshold: float = 0.02,
    coils: int | None = None,
    maps: Tensor | None = None,
    calibration_rows: int | None = None,
) -> Prepared:
    """Read a slice, estimate its noise, whiten its coils, and estimate its sensitivities.

    Args:
        scan: The scan.
        index: Slice number.
        noise_level: Standard deviation per real component in all coils, in file units; then the
            coils are taken as white. None estimates the covariance.
        calibration_lines: Use so many lines at the centre; all there are (up to 32) when None.
        kernel: ESPIRiT kernel size.
        threshold: ESPIRiT singular value threshold.
        coils: Number of virtual coils; see `virtual_coils`.
        maps: Maps of the scan's coils (coil, row, column), readout oversampling removed; estimated
            from calibration lines when None.
        calibration_rows: Use so many readout samples at the centre; 32, or as many as lines, when
            None.

    Raises:
        InputError: The slice cannot be used: no data, no noise, too few calibration lines, or a
            sampling without whole columns.
        UsageError: More lines were asked for than there are, or fewer than the kernel needs.
    """
    _check_sampling(scan)
    data = scan.read(index)
    examined = examine(data, scan.columns[index], scan.header.measured_columns)
    scan = _with_columns(scan, index, examined.columns)
    lines = range(0)
    if maps is None:
        lines = _calibration(scan, index, calibration_lines, calibration_rows, kernel)
    columns, live = torch.from_numpy(examined.columns), torch.from_numpy(examined.coils)
    measured = torch.from_numpy(data)[live][..., columns]
    try:
        noise = None
        if noise_level is None:
            noise = _noise(scan, measured, live, columns)
            white = whitening(noise.covariance)
        else:
            white = Whitening(torch.eye(len(measured), dtype=measured.dtype), noise_level)
    except ValueError as error:
        raise InputError(
            f"Slice {index} of {scan.path} has a coil or a mixture of coils without any noise.",
            "give the noise with -s task.noise_level=VALUE.",
        ) from error

    def whitened(kspace: Tensor) -> Tensor:
        """White coils (coil, row, column), readout oversampling removed."""
        return fft(centre(white.apply(ifft(kspace, (1,))), scan.recon[0], dim=1), (1,))

    y = whitened(measured)
    if maps is not None:
        block = y
    elif scan.reference is None or scan.reference_columns is None:
        block = _centre_block(y, columns, lines, calibration_rows)
    else:
        known = torch.from_numpy(scan.reference_columns[index])
        reference = torch.from_numpy(scan.reference(index))[live][..., known]
        block = _centre_block(whitened(reference), known, lines, calibration_rows)
    mix, energy_kept = virtual_coils(block, coils)
    y, block = (torch.einsum("vc,c...->v...", mix, data) for data in (y, block))
    shape = (y.shape[1], len(columns))
    if maps is None:
        found = _sensitivities(block, shape, kernel, threshold)
    else:
        found = given_sensitivities(torch.einsum("vc,c...->v...", mix, white.apply(maps[live])))
    return Prepared(
        y=y,
        columns=columns,
        whitening=white,
        sensitivities=found,
        calibration_lines=len(lines),
        noise=noise,
        energy_kept=energy_kept,
        notes=examined.notes,
    )


def _check_sampling(scan: KSpace) -> None:
    """Refuse a sampling that no operator of this plugin has."""
    if scan.trajectory is not None or scan.points is not None:
        kind = "a non-Cartesian trajectory" if scan.trajectory else "single points left out"
        raise InputError(
            f"{scan.path} has {kind}, which is not supported yet.",
            "use a scan whose columns are measured as a whole or not at all.",
        )


def _with_columns(scan: KSpace, index: int, used: NDArray[np.bool_]) -> KSpace:
    """The scan with other measured columns of one slice."""
    columns = scan.columns.copy()
    columns[index] = used
    return replace(scan, columns=columns)


def _centre_block(y: Tensor, columns: Tensor, lines: range, wanted: int | None) -> Tensor:
    """Centre of k-space (coil, row, line) at calibration lines, from measured columns ``y``."""
    within = torch.cumsum(columns, 0) - 1  # column of k-space to measured column
    block = y[..., within[lines.start : lines.stop]]
    rows = min(block.shape[1], wanted or max(len(lines), _MOST_LINES))
    # The sample at ny // 2 is the centre of k-space: keep it at the centre of the block.
    first = block.shape[1] // 2 - rows // 2
    return block[:, first : first + rows]


def centre(image: Tensor, size: int, dim: int) -> Tensor:
    """Cut the middle of one axis, where fastMRI cuts it."""
    return image.narrow(dim, (image.shape[dim] - size) // 2, size)


def _calibration(
    scan: KSpace, index: int, wanted: int | None, rows_wanted: int | None, kernel: int
) -> range:
    """Columns to estimate the maps from, around the centre."""
    run = scan.calibration(index)
    rows, columns = scan.shape
    if len(run) < kernel:
        found = f"{len(run)} calibration lines" if run else "no calibration lines"
        raise InputError(
            f"Slice {index} of {scan.path} ({scan.n_coils} coils, {rows} rows, {columns} columns)"
            f" has {found} around the centre of k-space (column {columns // 2}); coil maps need at"
            f" least {kernel}.",
            "use a scan with a fully sampled centre, axes in the order (slice, coil, row, column).",
        )
    if scan.recon[0] < kernel:
        raise InputError(
            f"The image of {scan.path} has {scan.recon[0]} rows; coil maps need at least {kernel}.",
            "correct the matrix of reconSpace in its header, or set task.kernel lower.",
        )
    if rows_wanted is not None and rows_wanted < kernel:
        raise UsageError(
            f"{rows_wanted} calibration rows were asked for, the kernel needs {kernel}.",
            f"set task.calibration_rows to {kernel} or more.",
        )
    if wanted is not None and not kernel <= wanted <= len(run):
        raise UsageError(
            f"{wanted} calibration lines were asked for, {scan.path} has {len(run)} and the"
            f" kernel needs {kernel}.",
            f"set task.calibration_lines between {kernel} and {len(run)}.",
        )
    count = wanted or min(len(run), _MOST_LINES)
    first = min(max(scan.shape[1] // 2 - count // 2, run.start), run.stop - count)
    return range(first, first + count)


def find_noise(measured: Tensor, columns: Tensor, scan: Tensor | None = None) -> Noise:
    """Noise of a slice of a Cartesian scan, from all places that have some.

    Args:
        measured: Measured columns of k-space (coil, row, column), complex.
        columns: Measured columns, bool (columns,).
        scan: Samples of a noise scan (coil, sample); None where there is none.

    Raises:
        ValueError: No place has noise.
    """
    n_rows, n_columns = measured.shape[1], len(columns)
    across = columns.nonzero().squeeze(1) - n_columns // 2
    along = torch.arange(n_rows) - n_rows // 2
    grid = torch.meshgrid(along / (n_rows / 2), across / (n_columns / 2), indexing="ij")
    sources = [
        noise_of_air(ifft(measured, (1,)), across.abs()),
        noise_of_outer_kspace(measured.flatten(1), torch.stack(grid).flatten(1)),
        None if scan is None else noise_of_scan(scan),
    ]
    return combine_sources([one for one in sources if one])


def _noise(scan: KSpace, measured: Tensor, live: Tensor, columns: Tensor) -> Noise:
    """Noise of the coils that are not switched off, ``live`` (coil,)."""
    samples = None if scan.noise is None else torch.from_numpy(scan.noise)[live]
    return find_noise(measured, columns, samples)


def _sensitivities(
    block: Tensor, shape: tuple[int, int], kernel: int, threshold: float
) -> Sensitivities:
    if len(block) == 1:  # one coil: its sensitivity is part of the image
        return Sensitivities(torch.ones(1, *shape, dtype=block.dtype), torch.ones(shape))
    return espirit(block, shape, kernel=kernel, threshold=threshold)
