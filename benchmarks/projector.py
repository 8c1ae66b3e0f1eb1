"""What a projection and a back-projection cost, and how exact the adjoint is, beside others.

256 x 256 pixels, 60 angles over the half circle, 8 images where a projector takes several at once.
The fastest of some calls counts, in the processor's own time, so that other work on the machine
matters less. The adjoint error is ``|<A x, y> - <x, A^H y>| / (|A x| |y|)`` for random x, y in
single precision. How long the matrices take to make is printed apart.

    python benchmarks/projector.py [--side 256] [--angles 60] [--batch 8] [--threads 1]

With ``--scaling`` columns, angles and slices are doubled one at a time, up to 2048 columns and 1800
angles. Each line is a process of its own: processor seconds of a projection, a back-projection and
the preconditioner, and the peak memory. The exponents are the slopes of straight lines through the
logarithms.

    python benchmarks/projector.py --scaling
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tiltkit_ct.parallel import ParallelBeam
from torch import Tensor

# Columns, angles and slices of the table of ``--scaling``, by what grows.
SIZES = {
    "columns": [(512, 900, 1), (1024, 900, 1), (2048, 900, 1)],
    "angles": [(2048, 450, 1), (2048, 900, 1), (2048, 1800, 1)],
    "slices": [(512, 450, 1), (512, 450, 2), (512, 450, 4), (512, 450, 8)],
}


@dataclass(frozen=True)
class Peer:
    """One projector: how many images it takes at once, and its two directions."""

    name: str
    images: int
    forward: Callable[[Tensor], Any]
    adjoint: Callable[[Any], Any]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("side", 256), ("angles", 60), ("batch", 8), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--one", type=int, nargs=3, metavar=("COLUMNS", "ANGLES", "SLICES"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(*one_size(*args.one))
        return
    if args.scaling:
        scaling()
        return
    x = torch.rand(args.batch, 1, args.side, args.side, generator=torch.Generator().manual_seed(0))
    print(f"{'projector':34}images  forward ms  adjoint ms  adjoint error")
    for make in (ours, deepinv, scikit_image, astra):
        try:
            for peer in make(args.side, args.angles, args.batch):
                row(peer, x[: peer.images])
        except ImportError as error:
            print(f"{make.__name__:34}not installed: {error}")


def scaling() -> None:
    """Table of time and memory against columns, angles and slices, and its exponents."""
    print("columns  angles  slices   forward s  adjoint s  preconditioner s  memory GB")
    for name, sizes in SIZES.items():
        lines = []
        for size in sizes:
            command = [sys.executable, __file__, "--one", *map(str, size)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures = [float(word) for word in done.stdout.split()]
            lines.append(figures)
            print(f"{size[0]:7}{size[1]:8}{size[2]:8}" + "".join(f"{v:13.3f}" for v in figures))
        axis = np.log([size[list(SIZES).index(name)] for size in sizes])
        slopes = [np.polyfit(axis, np.log(column), 1)[0] for column in zip(*lines, strict=True)]
        print(f"exponent of {name:11}" + "".join(f"{slope:13.2f}" for slope in slopes))


def one_size(columns: int, n_angles: int, slices: int) -> tuple[float, ...]:
    """Processor seconds forward, adjoint and of the preconditioner; peak memory in GB."""
    angles = torch.arange(n_angles) * (math.pi / n_angles)
    beam = ParallelBeam(angles, (columns, columns), columns, matrix_bytes=0)
    x = torch.rand(slices, 1, columns, columns, generator=torch.Generator().manual_seed(0))
    y = beam.forward(x)
    inverse = beam.data_preconditioner(torch.ones_like(y[:1]), 0.1)
    calls = (lambda: beam.forward(x), lambda: beam.adjoint(y), lambda: inverse(y))
    seconds = []
    for call in calls:
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return *seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def row(peer: Peer, x: Tensor) -> None:
    """One line of the table."""
    y = peer.forward(x)
    other = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
    back = torch.as_tensor(peer.adjoint(other))
    error = abs(inner(y, other) - inner(x, back)) / (norm(y) * norm(other))
    forward, adjoint = fastest(peer.forward, x), fastest(peer.adjoint, other)
    print(f"{peer.name:34}{peer.images:6}{forward:12.1f}{adjoint:12.1f}{error:15.1e}")


def inner(a: Any, b: Any) -> float:
    """Inner product in double precision."""
    return float((torch.as_tensor(a).double() * torch.as_tensor(b).double()).sum())


def norm(a: Any) -> float:
    """Euclidean norm."""
    return math.sqrt(inner(a, a))


def fastest(call: Callable[[Any], Any], argument: Any) -> float:
    """Milliseconds of processor time of the fastest call, over threads in parallel."""
    times = []
    for _ in range(7):
        start = time.process_time()
        call(argument)
        times.append(time.process_time() - start)
    return 1e3 * min(times) / torch.get_num_threads()


def ours(side: int, n_angles: int, batch: int) -> Iterator[Peer]:
    """This project, with and without the matrices."""
    angles = torch.arange(n_angles) * (math.pi / n_angles)
    kept = ParallelBeam(angles, (side, side), side)
    start = time.process_time()
    kept.forward(torch.zeros(1, 1, side, side))
    print(f"(matrices made in {time.process_time() - start:.1f} s)")
    yield Peer("tiltkit-ct", batch, kept.forward, kept.adjoint)
    yield Peer("tiltkit-ct", 1, kept.forward, kept.adjoint)
    bare = ParallelBeam(angles, (side, side), side, matrix_bytes=0)
    yield Peer("tiltkit-ct, no matrices kept", batch, bare.forward, bare.adjoint)


def deepinv(side: int, n_angles: int, batch: int) -> Iterator[Peer]:
    """Rotation of the image by interpolation; the adjoint by back-propagation."""
    from deepinv.physics import Tomography

    angles = torch.arange(n_angles) * (180 / n_angles)
    for images in (batch, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            physics = Tomography(angles, side, circle=True, normalize=False)
        yield Peer("deepinv Tomography", images, physics.A, physics.A_adjoint)


def scikit_image(side: int, n_angles: int, batch: int) -> Iterator[Peer]:
    """Rotation of one image; back-projection is no adjoint of it."""
    from skimage.transform import iradon, radon

    angles = np.arange(n_angles) * (180 / n_angles)

    def forward(x: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values outside of the circle
            return torch.from_numpy(radon(x[0, 0].numpy(), angles, circle=True))

    def adjoint(y: Tensor) -> Tensor:
        image = iradon(y.numpy(), angles, filter_name=None, circle=True)
        return torch.from_numpy(image * (2 * n_angles / math.pi))

    yield Peer("scikit-image radon, iradon", 1, forward, adjoint)


def astra(side: int, n_angles: int, batch: int) -> Iterator[Peer]:
    """Strips of one image, by the processor."""
    import astra

    beam = astra.create_proj_geom("parallel", 1.0, side, np.arange(n_angles) * np.pi / n_angles)
    for kind in ("strip", "linear"):
        projector = astra.create_projector(kind, beam, astra.create_vol_geom(side, side))
        operator = astra.optomo.OpTomo(projector)
        yield Peer(
            f"ASTRA {kind}",
            1,
            lambda x, A=operator: torch.from_numpy(A.FP(x[0, 0].numpy())),
            lambda y, A=operator: torch.from_numpy(A.BP(y.numpy())),
        )


if __name__ == "__main__":
    main()
