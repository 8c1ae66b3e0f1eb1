"""A pollen grain, blurred and noisy: ours beside Richardson-Lucy.

    python benchmarks/pollen.py FOLDER [--crop Z:Z,Y:Y,X:X] [--samples 12] [--pictures OUT.png]

The folder is ``sdeconv/data`` of the package sdeconv: a confocal stack of 32 x 256 x 256 voxels,
the same after a Gaussian blur of one voxel that wraps around its borders, with noise whose variance
is 50 times the signal, and the point spread function. No method is told more than these files and
that gain, which a camera's data sheet gives. The truth is noisy itself, like any confocal stack, so
that nothing comes near to it; its maximum is the peak of PSNR. Richardson-Lucy's numbers of
iterations are all shown: which is best only the truth tells.

With ``--crop`` a part of the truth is blurred anew, by the same rules.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from against_truth import coverage, last, pictures, setting
from numpy.typing import NDArray
from skimage import metrics
from tiltkit_deblur.convolution import Convolution
from tiltkit_deblur.psf import kernel_of
from tiltkit_deblur.richardson_lucy import richardson_lucy
from tiltkit_deblur.task import Deblur, DeblurOptions

from tiltkit.plugins import load_plugins
from tiltkit.posterior.outcome import Outcome
from tiltkit.posterior.verdict import stored_verdict, verdict_text
from tiltkit.recon.solve import solve

Volume = NDArray[np.float64]

GAIN, ITERATIONS = 50.0, (10, 20, 40, 80)


def main() -> None:
    """Run and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    truth, readings, psf = scene(args)
    print(f"{' x '.join(map(str, truth.shape)):36}PSNR dB  seconds")
    row("data", readings, truth, 0.0)
    lucy(readings, psf, truth)
    host = load_plugins()
    device = torch.device(args.device)
    prior = host.create("prior", args.prior, dict(args.prior_set)).to(device)
    sampler = host.create("sampler", args.sampler, {"levels": 48} | dict(args.set))
    with tempfile.TemporaryDirectory() as folder:
        data, kernel = Path(folder) / "data.tif", Path(folder) / "psf.tif"
        tifffile.imwrite(data, readings.astype(np.float32))
        tifffile.imwrite(kernel, psf.astype(np.float32))
        options = DeblurOptions(psf=kernel, gain=GAIN, offset=0.0, boundary="circular",
                                solver=args.solver)  # fmt: skip
        with Deblur(options).open(data) as scan:
            start = time.perf_counter()
            problem = scan.problem(0, prior, device)
            outcome = last(solve([problem], sampler, seed=(args.seed, 0), n=args.samples,
                                 devices=[device], memory_gb=args.memory))  # fmt: skip
    mean = outcome.mean.squeeze()
    seconds = time.perf_counter() - start
    row(f"average of {args.samples} samples", outcome.samples.mean(0).squeeze(), truth, seconds)
    row("posterior mean", mean, truth, seconds)
    everywhere, bright = np.ones(truth.shape, bool), truth > 0.1 * np.percentile(truth, 99.9)
    low, high = (outcome.quantiles[q].reshape(truth.shape) for q in (0.05, 0.95))
    print(f"90 % intervals cover {coverage(low, high, truth, everywhere):.3f},"
          f" {coverage(low, high, truth, bright):.3f} of the bright voxels")  # fmt: skip
    error = np.sqrt(np.mean((mean - truth) ** 2))
    spread = np.sqrt(np.mean(outcome.std.astype(float) ** 2))
    print(f"error {error:.4g}, spread {spread:.4g}, ratio {error / spread:.2f}")
    d = outcome.diagnostics
    print(f"chi2 of samples {d['chi2']:.2f}; misfit {d.get('residual_ratio_max', 0):.2f};"
          f" {verdict_text(stored_verdict(d), d['warnings'])}")  # fmt: skip
    if args.pictures:
        show(args.pictures, outcome, truth)


def scene(args: argparse.Namespace) -> tuple[Volume, Volume, Volume]:
    """Truth, readings and point spread function (z, y, x)."""
    truth, readings, psf = (
        tifffile.imread(args.folder / f"pollen{part}.tif").astype(float)
        for part in ("", "_poisson_noise_blurred", "_psf")
    )
    if not args.crop:
        return truth, readings, psf
    window = tuple(slice(*map(int, part.split(":"))) for part in args.crop.split(","))
    truth = truth[window]
    blurred = blur(psf, truth.shape).forward(torch.from_numpy(truth)[None, None])[0, 0].numpy()
    noise = np.random.default_rng(args.seed).standard_normal(truth.shape)
    return truth, blurred + np.sqrt(GAIN * blurred.clip(0)) * noise, psf


def blur(psf: Volume, shape: tuple[int, ...]) -> Convolution:
    """The blur that wraps around."""
    return Convolution(torch.from_numpy(kernel_of(psf.astype(np.float32))[0]), shape)


def lucy(readings: Volume, psf: Volume, truth: Volume) -> None:
    """Richardson-Lucy with the right borders, after several numbers of iterations."""
    operator = blur(psf, truth.shape)
    y = torch.from_numpy(readings)[None, None] / GAIN
    for iterations in ITERATIONS:
        start = time.perf_counter()
        image = richardson_lucy(operator, y, torch.ones_like(y, dtype=torch.bool), 0.0, iterations)
        seconds = time.perf_counter() - start
        row(f"Richardson-Lucy, {iterations} iterations", GAIN * image[0, 0].numpy(), truth, seconds)


def row(label: str, image: Any, truth: Volume, seconds: float) -> None:
    """One line of the table."""
    psnr: Any = metrics.peak_signal_noise_ratio  # it has no types
    value = psnr(truth, np.float64(image), data_range=truth.max())
    print(f"{label:36}{value:7.2f}  {seconds:7.1f}", flush=True)


def show(path: Path, outcome: Outcome, truth: Volume) -> None:
    """The plane with the most light."""
    plane = int(truth.sum((1, 2)).argmax())
    shown = replace(
        outcome,
        samples=outcome.samples.reshape(-1, *truth.shape)[:, plane],
        **{
            name: getattr(outcome, name).reshape(truth.shape)[plane]
            for name in ("mean", "std", "baseline")
        },
    )
    top = float(np.percentile(truth[plane], 99.5))
    pictures(path, shown, truth[plane], top, names=("truth", "Richardson-Lucy"), height=10)


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crop", help="part of the truth to use, such as 8:24,80:144,80:144")
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prior", default=Deblur.default_prior)
    parser.add_argument("--prior-set", type=setting, action="append", default=[])
    parser.add_argument("--solver", default="iterative", choices=("iterative", "spectral"))
    parser.add_argument("--sampler", default="twisted")
    parser.add_argument("--set", type=setting, action="append", default=[])
    parser.add_argument("--memory", type=float, default=1.0, help="GB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
