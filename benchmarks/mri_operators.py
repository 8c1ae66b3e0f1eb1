"""Forward operators of MRI: adjoint error, agreement with other software, and time.

    python benchmarks/mri_operators.py [--size 256] [--coils 8] [--repeats 5]

The adjoint error is ``|<A x, y> - <x, A^H y>| / (|A x| |y|)`` for white noise in single precision.
The other software is deepinv for Cartesian sampling, and for other trajectories the explicit sum
over all pixels and SigPy where it is installed. Each time is the shortest of several. Scans that
are not complete are 4x undersampled: every fourth column with a centre of 24, or a quarter of the
spokes or interleaves. Spokes are read out with twofold oversampling. NUFFTs are timed as this
plugin sets up finufft (a grid 1.25 times as fine as the image) and with a grid twice as fine, which
is usual.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import finufft
import torch
from tiltkit_mri.non_cartesian import NonCartesianSense
from tiltkit_mri.operators import CartesianSense, MaskedFourier
from tiltkit_mri.sense import MaskedSense
from torch import Tensor

from tiltkit.operators.cg import conjugate_gradient

# Aims: adjoint error, deviation from other software, ratios of times.
ADJOINT, AGREEMENT, SPECTRAL, TOEPLITZ = 1e-5, 1e-4, 10.0, 3.0
# Damping of the solves that are compared; the largest eigenvalue of Cartesian sampling is 1.
DAMPING = 0.01


def radial(size: int, spokes: int) -> Tensor:
    """Positions (2, sample) of spokes at multiples of the golden angle, in cycles per pixel."""
    along = (torch.arange(2 * size) - size) / (2 * size)
    angle = torch.arange(spokes) * math.pi * (3 - math.sqrt(5))
    return torch.stack([torch.outer(angle.cos(), along), torch.outer(angle.sin(), along)]).flatten(
        1
    )


def spiral(size: int, interleaves: int, complete: int) -> Tensor:
    """Positions (2, sample) of Archimedean spirals; ``complete`` interleaves leave no gaps."""
    turns = size / 2 / complete
    # Steps of half a cycle per field of view at the outermost turn.
    steps = int(2 * math.pi * turns * size / 2)
    part = torch.linspace(0, 1, steps).sqrt()
    angle = 2 * math.pi * (turns * part + torch.arange(interleaves)[:, None] / interleaves)
    return (0.5 * part * torch.stack([angle.cos(), angle.sin()])).flatten(1)


def coils(count: int, size: int, seed: int = 0) -> Tensor:
    """Smooth complex maps (coil, size, size) whose squares sum to 1."""
    grid = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    angle = 2 * math.pi * torch.arange(count)[:, None, None] / count
    distance = (y - 1.2 * angle.sin()).square() + (x - 1.2 * angle.cos()).square()
    maps = torch.polar(torch.exp(-distance / 2), angle + x * y)
    return maps / maps.abs().square().sum(0).sqrt()


def columns(size: int) -> Tensor:
    """Every fourth column and the central ones, bool (size,)."""
    chosen = torch.arange(size) % 4 == 0
    lines = min(24, size // 4)
    chosen[size // 2 - lines // 2 : size // 2 + lines // 2] = True
    return chosen


def operators(size: int, count: int) -> dict[str, Any]:
    """All operators of the plugin, by what they are."""
    maps, generator = coils(count, size), torch.Generator().manual_seed(0)
    mask = torch.rand(size, size, generator=generator) < 0.25
    quarter = max(2, round(math.pi / 2 * size / 4))
    return {
        "columns, several coils": CartesianSense(maps, columns(size)),
        "points, one coil": MaskedFourier(mask),
        "points, several coils": MaskedSense(maps, mask),
        "radial": NonCartesianSense(maps, radial(size, quarter)),
        "radial, complete": NonCartesianSense(maps, radial(size, 4 * quarter)),
        "spiral": NonCartesianSense(maps, spiral(size, 4, 16)),
        "spiral, complete": NonCartesianSense(maps, spiral(size, 16, 16)),
    }


def adjoint_error(operator: Any, size: int) -> float:
    """Difference of both sides of the adjoint's definition over the product of norms."""
    x = white((1, 2, size, size), torch.float32)
    ax = operator.forward(x)
    y = white(tuple(ax.shape), torch.complex64, seed=1)
    left = (ax.conj() * y).real.sum(dtype=torch.float64)
    right = (x * operator.adjoint(y)).sum(dtype=torch.float64)
    return float((left - right).abs() / (ax.norm() * y.norm()))


def white(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """White noise."""
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def deviations(operator: Any, size: int) -> Iterator[tuple[str, float]]:
    """Other software, and the relative difference of its measurement of a random image."""
    x = white((1, 2, size, size), torch.float32)
    ours = operator.forward(x)
    if not isinstance(operator, NonCartesianSense):
        yield "deepinv", _difference(ours, _of_deepinv(operator, x))
        return
    coil_images = operator.maps * torch.complex(x[0, 0], x[0, 1])
    samples = torch.linspace(0, ours.shape[2] - 1, min(500, ours.shape[2])).long()
    positions = operator.trajectory[:, samples]
    yield "explicit sum", _difference(ours[..., samples], explicit(coil_images, positions)[None])
    try:
        import sigpy
    except ImportError:
        pass
    else:
        points = operator.trajectory.T.double().numpy() * size
        theirs = sigpy.nufft(coil_images.numpy(), points, oversamp=2, width=6)
        yield "SigPy", _difference(ours[0], torch.from_numpy(theirs))


def explicit(images: Tensor, positions: Tensor) -> Tensor:
    """Unitary Fourier transform (coil, sample) of images (coil, ny, nx), summed in float64."""
    waves = [
        torch.exp(-2j * math.pi * torch.outer(k.double(), torch.arange(n).double() - n // 2))
        for k, n in zip(positions, images.shape[-2:], strict=True)
    ]
    rows = torch.einsum("sr,crx->csx", waves[0], images.to(torch.complex128))
    return torch.einsum("csx,sx->cs", rows, waves[1]) / math.sqrt(images[0].numel())


def _of_deepinv(operator: CartesianSense | MaskedFourier | MaskedSense, x: Tensor) -> Tensor:
    """The same samples from deepinv's operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its many imports
        from deepinv import physics
    ny, nx = x.shape[-2:]
    if isinstance(operator, MaskedFourier):
        mask = operator.mask
        theirs = physics.MRI(mask=mask.float().expand(1, 2, ny, nx), img_size=(2, ny, nx))
    else:
        if isinstance(operator, CartesianSense):
            mask = torch.zeros(nx, dtype=torch.bool)
            mask[operator.columns] = True
        else:
            mask = operator.mask
        theirs = physics.MultiCoilMRI(
            mask=mask.float().expand(1, 2, ny, nx),
            coil_maps=operator.maps[None],
            img_size=(2, ny, nx),
        )
    y = theirs.A(x)
    return torch.complex(y[:, 0], y[:, 1])[..., mask]


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Shortest time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def spectral_times(operator: CartesianSense, size: int, repeats: int) -> tuple[float, float]:
    """Seconds of a solve in spectral form, and by conjugate gradients with FFTs."""
    b = white((1, 2, size, size), torch.float32)

    def iterated() -> Tensor:
        return conjugate_gradient(
            lambda x: operator.adjoint(operator.forward(x)), b, DAMPING, 1.0, max_iter=1000
        )[0]

    return (
        seconds(lambda: operator.solve(DAMPING, 1.0, b), repeats),
        seconds(iterated, min(repeats, 3)),
    )


def toeplitz_times(
    operator: NonCartesianSense, size: int, repeats: int
) -> tuple[float, float, float]:
    """Seconds of ``A^H A x`` by Toeplitz embedding, and by pairs of NUFFTs on two grids."""
    x = white((1, 2, size, size), torch.float32)
    image = torch.complex(x[0, 0], x[0, 1])
    plans = [
        finufft.Plan(kind, (size, size), len(operator.maps), eps=2e-5, isign=sign,
                     dtype="complex64", upsampfac=2.0, nthreads=torch.get_num_threads())
        for kind, sign in ((2, -1), (1, 1))
    ]  # fmt: skip
    for plan in plans:
        plan.setpts(*(2 * math.pi * operator.trajectory).numpy())

    def usual() -> Tensor:
        samples = plans[0].execute((operator.maps * image).numpy())
        return (operator.maps.conj() * torch.from_numpy(plans[1].execute(samples))).sum(0)

    return (
        seconds(lambda: operator.normal(x), repeats),
        seconds(lambda: operator.adjoint(operator.forward(x)), repeats),
        seconds(usual, repeats),
    )


def iterations(operator: NonCartesianSense, size: int) -> tuple[int, int]:
    """Iterations of a solve without and with the preconditioner."""
    b = operator.adjoint(operator.forward(white((1, 2, size, size), torch.float32)))
    found = [
        conjugate_gradient(
            operator.normal, b, DAMPING, 1.0, precondition=precondition, max_iter=2000
        )[1]
        for precondition in (None, operator.preconditioner(DAMPING, 1.0))
    ]
    return found[0], found[1]


def main() -> None:
    """Print accuracy, then times and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--coils", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    everything = operators(args.size, args.coils)
    print(f"{args.size} x {args.size}, {args.coils} coils, {torch.get_num_threads()} threads")
    print(f"{'operator':24} adjoint error (aim {ADJOINT:g})  deviation (aim {AGREEMENT:g})")
    for name, operator in everything.items():
        others = ", ".join(f"{who} {value:.1e}" for who, value in deviations(operator, args.size))
        print(f"{name:24} {adjoint_error(operator, args.size):.1e}  {others}")
    cartesian = everything["columns, several coils"]
    fast, slow = spectral_times(cartesian, args.size, args.repeats)
    print(f"solve, spectral {fast * 1e3:.1f} ms, conjugate gradients {slow * 1e3:.0f} ms:"
          f" {slow / fast:.1f} times faster (aim {SPECTRAL:g})")  # fmt: skip
    print(
        f"normal operator by Toeplitz embedding, aim {TOEPLITZ:g} times faster than NUFFTs; solves"
    )
    for name, operator in everything.items():
        if isinstance(operator, NonCartesianSense):
            fast, fine, usual = toeplitz_times(operator, args.size, args.repeats)
            plain, preconditioned = iterations(operator, args.size)
            print(f"{name:24} {operator.trajectory.shape[1]} samples, {fast * 1e3:.0f} ms: NUFFTs"
                  f" take {fine / fast:.1f} times as long, on the usual grid {usual / fast:.1f};"
                  f" {preconditioned} iterations, {plain} without preconditioner")  # fmt: skip


if __name__ == "__main__":
    main()
