"""The Fourier transform of images at any frequencies (NUFFT), by finufft or cufinufft."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Nufft"]

# Relative error of transforms by real type. In single precision rounding leaves about 1e-5.
_TOLERANCE = {torch.complex64: 2e-5, torch.complex128: 1e-10}


class Nufft:
    """The Fourier transform ``F`` at chosen frequencies, and its adjoint.

    ``F x`` at frequency ``k`` is ``sum_r x_r exp(-2 pi i k r) / sqrt(ny nx)``; ``r`` is the
    distance of a pixel from ``(ny // 2, nx // 2)``. At the frequencies of a Cartesian grid it is
    unitary, the centred FFT.

    Args:
        trajectory: Frequencies (2, sample), along rows and along columns, in cycles per pixel.
        shape: Size (ny, nx) of the images.
        count: Number of images that are transformed at once.
        dtype: Complex type of images and samples.

    Raises:
        UsageError: finufft is not installed, or, for a GPU, cufinufft.
    """

    def __init__(
        self, trajectory: Tensor, shape: tuple[int, int], count: int, dtype: torch.dtype
    ) -> None:
        gpu = trajectory.device.type == "cuda"
        library = _library("cufinufft" if gpu else "finufft")
        self._count = count
        self._scale = 1 / math.sqrt(math.prod(shape))
        real = torch.empty(0, dtype=dtype).real.dtype
        # cufinufft keeps no copy of the positions.
        self._points = [(2 * math.pi * axis).to(real).contiguous() for axis in trajectory]
        options: dict[str, Any] = {"gpu_device_id": trajectory.device.index or 0}
        if not gpu:
            # A grid of 1.25 times the size instead of 2 takes a third of the time.
            single = dtype == torch.complex64
            options = {"nthreads": torch.get_num_threads(), "showwarn": 0}
            options |= {"upsampfac": 1.25} if single else {}

        def plan(kind: int, sign: int) -> Any:
            name = str(dtype).removeprefix("torch.")
            made = library.Plan(
                kind, shape, count, eps=_TOLERANCE[dtype], isign=sign, dtype=name, **options
            )
            made.setpts(*(points if gpu else points.numpy() for points in self._points))
            return made

        self._forward, self._adjoint = plan(2, -1), plan(1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (count, ny, nx) to samples (count, sample)."""
        return self._apply(self._forward, images).mul_(self._scale)

    def adjoint(self, samples: Tensor) -> Tensor:
        """Samples (count, sample) to images (count, ny, nx)."""
        return self._apply(self._adjoint, samples).mul_(self._scale)

    def _apply(self, plan: Any, values: Tensor) -> Tensor:
        values = values.resolve_conj().contiguous()
        if self._count == 1:
            values = values[0]
        if values.device.type == "cuda":
            # The library works on the default stream, torch perhaps on another one.
            torch.cuda.current_stream(values.device).synchronize()
            out = plan.execute(values)
            torch.cuda.synchronize(values.device)
        else:
            out = torch.from_numpy(plan.execute(values.numpy()))
        found: Tensor = out[None] if self._count == 1 else out
        return found


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        gpu = name == "cufinufft"
        raise UsageError(
            f"Fourier transforms at frequencies that are on no grid need the package {name}"
            + (" on a GPU, which is not installed." if gpu else ", which is not installed."),
            "pip install cufinufft, or run with --device cpu." if gpu else "pip install finufft.",
        ) from error
