"""A volume that is open for deconvolution: its images, their layout, the problem of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.errors import InputError, UsageError
from tiltkit.problem import Constraint, Note, Problem
from tiltkit.protocols import Axis, Layout
from tiltkit_deblur.hot_pixels import find_hot
from tiltkit_deblur.kernel import find_kernel
from tiltkit_deblur.likelihood import likelihood_of
from tiltkit_deblur.options import DeblurOptions
from tiltkit_deblur.photometry import BRIGHTEST, Photometry, brightness_profiles
from tiltkit_deblur.prepare import Grid, Prepared, check_readings, grid_of, prepare
from tiltkit_deblur.prior import volume_prior
from tiltkit_deblur.psf import crop_depth, half_support
from tiltkit_deblur.tiles import Rolled, Tile, cover
from tiltkit_deblur.unusable_images import find_unusable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tiltkit.protocols import Prior
    from tiltkit_deblur.volume import Volume, Window

__all__ = ["DeblurScan"]

# Largest share of hot pixels; where more look so, it is not they.
_MOST_HOT = 0.01
# Pixels of the block for the scale.
_BLOCK = 2**21


@dataclass(frozen=True)
class DeblurScan:
    """An open scan; see `tiltkit.problem.Scan`. Images are planes, or volumes (z, y, x)."""

    volume: Volume
    options: DeblurOptions
    channel: int

    @cached_property
    def times(self) -> list[int]:
        """Times to do."""
        there, asked = self.volume.shape[0], self.options.time
        if asked is not None and asked >= there:
            raise UsageError(
                f"{self.volume.path} has no time {asked}; it has {there}.", "count times from 0."
            )
        return list(range(there)) if asked is None else [asked]

    @cached_property
    def photometry(self) -> Photometry:
        """Saturation, camera and brightness."""
        return Photometry(self.volume, self.options, self.channel, self.times)

    @cached_property
    def voxel(self) -> tuple[float, float, float] | None:
        """Edges of a voxel (z, y, x) in micrometres."""
        return self.options.voxel_um or self.volume.voxel_um

    @cached_property
    def _found_kernel(self) -> tuple[NDArray[np.float64], tuple[Note, ...]]:
        """The point spread function, (z, y, x) or (y, x), and notes on it."""
        kernel, notes = find_kernel(self.options, self.voxel, self.volume.shape[2:])
        if self.options.dimensions == 2 and kernel.ndim == 3:
            plane: NDArray[np.float64] = kernel[len(kernel) // 2]
            return np.asarray(plane / plane.sum()), notes
        if self.options.dimensions == 3 and kernel.ndim == 2:
            raise UsageError(
                "The PSF is a single plane, but volumes were asked for.",
                "give a 3-D PSF, or -s task.dimensions=2.",
            )
        planes = self.volume.shape[2]
        if kernel.ndim == 2 or len(kernel) < 2 * planes or planes == 1:
            return kernel, notes
        kept, lost = crop_depth(kernel, planes)
        text = (
            f"The PSF has {len(kernel)} planes, and {len(kept)} are the most that {planes} planes"
            f" of data can use: {lost:.0%} of its light is left out."
        )
        return kept, (*notes, Note("psf_planes_left_out", text))

    @property
    def kernel(self) -> NDArray[np.float64]:
        """The point spread function, (z, y, x) or (y, x)."""
        return self._found_kernel[0]

    @property
    def deep(self) -> bool:
        """True where an image is a volume."""
        return self.kernel.ndim == 3

    @cached_property
    def images(self) -> list[tuple[int, slice]]:
        """Time and planes of every image."""
        planes = self.volume.shape[2]
        depth = [slice(0, planes)] if self.deep else [slice(z, z + 1) for z in range(planes)]
        return [(time, z) for time in self.times for z in depth]

    @cached_property
    def faults(self) -> dict[int, str]:
        """Faults of unusable images, by their number."""
        return find_unusable(self.volume, self.channel, self.images)

    @property
    def _first(self) -> tuple[int, slice]:
        """Time and planes of the first image that can be used."""
        return next(image for i, image in enumerate(self.images) if i not in self.faults)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.volume.shape[2:] if self.deep else self.volume.shape[3:]

    @cached_property
    def grid(self) -> Grid:
        """Grid of a whole image; checks that the PSF fits."""
        return grid_of(self.shape, self.kernel, self.options.boundary)

    @cached_property
    def layout(self) -> Layout:
        """Images first, then their axes, in um where voxels are known."""
        sizes = self.voxel or (1.0, 1.0, 1.0)
        units = "um" if self.voxel else "px"
        place = [
            Axis(name, [i * size for i in range(n)], units)
            for name, n, size in zip("zyx", self.volume.shape[2:], sizes, strict=True)
        ]
        if self.deep:
            first = Axis("time", [float(t) for t in self.times], "", "number of the time point")
            axes = (first, *place)
        elif len(self.times) == 1:
            axes = tuple(place)
        else:
            numbers = [float(i) for i in range(len(self.images))]
            axes = (Axis("plane", numbers, "", "plane, times after each other"), *place[1:])
        return Layout(
            axes=axes,
            long_name="intensity",
            title=f"Deconvolution of {self.volume.path.name}",
            metadata=dict(self.volume.metadata)
            | {"pictures": {"point_spread_function": self.kernel}},
            unusable=self.faults,
        )

    @cached_property
    def scale(self) -> float:
        """Image value that becomes 1 in the prior's units, from the brightest block, deconvolved.

        Blurred data are too dark where they are brightest, by as much as on that block.
        """
        if self.options.scale is not None:
            return self.options.scale
        signal = self.photometry.signal - self.options.background
        block = self._brightest_block()
        sharp = self._prepared(self._first[0], block, torch.device("cpu"))
        gain = np.percentile(sharp.baseline[sharp.grid.at].numpy(), BRIGHTEST) / max(
            float(np.percentile(sharp.y[sharp.grid.at].numpy(), BRIGHTEST)), 1e-30
        )
        scale = float(gain * np.percentile(signal, BRIGHTEST))
        if not scale > 0:
            raise InputError(
                f"{self.volume.path} holds no signal above its offset.",
                "check the channel, or give -s task.offset=READING.",
            )
        return scale

    def problem(self, index: int, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of a whole image."""
        whole = tuple(slice(0, n) for n in self.shape)
        return self.tile_problem(index, Tile(whole, whole), prior, device)

    def tiles(self, index: int, most: int) -> Sequence[Tile]:
        """Tiles of an image, each with at most so many pixels on its grid."""
        halves = half_support(self.kernel)
        free = self.options.boundary == "free"
        whole = cover(self.shape, self.shape, halves if free else [0] * len(halves), most=10**18)
        if np.prod(self.grid.shape) <= most:
            return whole
        beyond = [self.options.margin] * len(halves)
        if self.deep:  # planes are independent of each other but for the PSF
            beyond[0] = halves[0]
        margin = [h + b for h, b in zip(halves, beyond, strict=True)]
        return cover(self.shape, margin, halves, most)

    def tile_problem(self, index: int, tile: Tile, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of a tile of an image, scaled to the prior's range."""
        time, depth = self.images[index]
        extent = tile.extent if self.deep else (depth, *tile.extent)
        prepared = self._prepared(time, extent, device)
        grid, scale = prepared.grid, self.scale
        inside: Any = [
            slice(g.start + w.start - s.start, g.start + w.stop - s.start)
            for g, w, s in zip(grid.inside, tile.window, tile.extent, strict=True)
        ]
        if self.deep:
            xy_alone = self.options.planes == "xy"
            prior = volume_prior(prior, ("xy",) if xy_alone else ("xy", "xz", "yz"))
        start = tuple(s.start % n for s, n in zip(tile.extent, grid.shape, strict=True))
        placed = Rolled(prior, start)
        at: Any = (0, 0, *inside)

        def to_image(x: Tensor) -> Tensor:
            return placed.unroll(x)[(slice(None), 0, *inside)] * scale

        likelihood = likelihood_of(
            prepared,
            placed,
            scale,
            None if self.options.solver == "iterative" else self.photometry.variance,
        )
        return Problem(
            prior=placed.prior_if_moved(),
            likelihood=likelihood,
            shape=(1, *grid.shape),
            to_image=to_image,
            baseline=prepared.baseline[at].cpu(),
            facts=self._facts(prepared),
            constraint=Constraint(nonnegative=True) if self.options.nonnegative else None,
        )

    @cached_property
    def hot(self) -> float:
        """Share of hot pixels, which are left out; 0 where they are too many to be hot pixels."""
        found = find_hot(self.photometry.planes, self.kernel, self.photometry.camera)
        share = float(found.mean())
        return share if share < _MOST_HOT else 0.0

    @cached_property
    def notes(self) -> Sequence[Note]:
        """Notes on parts of the file that were estimated, left out or assumed on reading."""
        return (*self.volume.notes, *self._found_kernel[1], *self._notes())

    def _notes(self) -> Iterator[Note]:
        camera, origins = self.photometry.camera, self.photometry.origins
        values = zip(origins.items(), astuple(camera), strict=True)
        estimated = [
            f"{name} {value:.4g}" for (name, origin), value in values if origin == "estimated"
        ]
        if estimated:
            text = f"Estimated from the images: {', '.join(estimated)}."
            yield Note("camera_estimated", text)
        yield from self.photometry.noise.notes
        if self.voxel is None:
            yield Note("voxel_unknown", "The voxel size is unknown: axes are in pixels.")
        if saturated := self.photometry.saturated:
            text = (
                f"{saturated:.2%} of the pixels are saturated, at {self.photometry.saturation:g} or"
                " above, and left out."
            )
            yield Note("saturation_left_out", text)
        if unknown := self.photometry.unknown:
            text = (
                f"{unknown:.2%} of the pixels have no finite reading, as margins and dead pixels"
                " have none, or are hot in dark frames. They are left out: there the result follows"
                " the prior."
            )
            yield Note("unknown_left_out", text)
        if self.hot:
            text = (
                f"{self.hot:.3%} of the pixels are bright without the light around them that the"
                " PSF gives, as hot pixels and cosmic rays are. They are left out; give"
                " -s task.dark=FILE with dark frames to find fainter ones."
            )
            yield Note("hot_left_out", text)
        if unusable := self.layout.unusable:
            text = f"{len(unusable)} of {len(self.images)} images cannot be used and are left out."
            yield Note("images_left_out", text)

    def describe(self) -> Mapping[str, Any]:
        """Facts about the file, by their names, for `tiltkit check`."""
        v, camera, origins = self.volume, self.photometry.camera, self.photometry.origins
        saturated, unknown = self.photometry.saturated, self.photometry.unknown
        name = f" ({v.channels[self.channel]})" if self.channel < len(v.channels) else ""
        core = " x ".join(f"{2 * h + 1}" for h in half_support(self.kernel, 0.5))

        return {
            "layout": v.layout,
            "times x channels": f"{v.shape[0]} x {v.shape[1]}",
            "channel": f"{self.channel}{name}",
            "images": f"{len(self.images)} of {_by(self.shape)}",
            "voxel": "unknown" if self.voxel is None else f"{_by(self.voxel, '.3g')} um",
            "PSF": f"{_by(self.kernel.shape)} pixels, half of it within {core}",
            "grid": _by(self.grid.shape),
            "gain": f"{camera.gain:.3g} per electron ({origins['gain']})",
            "offset": f"{camera.offset:.4g} ({origins['offset']})",
            "read noise": f"{camera.read_noise:.3g} ({origins['read noise']})",
            "saturated": f"{saturated:.2%} of the pixels, at {self.photometry.saturation:g}, left"
            " out"
            if saturated
            else "none",
            "without reading": f"{unknown:.2%} of the pixels, left out" if unknown else "none",
            "signal": f"{self.scale:.3g}, {self.scale / self.photometry.variance**0.5:.0f} times"
            " the noise",
            "operator": "deblur.convolution",
        }

    def _facts(self, prepared: Prepared) -> dict[str, Any]:
        inside = prepared.measured[prepared.grid.at]
        return {
            "data_noise_level": self.photometry.variance**0.5,
            "scale": self.scale,
            "gain": self.photometry.camera.gain,
            "offset": self.photometry.camera.offset,
            "read_noise": self.photometry.camera.read_noise,
            "saturated_share": float((~inside).double().mean()),
        }

    def _prepared(self, time: int, extent: Sequence[slice], device: torch.device) -> Prepared:
        readings, maps = self._read(time, extent), self.photometry.maps
        at = (*extent, slice(None), slice(None))[1:3]
        full = readings >= self.photometry.saturation
        readings = np.where(full, np.float32(np.nan), maps.correct(readings, at))
        if self.hot:
            hot = find_hot(readings, self.kernel, self.photometry.camera)
            readings[hot] = np.nan
        readings = readings if self.deep else readings[0]
        o = self.options
        # The object continues beyond a tile, also where the whole image is circular.
        whole = readings.shape == self.shape
        if whole:
            check_readings(readings, -np.inf, str(self.volume.path))
        return prepare(
            readings,
            self.kernel,
            grid_of(readings.shape, self.kernel, o.boundary if whole else "free"),
            self.photometry.camera,
            background=o.background,
            least_variance=self.photometry.least_variance,
            iterations=o.iterations,
            device=device,
            read_variance=maps.read_variance(at),
        )

    def _brightest_block(self) -> tuple[slice, slice, slice]:
        """Brightest block of the first image, at most `_BLOCK` pixels of all its planes."""
        _, depth = self._first
        planes = depth.stop - depth.start
        side = max(int((_BLOCK / planes) ** 0.5), 2 * max(half_support(self.kernel)) + 1)
        window = []
        for means in brightness_profiles(self.volume, self.channel, *self._first):
            n = len(means)
            profile = np.convolve(means, np.ones(min(side, n)), "valid")
            first = int(profile.argmax())
            window.append(slice(first, first + min(side, n)))
        return depth, window[0], window[1]

    def _read(self, time: int, window: Sequence[slice]) -> NDArray[np.float32]:
        """Readings (z, y, x) of the channel; whole planes where no rows and columns are given."""
        full: Window = (*window, *[slice(None)] * (3 - len(window)))  # type: ignore[assignment]
        return self.volume.read(time, self.channel, full)


def _by(sizes: Sequence[float], form: str = "g") -> str:
    return " x ".join(f"{size:{form}}" for size in sizes)
