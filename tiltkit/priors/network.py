"""The default denoiser network: a small U-Net for images of any size.

The preconditioning is that of Karras, Aittala, Aila and Laine (EDM), arXiv:2206.00364, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

EMBEDDING = 128


class NoiseEmbedding(nn.Module):
    """Sines and cosines of log sigma, mixed by two linear layers."""

    frequencies: Tensor

    def __init__(self, width: int = EMBEDDING) -> None:
        super().__init__()
        # log(sigma)/4 spans about two units: from a slow wave over them to 16 radians per unit
        # On the CPU also where the weights are still to come (device "meta").
        frequencies = 2.0 ** torch.linspace(-1, 4, 16, device="cpu")
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mix = nn.Sequential(
            nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, sigma: Tensor) -> Tensor:
        """Map noise levels (batch,) to features (batch, width)."""
        phase = (sigma.log() / 4)[:, None] * self.frequencies
        features: Tensor = self.mix(torch.cat([phase.sin(), phase.cos()], dim=1))
        return features


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity, with a scale and shift by noise level in between."""

    def __init__(self, width: int, embedding: int = EMBEDDING) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * width)
        # the block starts as the identity: this keeps a net without normalisation stable
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (batch, width, h, w) and (batch, embedding) to (batch, width, h, w)."""
        scale, shift = self.film(embedding)[:, :, None, None].to(x.dtype).chunk(2, dim=1)
        h = torch.addcmul(shift, self.first(x), scale + 1)
        out: Tensor = x + self.second(F.silu(h))
        return out


class Stage(nn.Module):
    """Residual blocks of one resolution."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (batch, width, h, w) to the same shape."""
        for block in self.blocks:
            x = block(x, embedding)
        return x


class ScoreUNet(nn.Module):
    """Denoiser D(x, sigma), the posterior mean of a clean image given x = clean + sigma * noise.

    Args:
        channels: image channels; 2 for complex images (re, im).
        widths: features per resolution, finest first; the finest is half the image's resolution.
        blocks: residual blocks per resolution, as many on the way down as on the way up.
        sigma_data: root mean square of the clean images per channel, air included.
        sigma_min: smallest noise level that the weights were trained for.
        sigma_max: largest noise level that the weights were trained for.
    """

    def __init__(
        self,
        channels: int = 2,
        widths: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] = (3, 3, 2, 1),
        sigma_data: float = 0.3,
        sigma_min: float = 0.01,
        sigma_max: float = 5.0,
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks):
            raise ValueError("widths and blocks need one entry per resolution")
        self.channels, self.widths, self.blocks = channels, tuple(widths), tuple(blocks)
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max
        pairs = list(pairwise(widths))
        self.embed = NoiseEmbedding()
        self.head = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Stage(w, b) for w, b in zip(widths, blocks, strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(Stage(w, b) for w, b in zip(widths, blocks, strict=True))
        self.tail = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    @property
    def config(self) -> dict[str, int | float | list[int]]:
        """Constructor arguments as plain values, enough to build the same network again."""
        return {
            "channels": self.channels,
            "widths": list(self.widths),
            "blocks": list(self.blocks),
            "sigma_data": self.sigma_data,
            "sigma_min": self.sigma_min,
            "sigma_max": self.sigma_max,
        }

    @property
    def multiple(self) -> int:
        """Image sides are padded to a multiple of this."""
        return int(2 ** len(self.widths))

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Denoise x (batch, channel, h, w) of noise level sigma, a number or (batch,).

        Under `torch.autocast` only the inner network runs in low precision: its output is
        scaled by about sigma, so that rounding stays far below the noise.
        """
        level = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0])
        s = level[:, None, None, None]
        total = (s**2 + self.sigma_data**2).sqrt()
        residual = self._inner(x / total, level).float()
        return x * (self.sigma_data / total) ** 2 + residual * (s * self.sigma_data / total)

    def features(self, x: Tensor, sigma: Tensor | float) -> list[Tensor]:
        """Features of the encoder for x (batch, channel, h, w), finest resolution first.

        Each of these has its width for channels, and a cell for every 2, 4, 8, ... pixels.
        """
        level = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0])
        total = (level[:, None, None, None] ** 2 + self.sigma_data**2).sqrt()
        return self._descend(x / total, self.embed(level))

    def _inner(self, x: Tensor, level: Tensor) -> Tensor:
        """Run the raw network F of the paper on scaled images (batch, channel, h, w)."""
        height, width = x.shape[-2:]
        embedding = self.embed(level)
        *skips, h = self._descend(x, embedding)
        h = self.up[-1](h, embedding)
        for stage, grow in zip(reversed(self.up[:-1]), reversed(self.grow), strict=True):
            h = stage(grow(h) + skips.pop(), embedding)
        return F.pixel_shuffle(self.tail(h), 2)[..., :height, :width]

    def _descend(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Features of scaled images at every resolution, finest first."""
        h = F.pixel_unshuffle(pad_to_multiple(x, self.multiple), 2)
        h = self.head(h.contiguous(memory_format=torch.channels_last))
        found = [self.down[0](h, embedding)]
        for stage, shrink in zip(self.down[1:], self.shrink, strict=True):
            found.append(stage(shrink(found[-1]), embedding))
        return found


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Mirror images (batch, channel, h, w) at the lower and right edges up to a multiple."""
    bottom, right = (math.ceil(n / multiple) * multiple - n for n in x.shape[-2:])
    # a mirror cannot be wider than the image itself: tiny images repeat their last pixel
    mode = "reflect" if bottom < x.shape[-2] and right < x.shape[-1] else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)
