"""What `tiltkit check` and `show` tell of an open volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit_deblur.psf import half_support

if TYPE_CHECKING:
    from tiltkit_deblur.scan import DeblurScan

__all__ = ["described"]


def described(scan: DeblurScan) -> Mapping[str, Any]:
    """What was found in the file."""
    v, light, camera = scan.volume, scan.light, scan.light.camera
    size = "unknown" if scan.voxel is None else " x ".join(f"{s:.3g}" for s in scan.voxel) + " um"
    full = float(np.isnan(light.planes).mean())
    o = scan.options

    def origin(value: float | None) -> str:
        return "given" if value is not None else "estimated"

    return {
        "layout": v.layout,
        "times x channels": f"{v.shape[0]} x {v.shape[1]}",
        "channel": f"{scan.channel}"
        + (f" ({v.channels[scan.channel]})" if scan.channel < len(v.channels) else ""),
        "images": f"{len(scan.images)} of {' x '.join(map(str, scan.shape))}",
        "voxel": size,
        "PSF": " x ".join(map(str, scan.kernel.shape)) + " pixels, half of it within "
        + " x ".join(f"{2 * h + 1}" for h in half_support(scan.kernel, 0.5)),
        "grid": " x ".join(map(str, scan.grid.shape)),
        "gain": f"{camera.gain:.3g} per electron ({origin(o.gain)})",
        "offset": f"{camera.offset:.4g} ({origin(o.offset)})",
        "read noise": f"{camera.read_noise:.3g} ({origin(o.read_noise)})",
        "saturated": f"{full:.2%} of the pixels, at {light.saturation:g}, left out"
        if full
        else "none",
        "signal": f"{scan.scale:.3g}, {scan.scale / light.variance**0.5:.0f} times the noise",
        "operator": "deblur.convolution",
    }  # fmt: skip
