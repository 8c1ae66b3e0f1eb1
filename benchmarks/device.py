"""Costs on a GPU, in one run: the engine over bare network calls, a real brain, what repeats.

Everything that needs the device, for a machine that is there for some minutes.

    python benchmarks/device.py [--data ../shared/data] [--device cuda] [--levels 8]

Printed: for each sampler and number of particles the run's time over that of its network calls
(`engine.py`; the aim is 1.3); for each sampler whether a second run is equal, and how much chunks
change it; random numbers against those of the CPU; and with ``--data`` the scan of `brain.py`. A
failed part is named, and the others go on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import engine
import torch

from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.target import Target

HERE = Path(__file__).parent


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the scan of brain.py")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--levels", type=int, default=8)
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    compare_noise(device)
    for sampler in engine.SAMPLERS:
        for particles in (16, 64):
            options = ["--sampler", sampler, "--particles", str(particles), "--memory-gb", "16"]
            options += ["--levels", str(args.levels), "--device", args.device]
            print(f"== engine, {sampler}, {particles} particles", flush=True)
            call("engine.py", *options)
        repeat(sampler, device)
    if args.data:
        for sampler in engine.SAMPLERS:
            print(f"== brain, {sampler}", flush=True)
            call("brain.py", str(args.data), "--sampler", sampler, "--device", args.device)


def compare_noise(device: torch.device) -> None:
    """Random numbers of the device against those of the CPU."""
    there, here = (
        ParticleRng([0], 16, d).normal(slice(0, 16), (2, 256, 256), torch.float32).cpu()
        for d in (device, torch.device("cpu"))
    )
    print(
        f"random numbers: largest difference from the CPU {float((there - here).abs().max()):.1e}"
    )


def repeat(sampler: str, device: torch.device) -> None:
    """Compare a second run with the first, and one in small chunks."""
    prior = engine.shipped_prior("auto").to(device)
    problem, _ = engine.problem_of(prior, side=64, device=device)

    def images(chunk: int) -> torch.Tensor:
        target, kind = Target(problem, 16, chunk, device), engine.SAMPLERS[sampler](8)
        *_, (state, _) = run(target, kind, ParticleRng([0], 16, device))
        return kind.images(target, state)

    first, again, chunks = images(16), images(16), images(5)
    difference = float((chunks - first).abs().max() / first.std(0).mean())
    print(f"repeats bit for bit: {torch.equal(first, again)};"
          f" chunks of 5 differ by {difference:.1e} of the spread")  # fmt: skip


def call(script: str, *options: str) -> None:
    """One of the other benchmarks, with its lines."""
    done = subprocess.run([sys.executable, str(HERE / script), *options], check=False)
    if done.returncode:
        print(f"{script} failed with code {done.returncode}")


if __name__ == "__main__":
    main()
