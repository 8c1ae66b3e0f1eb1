"""From a slice with samples anywhere in k-space to white data and sensitivities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.errors import InputError, UsageError
from tiltkit.operators.cg import conjugate_gradient
from tiltkit_mri.compression import virtual_coils
from tiltkit_mri.espirit import FEWEST_LINES, given_sensitivities
from tiltkit_mri.fourier import fft
from tiltkit_mri.masks import MOST_LINES, complete_centre
from tiltkit_mri.noise import (
    Noise,
    combine_sources,
    noise_of_outer_kspace,
    noise_of_residual,
    noise_of_scan,
)
from tiltkit_mri.non_cartesian import NonCartesianSense
from tiltkit_mri.prepare import Prepared, estimate_sensitivities, find_whitening

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_mri.kspace import KSpace

__all__ = ["grid_centre", "prepare_non_cartesian"]

# Points around the gridded centre that are solved for as well: its edge depends on them.
_MARGIN = 6
# Damping of the gridding; the largest eigenvalue of complete Cartesian sampling is 1.
_DAMPING = 1e-3
# The same for the fit of images that leaves the noise: less than the noise of a sample.
_FIT_DAMPING = 0.01


def prepare_non_cartesian(
    scan: KSpace,
    index: int,
    *,
    noise_level: float | None = None,
    calibration_lines: int | None = None,
    kernel: int | None = None,
    threshold: float = 0.02,
    coils: int | None = None,
    maps: Tensor | None = None,
) -> Prepared:
    """Read a slice, estimate its noise, whiten its coils, and estimate its sensitivities.

    The maps come from the densely sampled centre of k-space, gridded to Cartesian points.

    Args:
        scan: A scan with a trajectory.
        index: Slice number.
        noise_level: As for `tiltkit_mri.prepare.prepare`, like all that follow.
        calibration_lines: Use so many points along each axis at the centre.
        kernel: ESPIRiT kernel size; found from the number of samples when None.
        threshold: ESPIRiT singular value threshold.
        coils: Number of virtual coils.
        maps: Maps of the scan's coils (coil, row, column) on the grid of the image.

    Raises:
        InputError: The slice cannot be used: no data, no noise, or no densely sampled centre.
        UsageError: More calibration lines were asked for than there are, or too few.
    """
    assert scan.trajectory is not None  # noqa: S101
    samples = torch.from_numpy(scan.read(index))
    trajectory = torch.from_numpy(scan.trajectory(index))
    side, least = 0, kernel or FEWEST_LINES
    if maps is None:
        side = _calibration(scan, index, calibration_lines, least)
    live = (samples != 0).any(dim=1)
    measured = samples[live]

    def noise_of_slice() -> Noise:
        other = None if scan.noise is None else torch.from_numpy(scan.noise)[live]
        return _find_noise(measured, trajectory, scan.shape, other)

    noise, white = find_whitening(scan, index, measured, noise_level, noise_of_slice)
    y = block = white.apply(measured)
    if maps is None:
        block = grid_centre(y, trajectory, scan.shape, side)
    mix, energy_kept = virtual_coils(block, coils)
    y, block = (torch.einsum("vc,c...->v...", mix, data) for data in (y, block))
    if maps is None:
        found = estimate_sensitivities(block, scan.shape, kernel, threshold)
    else:
        found = given_sensitivities(torch.einsum("vc,c...->v...", mix, white.apply(maps[live])))
    return Prepared(
        y=y,
        mask=torch.from_numpy(scan.mask(index)),
        whitening=white,
        sensitivities=found,
        calibration_lines=side,
        mix=mix,
        noise=noise,
        energy_kept=energy_kept,
        trajectory=trajectory,
    )


def grid_centre(samples: Tensor, trajectory: Tensor, shape: tuple[int, int], side: int) -> Tensor:
    """Cartesian centre of k-space (coil, side, side), by least squares from the samples around it.

    Args:
        samples: Samples (coil, sample).
        trajectory: Positions (2, sample) in cycles per pixel.
        shape: Size (ny, nx) of the image.
        side: Points along each axis.
    """
    # The image at a low resolution: the same field of view with larger pixels.
    coarse = [min(n, side + 2 * _MARGIN) for n in shape]
    positions = trajectory * (torch.tensor(shape) / torch.tensor(coarse))[:, None]
    inside = (positions.abs() <= 0.5).all(dim=0)
    one_coil = torch.ones(1, *coarse, dtype=samples.dtype)
    operator = NonCartesianSense(one_coil, positions[:, inside])
    # Every coil is an image of a batch. The scale keeps the density of Cartesian points.
    images = operator.solve(_DAMPING, 1.0, operator.adjoint(samples[:, None, inside]))
    kspace = fft(torch.complex(images[:, 0], images[:, 1]))
    rows, columns = (slice(n // 2 - side // 2, n // 2 - side // 2 + side) for n in coarse)
    return kspace[:, rows, columns]


def _calibration(scan: KSpace, index: int, wanted: int | None, least: int) -> int:
    """Side of the largest square around the centre of k-space of which every point has a sample."""
    block = complete_centre(scan.mask(index))
    found = 0
    if all(block):
        middle = [n // 2 for n in scan.shape]
        before = min(m - run.start for m, run in zip(middle, block, strict=True))
        after = min(run.stop - m for m, run in zip(middle, block, strict=True))
        found = min(max(2 * min(before, after), 2 * min(before, after - 1) + 1), MOST_LINES)
    if found < least:
        raise InputError(
            f"Slice {index} of {scan.path} is densely sampled at {found} x {found} points at the"
            f" centre of k-space only; coil maps need at least {least}.",
            "use more spokes or interleaves, or give maps with -s task.maps=FILE.",
        )
    if wanted is not None and not least <= wanted <= found:
        raise UsageError(
            f"{wanted} calibration lines were asked for, the dense centre of {scan.path} has"
            f" {found} and coil maps need {least}.",
            f"set task.calibration_lines between {least} and {found}.",
        )
    return wanted or found


def _find_noise(
    measured: Tensor, trajectory: Tensor, shape: tuple[int, int], scan: Tensor | None
) -> Noise:
    """Noise from redundant samples, outer k-space and a noise scan.

    Readouts sample more densely than an image in the field of view needs, spokes twofold. An image
    is fitted to each coil; what it leaves is noise.

    Raises:
        ValueError: No place has noise.
    """
    operator = NonCartesianSense(torch.ones(1, *shape, dtype=measured.dtype), trajectory)
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(1, measured.shape[1], dtype=measured.dtype, generator=generator)
    # Coils of unit strength are the images of a batch: one tolerance suits all.
    strength = measured.abs().square().mean(1, keepdim=True).sqrt()
    data = torch.cat([measured / strength, white])[:, None]
    images = conjugate_gradient(
        operator.normal, operator.adjoint(data), _FIT_DAMPING, 1.0, rtol=1e-4, max_iter=2000,
        precondition=operator.preconditioner(_FIT_DAMPING, 1.0),
    )[0]  # fmt: skip
    left = (data - operator.forward(images))[:, 0]
    sources = [
        noise_of_residual(left[:-1] * strength, left[-1:]),
        noise_of_outer_kspace(measured, 2 * trajectory),
        None if scan is None else noise_of_scan(scan),
    ]
    return combine_sources([one for one in sources if one])
