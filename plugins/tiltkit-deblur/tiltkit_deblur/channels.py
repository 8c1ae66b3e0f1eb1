"""All channels of a file in one run: each with its own point spread function and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tiltkit.errors import UsageError
from tiltkit.problem import Note, Problem
from tiltkit.protocols import Axis, Layout
from tiltkit_deblur.kernel import channels_of_psf
from tiltkit_deblur.scan import DeblurScan

if TYPE_CHECKING:
    import torch

    from tiltkit.protocols import Prior
    from tiltkit_deblur.options import DeblurOptions
    from tiltkit_deblur.tiles import Tile
    from tiltkit_deblur.volume import Volume

__all__ = ["ChannelsScan", "open_channels"]


@dataclass(frozen=True)
class ChannelsScan:
    """Scans of all channels of a file, whose images come one after another.

    Attributes:
        scans: One scan for each channel.
    """

    scans: tuple[DeblurScan, ...]

    @property
    def _each(self) -> int:
        """Images of one channel."""
        return len(self.scans[0].images)

    def _of(self, index: int) -> tuple[DeblurScan, int]:
        """Scan of an image, and the number of the image in it."""
        return self.scans[index // self._each], index % self._each

    @cached_property
    def layout(self) -> Layout:
        """Channels first where each has one image, else images, channel after channel."""
        first, count = self.scans[0].layout, len(self.scans) * self._each
        numbers = [float(i) for i in range(count)]
        if self._each == 1:
            axis = Axis("channel", numbers, "", "number of the channel")
        else:
            axis = Axis("image", numbers, "", "image, channels after each other")
        unusable = {
            channel * self._each + index: fault
            for channel, scan in enumerate(self.scans)
            for index, fault in scan.faults.items()
        }
        return replace(first, axes=(axis, *first.axes[1:]), unusable=unusable)

    def problem(self, index: int, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of an image."""
        scan, number = self._of(index)
        return scan.problem(number, prior, device)

    def tiles(self, index: int, most: int) -> Sequence[Tile]:
        """Tiles of an image."""
        scan, number = self._of(index)
        return scan.tiles(number, most)

    def tile_problem(self, index: int, tile: Tile, prior: Prior, device: torch.device) -> Problem:
        """The inverse problem of a tile of an image."""
        scan, number = self._of(index)
        return scan.tile_problem(number, tile, prior, device)

    @cached_property
    def notes(self) -> Sequence[Note]:
        """Notes on all channels, each with the number of its channel where they differ."""
        every = [set(scan.notes) for scan in self.scans]
        shared = set.intersection(*every)
        own = [
            replace(note, text=f"Channel {channel}: {note.text}")
            for channel, scan in enumerate(self.scans)
            for note in scan.notes
            if note not in shared
        ]
        return (*(note for note in self.scans[0].notes if note in shared), *own)

    def describe(self) -> Mapping[str, Any]:
        """Facts about the file for `tiltkit check`: of all channels, where they differ."""
        facts = [scan.describe() for scan in self.scans]
        found: dict[str, Any] = {}
        for name, value in facts[0].items():
            values = [fact.get(name) for fact in facts]
            if all(one == value for one in values):
                found[name] = value
            else:
                found |= {f"{name}, channel {i}": one for i, one in enumerate(values)}
        return found


def open_channels(volume: Volume, o: DeblurOptions) -> ChannelsScan:
    """A scan of all channels.

    The PSF of a channel is the one in the same channel of the PSF file, if that has as many;
    that of a model has the channel's wavelength.

    Raises:
        UsageError: There is not one wavelength for each channel, or PSFs are of different ranks.
    """
    count = volume.shape[1]
    waves = o.wavelengths_um
    if waves is not None and len(waves) != count:
        raise UsageError(
            f"{len(waves)} wavelengths are given for {count} channels.",
            "give one for each, such as -s task.wavelengths_um=0.46,0.52.",
        )
    apart = channels_of_psf(o) == count > 1
    scans = []
    for channel in range(count):
        own: dict[str, Any] = {"channel": channel}
        if apart:
            own["psf_channel"] = channel
        if waves is not None:
            own["wavelength_um"] = waves[channel]
        scans.append(DeblurScan(volume, o.model_copy(update=own), channel))
    if len({scan.deep for scan in scans}) > 1:
        raise UsageError(
            "The PSFs of some channels are planes, those of others volumes.",
            "give -s task.dimensions=2 or 3.",
        )
    return ChannelsScan(tuple(scans))
