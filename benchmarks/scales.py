"""Do coarse and fine detail each get the spread that they should have?

A Gaussian prior with the spectrum of images (`--prior gaussian`), complex pixels, measured by three
MRI operators at several noise levels: the posterior is known exactly (`gaussians.py`). For each
sampler the variance of its samples over the exact one is printed, in shells of spatial frequency;
1 is right. Weighted samplers use no weights here (``most_shared_ancestry=0``), as in images too
large for them.

    python benchmarks/scales.py --noise 0.02 0.1 0.3
    python benchmarks/scales.py --side 256 --samples 8 --problems 1 --noise 0.1
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import torch
from exact import run
from gaussians import GaussianCase

from tiltkit.plugins import load_plugins
from tiltkit.sampling.state import Sampler

SAMPLERS = ("moments", "twisted", "walmc")
TITLES = {
    "full": "all of k-space", "1 coil": "some columns", "4 coils": "some columns, 4 coils",
}  # fmt: skip


def samplers(names: list[str] | None) -> dict[str, Sampler]:
    """The samplers of ``names``, or those of `SAMPLERS` that are there; all without weights."""
    host = load_plugins()
    there = {entry.name for entry in host.entries("sampler")}
    made = {}
    for name in names or [name for name in SAMPLERS if name in there]:
        weighted = "most_shared_ancestry" in host.load("sampler", name).Options.model_fields
        options = {"most_shared_ancestry": 0.0} if weighted else {}
        made[name] = host.create("sampler", name, options)
    return made


def ratios(case: GaussianCase, sampler: Sampler, n: int, problems: int) -> list[float]:
    """Variance of samples over the exact one by band, as mean over problems."""
    found = torch.zeros(len(case.edges), dtype=torch.float64)
    for seed in range(problems):
        problem, exact = case.problem(seed)
        x = run(problem, sampler, n, seed).samples
        found += case.power(x - x.mean(0)).sum(0) / (n - 1) / exact.bands
    mean: list[float] = (found / problems).tolist()
    return mean


def main() -> None:
    """Print one row per operator, noise level and sampler."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.02, 0.1, 0.3])
    parser.add_argument("--problems", type=int, default=2)
    parser.add_argument("--side", type=int, default=32, help="pixels along each side")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--samplers", nargs="+", help="names; those that are there by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = samplers(args.samplers)
    print("variance over the exact one, by cycles per image")
    edges = (*GaussianCase("full", args.side, 0.1).edges, args.side)
    print(" " * 40 + "".join(f"{f'{low:g} to {high:g}':<12}" for low, high in pairwise(edges)))
    for kind, title in TITLES.items():
        for noise in args.noise:
            case = GaussianCase(kind, args.side, noise, draws=256 if args.side <= 64 else 64)
            for i, (name, sampler) in enumerate(chosen.items()):
                found = ratios(case, sampler, args.samples, args.problems)
                label = f"{'' if i else title:22}{noise:<6g}{name}"
                print(f"{label:40}" + "".join(f"{ratio:<12.2f}" for ratio in found), flush=True)


if __name__ == "__main__":
    main()
