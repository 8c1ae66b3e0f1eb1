"""What the engine costs beside the network: a whole run over its bare network calls.

A real brain slice, 256x256, simulated 8 coils, every 4th column measured and 24 calibration
columns; the shipped prior. Runs and bare calls of the same network on the same chunks take turns,
and the fastest of each counts. On a CPU, times are the processor's own, so that other work on the
machine matters less; on a GPU they are those of the clock. The one-off eigendecomposition is
printed apart.

    python benchmarks/engine.py --levels 8
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

from tiltkit.hookspecs import PriorEntry
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.priors.denoiser import DenoiserPrior, NetworkOptions, network_prior
from tiltkit.problem import Problem
from tiltkit.protocols import Prior
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.moments import Moments, MomentsOptions
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target, chunk_size

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "plugins" / "tiltkit-mri"))

from tiltkit_mri.operators import CartesianSense  # noqa: E402

SIDE, COILS, NOISE = 256, 8, 0.02
CPU = torch.device("cpu")
WEIGHTS = "tiltkit_mri:data/prior_brain.safetensors"

SAMPLERS = {
    "moments": lambda levels: Moments(MomentsOptions(levels=levels, collect=0)),
    "twisted": lambda levels: Twisted(TwistedOptions(levels=levels, collect=0)),
    "walmc": lambda levels: Walmc(WalmcOptions(levels=levels, start_moves=1, collect=0)),
}


def image(side: int = SIDE) -> torch.Tensor:
    """A slice in the middle of 256x256, or that made smaller, (1, 2, ny, nx)."""
    picture = np.load(ROOT / "datasets" / "colin27.npz")["image"][4] / 140
    x = torch.zeros(1, 2, SIDE, SIDE)
    rows, columns = (slice((SIDE - n) // 2, (SIDE - n) // 2 + n) for n in picture.shape)
    x[0, 0, rows, columns] = torch.from_numpy(picture)
    return torch.nn.functional.interpolate(x, (side, side), mode="area")


def operator(side: int = SIDE, coils: int = COILS, device: torch.device = CPU) -> CartesianSense:
    """Coils on a ring around the head; undersampled columns."""
    line = torch.linspace(-1, 1, side)
    angle = torch.arange(coils) * (2 * torch.pi / coils)
    y = line[None, :, None] - 1.2 * angle.sin()[:, None, None]
    x = line[None, None, :] - 1.2 * angle.cos()[:, None, None]
    maps = torch.polar(torch.exp(-(x**2 + y**2) / 1.5), x + angle[:, None, None])
    maps /= maps.abs().square().sum(0).sqrt()
    columns = torch.zeros(side, dtype=torch.bool)
    columns[::4] = True
    half = 12 * side // SIDE
    columns[side // 2 - half : side // 2 + half] = True
    return CartesianSense(maps.to(device), columns)


def shipped_prior(precision: str) -> DenoiserPrior:
    """The network that comes with tiltkit-mri."""
    entry = PriorEntry(name="", target="", summary="", channels=2, weights=WEIGHTS)
    return network_prior(NetworkOptions(precision=precision), entry)


def problem_of(
    prior: Prior, side: int = SIDE, coils: int = COILS, device: torch.device = CPU
) -> tuple[Problem, float]:
    """The problem, its operator diagonalised, and the seconds that took."""
    physics, truth = operator(side, coils, device), image(side).to(device)
    y = physics.forward(truth)
    noise = torch.randn(*y.shape, 2, generator=torch.Generator().manual_seed(0))
    y = y + NOISE * torch.view_as_complex(noise).to(device)
    start = now(device)
    _ = physics.eigenvalues
    seconds = now(device) - start
    likelihood = GaussianLikelihood(physics, y, NOISE**2)
    return Problem(prior, likelihood, truth.shape[1:], lambda x: x, truth[0]), seconds


def now(device: torch.device) -> float:
    """Seconds: of this process, or of the clock once a GPU has done all it was given."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    """Print the costs and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sampler", choices=SAMPLERS, default="twisted")
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--memory-gb", type=float, default=1.0)
    parser.add_argument("--device", type=torch.device, default=CPU)
    parser.add_argument("--profile", action="store_true", help="where the time goes, by operation")
    args = parser.parse_args()
    torch.set_num_threads(1)
    prior, g = shipped_prior(args.precision).to(args.device), torch.Generator().manual_seed(0)
    problem, decomposition = problem_of(prior, device=args.device)
    n, chunk = args.particles, chunk_size(problem.shape, args.particles, args.memory_gb)
    sampler = SAMPLERS[args.sampler](args.levels)

    def whole() -> float:
        target = Target(problem, n, chunk, args.device)
        for _ in run(target, sampler, ParticleRng([0], n, target.device)):
            pass
        return target.network_calls

    def bare(calls: float) -> None:
        x = torch.randn(n, *problem.shape, generator=g).to(args.device)
        with torch.inference_mode():
            for _ in range(round(calls)):
                for rows in Target(problem, n, chunk).chunks():
                    prior.score(x[rows], 1.0)

    if args.profile:
        with torch.profiler.profile() as profile:
            whole()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=22,
                                           max_name_column_width=30))  # fmt: skip
    runs, calls_only = [], []
    for _ in range(args.repeats):
        start = now(args.device)
        calls = whole()
        runs.append(now(args.device) - start)
        start = now(args.device)
        bare(calls)
        calls_only.append(now(args.device) - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratio = min(runs) / min(calls_only)
    print(f"{n} particles in chunks of {chunk}, {calls:.0f} network calls")
    print("run s  bare calls s  ratio  call ms/particle  eigendecomposition s  peak MB/particle")
    print(f"{min(runs):5.2f} {min(calls_only):13.2f} {ratio:6.3f}"
          f" {1e3 * min(calls_only) / calls / n:17.1f} {decomposition:21.2f}"
          f" {(peak - _idle()) / n:17.1f}")  # fmt: skip


def _idle() -> float:
    """Memory in MB of what does not grow with the particles: Python, torch, the blocks."""
    return IMPORTS + SIDE**3 * 8 / 2**20


IMPORTS = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

if __name__ == "__main__":
    main()
