"""A star field, blurred and noisy: is light conserved, and are stars as bright as they were?

    python benchmarks/stars.py [--side 64] [--stars 24] [--samples 8] [--set levels=36]
    python benchmarks/stars.py --case FOLDER/NAME    with NAME.tif, NAME_psf.tif, NAME_truth.tif

Stars are single pixels of 600 to 90000 readings on a faint sky, also beyond the borders; the point
spread function is a Moffat profile of 5 pixels. The camera has a gain of 2.2, an offset of 100
and a read noise of 3.5, which Richardson-Lucy (scikit-image) and the Wiener filter
(scikit-image, with the balance that is best given the truth) are told, too. Light of a star is
the sum over a disc of 5 pixels, as in aperture photometry; stars nearer than 11 pixels to another
one or 5 to a border are left out. Of stars at a border only a part of the light is measured, so
that no method can find the total exactly.

Nothing in the prior knows stars: its training images are fluorescent structures.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from against_truth import last, setting
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from skimage import restoration
from tiltkit_deblur.task import Deblur, DeblurOptions

from tiltkit.plugins import load_plugins
from tiltkit.posterior.verdict import stored_verdict, verdict_text
from tiltkit.recon.solve import solve

Image = NDArray[np.float64]

GAIN, OFFSET, READ_NOISE, SKY = 2.2, 100.0, 3.5, 11.0
BORDER, RADIUS, ALONE, BRIGHT = 15, 5, 11, 10000.0


@dataclass(frozen=True)
class Field:
    """Truth, readings (y, x), and the point spread function."""

    truth: Image
    readings: Image
    psf: Image

    @property
    def stars(self) -> list[NDArray[np.bool_]]:
        """Discs around stars that lie alone, the brightest first."""
        places = np.argwhere(self.truth > SKY + 100)
        places = places[np.argsort(-self.truth[tuple(places.T)])]
        y, x = np.indices(self.truth.shape)
        discs = []
        for place in places:
            distances = np.hypot(*(places - place).T)
            inside = min(*place, *(np.array(self.truth.shape) - 1 - place)) >= RADIUS
            if inside and np.sort(distances)[1:2].min(initial=np.inf) >= ALONE:
                discs.append(np.hypot(y - place[0], x - place[1]) <= RADIUS)
        return discs


def main() -> None:
    """Run and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    field = read(args.case) if args.case else simulate(args.side, args.stars, args.seed)
    print(f"{'':32}total light   bright stars (worst)   faint stars (median)   chi2  seconds")
    row("truth", field, field.truth, 0.0)
    for iterations in (20, 100):
        start = time.perf_counter()
        row(f"Richardson-Lucy, {iterations}", field, lucy(field, iterations), since(start))
    start = time.perf_counter()
    row("Wiener", field, wiener(field), since(start))
    ours(field, args)


def simulate(side: int, stars: int, seed: int) -> Field:
    """Stars of all brightnesses, none near another, on a field that is wider than the image."""
    rng = np.random.default_rng(seed)
    wide = np.full((side + 2 * BORDER,) * 2, SKY)
    places: list[NDArray[np.int_]] = []
    for place in rng.integers(0, len(wide), (100 * stars, 2)):
        alone = all(np.hypot(*(place - other)) > ALONE for other in places)
        if alone and len(places) < stars * wide.size / side**2:
            places.append(place)
    y, x = np.array(places).T
    wide[y, x] += np.exp(rng.uniform(np.log(600), np.log(90000), len(places)))
    r2 = (np.indices((2 * BORDER + 1,) * 2) - BORDER) ** 2
    psf = (1 + r2.sum(0) / 12.5) ** -2.5
    blurred = fftconvolve(wide, psf / psf.sum(), mode="valid")
    electrons = rng.poisson(blurred / GAIN)
    readings = GAIN * electrons + OFFSET + READ_NOISE * rng.standard_normal(blurred.shape)
    return Field(wide[BORDER:-BORDER, BORDER:-BORDER], readings, psf)


def read(case: Path) -> Field:
    """A field of three files."""
    names = [case.with_name(f"{case.name}{part}.tif") for part in ("_truth", "", "_psf")]
    return Field(*(tifffile.imread(name).astype(float) for name in names))


def lucy(field: Field, iterations: int) -> Image:
    """Richardson-Lucy of scikit-image; it wants values of about 1 and clips negative ones."""
    signal = (field.readings - OFFSET).clip(0)
    top = signal.max()
    run: Any = restoration.richardson_lucy
    return top * run(signal / top, field.psf / field.psf.sum(), num_iter=iterations, clip=False)


def wiener(field: Field) -> Image:
    """Wiener filter of scikit-image with the best of several balances, edges reflected."""
    signal = np.pad(field.readings - OFFSET, BORDER, mode="reflect")
    run: Any = restoration.wiener
    inner = slice(BORDER, -BORDER)
    found = [
        run(signal, field.psf / field.psf.sum(), balance, clip=False)[inner, inner]
        for balance in 10.0 ** np.arange(-5, 1)
    ]
    return min(found, key=lambda image: float(np.square(image - field.truth).sum()))


def ours(field: Field, args: argparse.Namespace) -> None:
    """The task with the prior that ships with it."""
    host, device = load_plugins(), torch.device(args.device)
    prior = host.create("prior", args.prior, {}).to(device)
    sampler = host.create("sampler", args.sampler, dict(args.set))
    with tempfile.TemporaryDirectory() as folder:
        data, psf = Path(folder) / "data.tif", Path(folder) / "psf.tif"
        tifffile.imwrite(data, field.readings.astype(np.float32))
        tifffile.imwrite(psf, field.psf.astype(np.float32))
        options = DeblurOptions(psf=psf, gain=GAIN, offset=OFFSET, read_noise=READ_NOISE)
        with Deblur(options).open(data) as scan:
            start = time.perf_counter()
            problem = scan.problem(0, prior, device)
            outcome = last(solve([problem], sampler, seed=(args.seed, 0), n=args.samples,
                                 devices=[device]))  # fmt: skip
            grid, scale = scan.grid, scan.scale
    seconds, d = since(start), outcome.diagnostics
    mean, samples = outcome.mean.squeeze(), outcome.samples.reshape(-1, *field.truth.shape)
    x = torch.as_tensor(outcome.particles).mean(0, keepdim=True).to(device)
    x[grid.at] = torch.as_tensor(mean / scale).to(x)
    chi2 = float(problem.likelihood.chi2(x))
    row(f"posterior mean, {args.samples} samples", field, mean, seconds, chi2)
    inside = []
    for disc in field.stars:
        light = samples[:, disc].sum(1)
        inside.append(bool(light.min() <= field.truth[disc].sum() <= light.max()))
    expected = (args.samples - 1) / (args.samples + 1)
    print(f"the range of the samples holds the light of {np.mean(inside):.0%} of {len(inside)}"
          f" stars; right samples: {expected:.0%}")  # fmt: skip
    print(f"chi2 of the written mean {chi2:.2f}, in the certificate {d['chi2_mean']:.2f};"
          f" of the samples {d['chi2']:.2f}, expected 1;"
          f" {verdict_text(stored_verdict(d), d['warnings'])}")  # fmt: skip


def row(label: str, field: Field, image: Any, seconds: float, chi2: float = np.nan) -> None:
    """One line of the table: relative errors of light."""
    image = np.asarray(image, float)
    errors = {True: [0.0], False: [0.0]}
    for disc in field.stars:
        light = field.truth[disc].sum()
        errors[bool(light > BRIGHT)].append(image[disc].sum() / light - 1)
    worst = max(errors[True], key=abs)
    total = image.sum() / field.truth.sum() - 1
    faint = float(np.median(errors[False][1:] or [0.0]))
    print(f"{label:32}{total:+11.1%}{worst:+23.1%}{faint:+23.1%}{chi2:7.2f}{seconds:9.1f}",
          flush=True)  # fmt: skip


def since(start: float) -> float:
    """Seconds."""
    return time.perf_counter() - start


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=Path, help="path of a field without .tif")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--stars", type=int, default=24)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prior", default=Deblur.default_prior)
    parser.add_argument("--sampler", default="moments")
    parser.add_argument("--set", type=setting, action="append", default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
