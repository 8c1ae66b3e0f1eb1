"""Augmentation: random crops, mirrors, zooms, contrasts and phases, by the kind of images."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

from tiltkit.training.recipe import Augmentation

__all__ = ["draw_crop", "rephased"]

Array = NDArray[np.float32]

# Half of the crops keep their pixels as they are: interpolation blurs.
_ZOOMED, _ZOOM = 0.5, (0.85, 1.2)


def draw_crop(image: Array, crop: int, kind: Augmentation, rng: Generator) -> Array:
    """A random square piece (channel, crop, crop) of an image (channel, row, column).

    ``none`` only crops. ``natural`` mirrors left and right, zooms and changes the contrast a
    little. ``mri`` does so with the magnitude of (re, im) and adds a smooth phase. ``microscopy``
    also turns by quarters and changes the brightness; values stay nonnegative.
    """
    if kind == "none":
        return _piece(image, crop, rng)
    zoom = float(np.exp(rng.uniform(*np.log(_ZOOM)))) if rng.random() < _ZOOMED else 1.0
    side = min(round(crop / zoom), *image.shape[-2:])
    piece = _resized(_piece(image, side, rng), crop)
    if rng.random() < 0.5:
        piece = piece[..., ::-1]
    if kind == "microscopy":
        turned: Array = np.rot90(piece, int(rng.integers(4)), axes=(-2, -1))
        brighter: Array = turned * np.float32(np.exp(rng.uniform(-0.5, 0.3)))
        return np.maximum(brighter, 0, out=brighter)
    piece = _recontrast(piece, float(np.exp(rng.uniform(-0.25, 0.25))))
    return rephased(piece, rng) if kind == "mri" else piece


def _piece(image: Array, side: int, rng: Generator) -> Array:
    top, left = (int(rng.integers(n - side + 1)) for n in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def _resized(piece: Array, side: int) -> Array:
    if piece.shape[-1] == side:
        return piece
    tensor = torch.from_numpy(np.ascontiguousarray(piece))[None]
    shrinks = piece.shape[-1] > side
    resized = F.interpolate(tensor, (side, side), mode="bicubic", antialias=shrinks)
    out: Array = resized[0].numpy()
    return out


def _recontrast(piece: Array, power: float) -> Array:
    """A power of the magnitude over all channels; signs, phases and colours stay."""
    size = np.sqrt(np.square(piece).sum(0, keepdims=True)) / math.sqrt(len(piece))
    changed: Array = piece * np.maximum(size, np.float32(1e-3)) ** np.float32(power - 1)
    return changed


def rephased(piece: Array, rng: Generator) -> Array:
    """An image (re, im) times a smooth phase: a constant, a ramp and one slow wave."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in piece.shape[-2:]),
                       indexing="ij")  # fmt: skip
    c = rng.uniform(-1, 1, 6)
    wave = 0.6 * np.sin(2 * c[3] * x + 3 * c[4] * y + 3 * c[5])
    phase = (math.pi * c[0] + 2 * c[1] * y + 2 * c[2] * x + wave).astype(np.float32)
    cos, sin = np.cos(phase), np.sin(phase)
    return np.stack([piece[0] * cos - piece[1] * sin, piece[0] * sin + piece[1] * cos])
