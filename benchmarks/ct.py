"""A head, a phantom or foam from 60 projections: ours beside FBP, SIRT and MBIR.

    python benchmarks/ct.py FOLDER [--image head|shepp-logan|foam] [--photons 10000]
        [--samples 16] [--pictures OUT.png]

The folder holds ``693_UNCR.dcm``, a head that had no part in the prior's training, from
pydicom-data (``data_store/data``). Counts are Poisson, of exact projections of the image of
512x512 pixels; the truth is its mean over 2x2 pixels. They are written as a Data Exchange file
with 20 flats and read back by the task, and all methods get the line integrals that it makes. The
settings of the peers are those of anchors elsewhere: Hann window, 150 iterations, sharpness 0 and
1. PSNR and SSIM have the maximum of the truth as range.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from against_truth import coverage, last, pictures, setting
from numpy.typing import NDArray
from skimage import data, metrics, transform
from tiltkit_ct.parallel import ParallelBeam
from tiltkit_ct.task import CtOptions, CtRecon, CtScan

from tiltkit.plugins import load_plugins
from tiltkit.posterior.outcome import Outcome
from tiltkit.posterior.verdict import stored_verdict, verdict_text
from tiltkit.recon.solve import solve

Image = NDArray[np.float64]

CPU = torch.device("cpu")
SIDE, ANGLES, FLATS = 256, 60, 20
WATER = 0.2  # 1/cm
PIXEL_MM = 0.957


def main() -> None:
    """Run and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    fine = picture(args)
    truth = fine.reshape(SIDE, 2, SIDE, 2).mean((1, 3))
    host = load_plugins()
    prior = host.create("prior", args.prior or CtRecon.default_prior, dict(args.prior_set))
    sampler = host.create("sampler", args.sampler, dict(args.set))
    with tempfile.TemporaryDirectory() as folder:
        scan_file = Path(folder) / "scan.h5"
        write_scan(scan_file, fine, args.photons, args.seed)
        options = CtOptions(axis="centre", likelihood=args.likelihood)
        with CtRecon(options).open(scan_file) as scan:
            for label, value in scan.describe().items():
                print(f"  {label}: {value}")
            print(f"\n{args.image:44}PSNR dB   SSIM   seconds")
            peers(scan, truth)
            problem = scan.problem(0, prior, CPU)
            outcome = last(
                solve([problem], sampler, seed=(args.seed, 0), n=args.samples, devices=[CPU])
            )
    row("posterior mean", outcome.mean, truth, outcome.diagnostics["seconds"])
    certificate(outcome, truth)
    if args.pictures:
        top = float(np.percentile(truth, 99.5))
        pictures(args.pictures, outcome, truth, top, names=("truth", "FBP"), height=10)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--image", choices=["head", "shepp-logan", "foam"],
                        default="head")  # fmt: skip
    parser.add_argument("--photons", type=float, default=1e4, help="of a pixel without sample")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prior")
    parser.add_argument("--prior-set", type=setting, action="append", default=[])
    parser.add_argument("--sampler", default="moments")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--likelihood", choices=["gaussian", "poisson"], default="gaussian")
    parser.add_argument("--pictures", type=Path)
    return parser.parse_args()


def picture(args: argparse.Namespace) -> Image:
    """Attenuation in 1/cm, on pixels half as wide as those of the detector."""
    if args.image == "head":
        return head(args.folder / "693_UNCR.dcm")
    return phantom() if args.image == "shepp-logan" else foam(args.seed)


def head(path: Path) -> Image:
    """Attenuation in 1/cm of a slice in Hounsfield units."""
    import pydicom
    from pydicom.pixels import apply_modality_lut

    file = pydicom.dcmread(path)
    hounsfield = apply_modality_lut(file.pixel_array, file).astype(np.float64)
    return np.clip((hounsfield + 1000) / 1000, 0, None) * WATER


def phantom() -> Image:
    """Shepp and Logan's phantom, as dense as water where it is 0.3."""
    image: Image = transform.resize(data.shepp_logan_phantom(), (2 * SIDE, 2 * SIDE))
    return image * (WATER / 0.3)


def foam(seed: int) -> Image:
    """A disk of water with 300 round holes that do not overlap, from small to large."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: 2 * SIDE, : 2 * SIDE] - SIDE + 0.5
    image = np.where(np.hypot(x, y) < 0.9 * SIDE, WATER, 0.0)
    holes: list[tuple[float, float, float]] = []
    while len(holes) < 300:
        radius = 0.9 * SIDE * float(rng.choice([0.03, 0.06, 0.1], p=[0.6, 0.3, 0.1]))
        across, angle = 0.87 * SIDE * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        a, b = across * math.cos(angle), across * math.sin(angle)
        if across + radius < 0.88 * SIDE and all(
            math.hypot(a - c, b - d) > radius + r + 1 for c, d, r in holes
        ):
            holes.append((a, b, radius))
            image[np.hypot(x - a, y - b) < radius] = 0.0
    return image


def write_scan(path: Path, fine: Image, photons: float, seed: int) -> None:
    """Counts, flats and darks as a beamline writes them."""
    angles = np.arange(ANGLES) * 180 / ANGLES
    pixel = PIXEL_MM / 10
    operator = ParallelBeam(
        torch.from_numpy(np.deg2rad(angles)), fine.shape, SIDE, pixel=pixel / 2, pitch=pixel
    )
    lines = operator.forward(torch.from_numpy(fine)[None, None])[0].numpy()
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        counts = rng.poisson(photons * np.exp(-lines)).astype(np.uint16)
        file["exchange/data"] = counts[:, None]
        file["exchange/data_white"] = rng.poisson(photons, (FLATS, 1, SIDE)).astype(np.uint16)
        file["exchange/data_dark"] = np.zeros((2, 1, SIDE), np.uint16)
        file["exchange/theta"] = angles
        file["exchange/theta"].attrs["units"] = "degrees"
        resolution = "measurement/instrument/detection_system/objective/resolution"
        file[resolution] = [PIXEL_MM * 1000]
        file[resolution].attrs["units"] = "microns"


def peers(scan: CtScan, truth: Image) -> None:
    """The classical methods, and what is installed of the iterative ones."""
    sinogram = scan.prepare(0)
    y, angles = np.float64(sinogram.line_integrals), sinogram.angles
    methods: dict[str, Callable[[Any, Any], Any]] = {"FBP, Hann (scikit-image)": fbp}
    for name, method, module in (
        ("SIRT, 150 iterations (ASTRA)", sirt, "astra"),
        ("MBIR, sharpness 0 (svmbir)", lambda *a: mbir(*a, 0.0), "svmbir"),
        ("MBIR, sharpness 1 (svmbir)", lambda *a: mbir(*a, 1.0), "svmbir"),
    ):
        try:
            __import__(module)
        except ImportError:
            print(f"{name:44}not installed: pip install {module}")
        else:
            methods[name] = method
    for name, method in methods.items():
        start = time.perf_counter()
        image = method(y, angles)
        row(name, image / (PIXEL_MM / 10), truth, time.perf_counter() - start)


def fbp(y: Image, angles: Image) -> Image:
    """Filtered back-projection; scikit-image turns the other way."""
    image: Image = transform.iradon(
        y.T, theta=-np.rad2deg(angles), output_size=SIDE, filter_name="hann"
    )
    return image


def sirt(y: Image, angles: Image) -> Image:
    """Simultaneous iterative reconstruction, values kept nonnegative."""
    import astra

    volume = astra.create_vol_geom(SIDE, SIDE)
    beam = astra.create_proj_geom("parallel", 1.0, y.shape[1], -angles)
    projector = astra.create_projector("strip", beam, volume)
    measured = astra.data2d.create("-sino", beam, y)
    image = astra.data2d.create("-vol", volume, 0)
    config = astra.astra_dict("SIRT") | {
        "ProjectorId": projector,
        "ProjectionDataId": measured,
        "ReconstructionDataId": image,
        "option": {"MinConstraint": 0},
    }
    algorithm = astra.algorithm.create(config)
    astra.algorithm.run(algorithm, 150)
    result: Image = astra.data2d.get(image)
    astra.algorithm.delete(algorithm)
    astra.data2d.delete([measured, image])
    astra.projector.delete(projector)
    return result


def mbir(y: Image, angles: Image, sharpness: float) -> Image:
    """Model-based reconstruction with transmission weights; svmbir turns by a quarter."""
    import svmbir

    volume = svmbir.recon(
        y[:, None], angles, weight_type="transmission", sharpness=sharpness, num_rows=SIDE,
        num_cols=SIDE, verbose=0, num_threads=1,
    )  # fmt: skip
    return np.rot90(volume[0])


def row(label: str, image: Any, truth: Image, seconds: float) -> None:
    """One line of the table."""
    ssim: Any = metrics.structural_similarity  # it has no types
    psnr: Any = metrics.peak_signal_noise_ratio
    image, top = np.float64(image), truth.max()
    figures = psnr(truth, image, data_range=top), ssim(truth, image, data_range=top)
    print(f"{label:44}{figures[0]:7.2f}  {figures[1]:5.3f}  {seconds:7.1f}")


def certificate(outcome: Outcome, truth: Image) -> None:
    """Coverage, everywhere and in the sample, and how well samples fit the data."""
    sample = truth > 0.1 * np.percentile(truth, 99)
    low, high = outcome.quantiles[0.05], outcome.quantiles[0.95]
    everywhere = np.ones_like(sample)
    error = np.sqrt(np.mean((outcome.mean - truth)[sample] ** 2))
    spread = np.sqrt(np.mean(outcome.std[sample].astype(float) ** 2))
    print(f"90 % intervals cover {coverage(low, high, truth, sample):.3f} in the sample,"
          f" {coverage(low, high, truth, everywhere):.3f} everywhere")  # fmt: skip
    print(f"error {error:.3g}, spread {spread:.3g}, ratio {error / spread:.2f} (in the sample)")
    d = outcome.diagnostics
    print(f"chi2 of samples {d['chi2']:.3f} (expected {d['chi2_expected']:.3f})")
    print(
        f"network calls {d['network_calls']:.0f}; {verdict_text(stored_verdict(d), d['warnings'])}"
    )


if __name__ == "__main__":
    main()
