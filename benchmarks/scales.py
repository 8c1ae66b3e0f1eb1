"""Do coarse and fine detail each get the spread that they should have?

A Gaussian prior with the spectrum of images (`--prior gaussian`), 32x32 complex pixels, seen by
three MRI operators at several noise levels: the posterior is known exactly, by dense algebra. For
each sampler the variance of its samples over the exact one is printed, in shells of spatial
frequency; 1 is right. Particles follow the data by themselves here
(``most_shared_ancestry=0``), as they do in images too large for weights.

    python benchmarks/scales.py --noise 0.02 0.1 0.3
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import pairwise

import torch
from tiltkit_mri.operators import CartesianSense, MaskedFourier
from torch import Tensor

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.hartley import frequencies
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.problem import Problem
from tiltkit.protocols import LinearOperator
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target

SIDE, PARTICLES = 32, 64
SHAPE = (2, SIDE, SIDE)
PRIOR = SmoothGaussian(0.3, 2.0, 3.0, channels=2)
SAMPLERS = {
    "twisted": Twisted(TwistedOptions(most_shared_ancestry=0.0)),
    "walmc": Walmc(WalmcOptions(most_shared_ancestry=0.0)),
}
# Cycles per image.
SHELLS = (0.0, 1.5, 3.0, 6.0, 12.0, 32.0)


def operators() -> Mapping[str, LinearOperator]:
    """All of k-space, 14 of 32 columns, and these with four coils."""
    columns = torch.zeros(SIDE, dtype=torch.bool)
    columns[::4] = True
    columns[SIDE // 2 - 3 : SIDE // 2 + 3] = True
    t = torch.linspace(-1, 1, SIDE)
    y, x = torch.meshgrid(t, t, indexing="ij")
    corners = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    maps = torch.stack([
        torch.polar(torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 1.2), a * x + b * y)
        for a, b in corners
    ])  # fmt: skip
    return {
        "all of k-space": MaskedFourier(torch.ones(SIDE, SIDE, dtype=torch.bool)),
        "some columns": MaskedFourier(columns.expand(SIDE, -1).contiguous()),
        "some columns, 4 coils": CartesianSense(maps / maps.abs().square().sum(0).sqrt(), columns),
    }


def exact_power(operator: LinearOperator, noise: float) -> Tensor:
    """Exact posterior variance of every Fourier coefficient (side, side)."""
    size = 2 * SIDE**2
    basis = torch.eye(size).view(-1, *SHAPE)
    data = operator.normal(basis).flatten(1).double() / noise**2
    # The samplers end at the smallest noise that the prior knows, so that is its spread there.
    prior = -PRIOR.score(basis.double(), PRIOR.sigma_range[0]).flatten(1)
    covariance = torch.linalg.inv(data + prior)
    root = torch.linalg.cholesky((covariance + covariance.T) / 2)
    return power(root.T.reshape(-1, *SHAPE)).sum(0)


def power(x: Tensor) -> Tensor:
    """Squared Fourier coefficients (n, side, side) of complex images (n, 2, side, side)."""
    return torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]), norm="ortho").abs().square()


def sampled_power(operator: LinearOperator, noise: float, name: str, seed: int) -> Tensor:
    """Variance of the samples' Fourier coefficients (side, side)."""
    g = torch.Generator().manual_seed(seed)
    spectrum = PRIOR.spectrum((SIDE, SIDE), torch.device("cpu")).float()
    white = torch.randn(1, *SHAPE, generator=g)
    truth = torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real
    y = operator.forward(truth)
    y = y + noise * torch.view_as_complex(torch.randn(*y.shape, 2, generator=g))
    likelihood = GaussianLikelihood(operator, y, noise**2)
    problem = Problem(PRIOR, likelihood, SHAPE, lambda x: x, torch.zeros(SHAPE))
    target = Target(problem, PARTICLES, PARTICLES)
    sampler = SAMPLERS[name]
    *_, (state, _) = run(target, sampler, ParticleRng([seed], PARTICLES, target.device))
    x = sampler.images(target, state)
    return power(x - x.mean(0)).sum(0) / (PARTICLES - 1)


def main() -> None:
    """Print one row per operator, noise level and sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.02, 0.1, 0.3])
    parser.add_argument("--problems", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    radius = SIDE * frequencies((SIDE, SIDE))
    shells = list(pairwise(SHELLS))
    print("variance over the exact one, by cycles per image")
    print(" " * 40 + "".join(f"{f'{low:g} to {high:g}':<12}" for low, high in shells))
    for title, operator in operators().items():
        for noise in args.noise:
            exact = exact_power(operator, noise)
            for name in SAMPLERS:
                found = torch.stack([
                    sampled_power(operator, noise, name, seed) for seed in range(args.problems)
                ]).mean(0)  # fmt: skip
                where = [(radius >= low) & (radius < high) for low, high in shells]
                ratios = [float(found[part].sum() / exact[part].sum()) for part in where]
                label = f"{title if name == 'twisted' else '':22}{noise:<6g}{name}"
                print(f"{label:40}" + "".join(f"{ratio:<12.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
