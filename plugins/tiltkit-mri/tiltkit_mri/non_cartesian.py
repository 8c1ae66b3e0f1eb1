"""Forward operator of MRI with samples at any positions in k-space: radial, spiral and others."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
from tiltkit.operators.cg import conjugate_gradient
from tiltkit.operators.nufft import Nufft
from tiltkit_mri.images import check_maps, to_complex, to_real

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NonCartesianSense"]

# Added to the eigenvalues of the preconditioner, where those of a complete Cartesian scan are 1.
# Chosen by hand: halves to thirds the iterations of radial scans, and spirals need no more.
_RAISED = 0.3
# Relative error of the preconditioner of data, and the smallest relative residual that it asks for.
# Conjugate gradients need a linear preconditioner: from an error of 0.1 on they stall.
_ROUGH, _SMALLEST = 0.01, 1e-6
# Largest ratio of noise and image variance, over the largest eigenvalue.
_DYNAMIC_RANGE = 1e4
# Bytes of images on the larger grid that are transformed at once: on a CPU they should fit a cache.
_CACHE_BYTES, _GPU_BYTES = 2**21, 2**28
# Iterations of a solve at most.
_MAX_ITER = 2000


class NonCartesianSense:
    """Several coils, samples anywhere in k-space; ``A x = F S x``.

    ``F`` is the Fourier transform at the positions of the samples, see
    `tiltkit.operators.nufft.Nufft`; ``S`` multiplies an image with the sensitivity of each coil.
    ``A^H A = S^H F^H F S`` needs no NUFFT: ``F^H F`` is a convolution with the point spread
    function of the trajectory, hence FFTs on a grid of twice the size (Toeplitz embedding; Fessler
    et al., IEEE Trans. Signal Process. 53 (2005) 3393-3402).

    Args:
        maps: Coil sensitivities (coil, ny, nx), complex.
        trajectory: Positions of the samples (2, sample), along rows and along columns, in cycles
            per pixel, within -0.5 to 0.5.

    Images are (n, 2, ny, nx), measurements complex (n, coil, sample).
    """

    def __init__(self, maps: Tensor, trajectory: Tensor) -> None:
        check_maps(maps)
        if trajectory.ndim != 2 or len(trajectory) != 2 or not trajectory.shape[1]:
            raise UsageError(
                f"The trajectory has shape {tuple(trajectory.shape)}.",
                "give positions (2, sample): along rows, along columns.",
            )
        # Negated, so that NaN is refused.
        if not bool((trajectory.abs() <= 0.5 + 1e-5).all()):
            raise UsageError(
                f"The trajectory reaches {float(trajectory.abs().max()):.3g} cycles per pixel.",
                "give positions within -0.5 to 0.5.",
            )
        self.maps = maps
        # Rounded once: the NUFFT and the point spread function must agree on the positions.
        self.trajectory = trajectory.to(maps.device, maps.real.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Samples (n, coil, sample)."""
        images = to_complex(x)
        return torch.stack([self._nufft.forward(self.maps * image) for image in images])

    def adjoint(self, y: Tensor) -> Tensor:
        """Images (n, 2, ny, nx): samples gridded, combined over coils."""
        maps = self.maps.conj()
        images = torch.stack([(maps * self._nufft.adjoint(one)).sum(0) for one in y])
        return to_real(images)

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``, by FFTs on a grid of about twice the size."""
        image = to_complex(x)
        fast = _GPU_BYTES if image.device.type == "cuda" else _CACHE_BYTES
        step = max(1, fast // (self._spectrum.numel() * image.element_size()))
        return to_real(torch.cat([self._normal(part) for part in torch.split(image, step)]))

    def _normal(self, image: Tensor) -> Tensor:
        total = torch.zeros_like(image)
        # One coil after the other: memory does not grow with the number of coils.
        for sensitivity in self.maps:
            total += sensitivity.conj() * self._convolve(sensitivity * image)
        return total

    def normal_diagonal(self) -> Tensor:
        """Diagonal of ``A^H A`` (ny, nx)."""
        _, ny, nx = self.maps.shape
        return self.maps.abs().square().sum(0) * (self.trajectory.shape[1] / (ny * nx))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b`` by batched conjugate gradients."""
        inverse = self.preconditioner(alpha, beta)
        return conjugate_gradient(
            self.normal, b, alpha, beta, precondition=inverse, max_iter=_MAX_ITER
        )[0]

    def preconditioner(self, alpha: float | Tensor, beta: float) -> Callable[[Tensor], Tensor]:
        """Approximate inverse of ``alpha I + beta A^H A`` on images (n, 2, ny, nx).

        The circulant matrix nearest to ``A^H A`` takes its place (T. Chan, SIAM J. Sci. Stat.
        Comput. 9 (1988) 766-771), raised by a constant: it is right about the dense centre of
        k-space, and too low between samples.

        Args:
            alpha: One number, or one for each Fourier coefficient (ny, nx).
            beta: Weight of ``A^H A``.
        """
        inverse = 1 / (alpha + beta * (self._circulant + _RAISED))
        return lambda r: _filter(r, inverse)

    def data_preconditioner(
        self, variance: Tensor, c: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """Approximate inverse of ``v I + A C A^H``; None where the variance is not constant.

        It is ``(I - A (v C^-1 + A^H A)^-1 A^H) / v`` (Woodbury). The solve in image space takes
        fewer iterations than one in data space, and needs no NUFFT. It stops early; the solve that
        this is the preconditioner of does the rest.
        """
        v = float(variance.flatten()[0])
        if not bool((variance == v).all()):
            return None
        gain = self._circulant.double()
        ratio = torch.as_tensor(v / c, dtype=self.trajectory.dtype, device=self.maps.device)
        # Coefficients with hardly any variance would exceed single precision.
        ratio = ratio.clamp(max=_DYNAMIC_RANGE * float(gain.max()))
        alpha = float(ratio.min())
        more = None if ratio.ndim == 0 else ratio - alpha
        # A relative residual t leaves an error of at most t |A^H r| / sqrt(v alpha), in the norm of
        # the system. For data r of its covariance the norm of r is the square root of their
        # number, and |A^H r|^2 is the sum below.
        n_data = len(self.maps) * self.trajectory.shape[1]
        total = float((gain * (v + v * gain / ratio)).sum())
        rtol = _ROUGH * math.sqrt(n_data * v * alpha / max(total, 1e-30))
        precondition = self.preconditioner(ratio, 1.0)

        def normal(x: Tensor) -> Tensor:
            return self.normal(x) if more is None else self.normal(x) + _filter(x, more)

        calls = count()

        def apply(r: Tensor) -> Tensor:
            # Few calls are enough; where more are needed, this must become exact, hence linear.
            tolerance = rtol * 0.1 ** max(next(calls) - 2, 0)
            u = conjugate_gradient(
                normal, self.adjoint(r), alpha, 1.0, precondition=precondition,
                rtol=min(max(tolerance, _SMALLEST), _ROUGH), max_iter=_MAX_ITER,
            )[0]  # fmt: skip
            return (r - self.forward(u)) / v

        return apply

    def density_compensation(self) -> Tensor:
        """Weights (sample,) inverse to the density of samples, positive; 1 for a Cartesian grid.

        ``A^H W y`` is then a picture without the weight of the densely sampled centre. The weights
        are no part of the likelihood, since noise is white in the samples. ``W`` is the diagonal
        matrix with the smallest Frobenius norm of ``W F F^H - I`` (Ong et al., IEEE Trans. Med.
        Imaging 39 (2020) 1646-1654): ``1 / W_ii`` is the sum of ``|(F F^H)_ij|^2`` over ``j``.
        """
        _, ny, nx = self.maps.shape
        ones = torch.ones(1, ny, nx, device=self.maps.device)
        product = self._spread * torch.fft.fftshift(_correlation(ones))
        nufft = Nufft(self.trajectory, (2 * ny, 2 * nx), 1, torch.complex128)
        square = nufft.forward(product[None])[0].real * (2 / math.sqrt(ny * nx))
        return (1 / square.clamp_min(1)).to(self.trajectory.dtype)

    @cached_property
    def _nufft(self) -> Nufft:
        shape = (self.maps.shape[1], self.maps.shape[2])
        return Nufft(self.trajectory, shape, len(self.maps), self.maps.dtype)

    @cached_property
    def _spread(self) -> Tensor:
        """``F^H F`` as a function of the distance of two pixels, complex128 (2 ny, 2 nx).

        Distances run from ``-n`` to ``n - 1`` along each axis.
        """
        _, ny, nx = self.maps.shape
        n_samples, device = self.trajectory.shape[1], self.maps.device
        ones = torch.ones(1, n_samples, dtype=torch.complex128, device=device)
        # The positions that transforms of the trajectory's precision use.
        positions = (2 * math.pi * self.trajectory).double() / (2 * math.pi)
        nufft = Nufft(positions, (2 * ny, 2 * nx), 1, torch.complex128)
        return nufft.adjoint(ones)[0] * (2 / math.sqrt(ny * nx))

    @cached_property
    def _spectrum(self) -> Tensor:
        """Eigenvalues of the circulant matrix that embeds ``F^H F``, real.

        Its sides are lengths of fast FFTs, at least twice those of the image.
        """
        from scipy.fft import next_fast_len  # slow to import, and Cartesian scans do not need it

        shape = self.maps.shape[1:]
        sides = [next_fast_len(2 * n) for n in shape]
        rows, columns = (
            torch.arange(1 - n, n, device=self.maps.device) % side
            for n, side in zip(shape, sides, strict=True)
        )
        circle = self._spread.new_zeros(sides)
        circle[rows[:, None], columns] = self._spread[1:, 1:]
        spectrum: Tensor = torch.fft.fft2(circle).real
        return spectrum.to(self.maps.real.dtype)

    def _convolve(self, images: Tensor) -> Tensor:
        """``F^H F`` of images (n, ny, nx)."""
        ny, nx = images.shape[-2:]
        height, width = self._spectrum.shape
        # Rows of zeros are never transformed.
        rows = torch.fft.fft(images, n=width, dim=-1)
        spectrum = torch.fft.fft(rows, n=height, dim=-2).mul_(self._spectrum)
        rows = torch.fft.ifft(spectrum, dim=-2)[..., :ny, :]
        found: Tensor = torch.fft.ifft(rows, dim=-1)[..., :nx]
        return found

    @cached_property
    def _circulant(self) -> Tensor:
        """Diagonal of ``A^H A`` between Fourier coefficients of the image, nonnegative (ny, nx).

        In the order of `torch.fft.fft2`.
        """
        _, ny, nx = self.maps.shape
        product = torch.fft.ifftshift(self._spread) * _correlation(self.maps).conj()
        # Distances that differ by the size of the image are the same on a circle.
        folded = product.view(2, ny, 2, nx).sum((0, 2)) / (ny * nx)
        values: Tensor = torch.fft.fft2(folded).real
        return values.clamp_min(0).to(self.maps.real.dtype)


def _correlation(maps: Tensor) -> Tensor:
    """``sum_c sum_r maps_c(r + d) conj(maps_c(r))`` by distance ``d``, complex128 (2 ny, 2 nx).

    In the order of FFTs: distance 0 first.
    """
    ny, nx = maps.shape[-2:]
    total = torch.zeros(2 * ny, 2 * nx, dtype=maps.real.dtype, device=maps.device)
    for one in maps:
        total += torch.fft.fft2(one, s=(2 * ny, 2 * nx)).abs().square()
    correlation: Tensor = torch.fft.ifft2(total.double())
    return correlation


def _filter(x: Tensor, factors: Tensor) -> Tensor:
    """Images (n, 2, ny, nx) with each Fourier coefficient multiplied by a real factor (ny, nx)."""
    spectrum = torch.fft.fft2(to_complex(x))
    return to_real(torch.fft.ifft2(spectrum.mul_(factors)))
