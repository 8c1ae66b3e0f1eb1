"""Images unlike those of the training, measured as scans: does anything warn, do intervals hold?

    python benchmarks/unlike.py [FILE ...] [--prior mri.brain] [--acceleration 4] [--samples 10]

Every image of the files (NumPy, HDF5, TIFF, PNG; without files: pictures of scikit-image, and a
head of datasets/) becomes a scan with four simulated coils, which the whole of `mri-recon` reads:
noise, sensitivities and scale are found from the data. Real images get a smooth phase. Prints for
each image

distance  of the samples from the training images (above 1: warned of)
misfit    of denoised images to the data, over what the prior expects (above 1.4: warned of)
covers    share of the object inside the 90 % intervals, which for n samples is (n - 1) / (n + 1)
error     of the samples, over the difference of two of them: 1 where the spread is right
psnr      of the posterior mean in dB, for a peak of 1 (the 99th percentile of the object)

and at the end what holds where nothing warned. Both figures of the run can miss a stranger; what
must not happen is that nothing warns *and* intervals are too narrow.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from against_truth import coverage, last, setting
from numpy.typing import NDArray
from skimage import data
from skimage.transform import resize
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.io.images import read_images
from tiltkit.plugins import Plugins, load_plugins
from tiltkit.posterior.outcome import Outcome
from tiltkit.priors.check.material import from_images
from tiltkit.recon.solve import solve

DATASETS = Path(__file__).parents[1] / "datasets"
sys.path.insert(0, str(DATASETS))

from make_scan import UNIT, write_scan  # noqa: E402

PICTURES = ("shepp_logan_phantom", "camera", "brick", "grass", "coins", "cell")


@dataclass(frozen=True)
class Judged:
    """What a run says of itself, and what the truth says of it."""

    distance: float
    misfit: float
    covers: float
    error: float
    psnr: float
    warned: bool

    @classmethod
    def of(cls, outcome: Outcome, truth: NDArray[np.float64]) -> Judged:
        """Compare with the true magnitude (row, column), where there is an object."""
        where = truth > 0.1 * np.percentile(truth, 99)
        samples = outcome.samples[:, where].astype(float)
        error = np.square(samples - truth[where]).mean()
        # Two samples of a calibrated posterior differ as much as a sample and the truth.
        apart = 2 * samples.var(0, ddof=1).mean()
        d = outcome.diagnostics
        return cls(
            d.get("prior_distance", np.nan),
            d.get("residual_ratio_max", np.nan),
            coverage(outcome.quantiles[0.05], outcome.quantiles[0.95], truth, where),
            float(np.sqrt(error / apart)),
            float(-10 * np.log10(np.square((outcome.mean - truth) / UNIT).mean())),
            bool(d["warnings"]),
        )

    def __str__(self) -> str:
        verdict = "warned" if self.warned else "no warning"
        figures = f"{self.distance:8.2f}{self.misfit:8.2f}{self.covers:8.2f}{self.error:7.2f}"
        return f"{figures}{self.psnr:7.2f}  {verdict}"


def main() -> None:
    """Run and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    host = load_plugins()
    print(f"{'':28}distance  misfit  covers  error   psnr  verdict")
    found = []
    for name, image in images(args):
        outcome = posterior(host, image, args)
        found.append(Judged.of(outcome, np.abs(image) * UNIT))
        print(f"{name:28}{found[-1]}", flush=True)
    expected = (args.samples - 1) / (args.samples + 1)
    quiet = [one.covers for one in found if not one.warned]
    warned = len(found) - len(quiet)
    print(f"{warned} of {len(found)} warned of; intervals should cover {expected:.2f}")
    if quiet:
        print(f"without a warning they cover {np.mean(quiet):.2f}, at worst {min(quiet):.2f}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--prior", default=MriRecon.default_prior)
    parser.add_argument("--prior-set", type=setting, action="append", default=[])
    parser.add_argument("--sampler", default="twisted")
    parser.add_argument("--count", type=int, default=2, help="images of each file, evenly spread")
    parser.add_argument("--side", type=int, default=160, help="pixels of the pictures")
    parser.add_argument("--coils", type=int, default=4)
    parser.add_argument("--acceleration", type=float, default=4.0)
    parser.add_argument("--noise", type=float, default=0.02, help="of the image's 99th percentile")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def images(args: argparse.Namespace) -> Iterator[tuple[str, NDArray[np.complex128]]]:
    """Name and complex image (row, column) of each, the 99th percentile of the object 1."""
    with tempfile.TemporaryDirectory() as folder:
        files = args.files or [*pictures(Path(folder), args.side), DATASETS / "colin27.npz"]
        for path in files:
            generator = torch.Generator().manual_seed(args.seed)
            material = from_images(
                read_images([path], 2), path.name, 2, args.count, "auto", generator
            )
            for i, image in enumerate(material.images):
                real, imaginary = image[0].double().numpy()
                yield f"{path.stem} {i}", real + 1j * imaginary


def pictures(folder: Path, side: int) -> Iterator[Path]:
    """Square pictures that scikit-image carries."""
    for name in PICTURES:
        picture = np.asarray(getattr(data, name)(), float)
        np.save(folder / f"{name}.npy", resize(picture, (side, side), anti_aliasing=True))
        yield folder / f"{name}.npy"


def posterior(host: Plugins, image: NDArray[np.complex128], args: argparse.Namespace) -> Outcome:
    """Measure an image and reconstruct it."""
    device = torch.device(args.device)
    prior = host.create("prior", args.prior, dict(args.prior_set)).to(device)
    sampler = host.create("sampler", args.sampler, dict(args.set))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        write_scan(
            path, [image], np.random.default_rng(args.seed), coils=args.coils,
            acceleration=args.acceleration, centre=16, noise=args.noise, patient="",
        )  # fmt: skip
        with MriRecon(MriOptions()).open(path) as scan:
            problem = scan.problem(0, prior, device)
            steps = solve([problem], sampler, seed=(args.seed, 0), n=args.samples, devices=[device])
            return last(steps)


if __name__ == "__main__":
    main()
