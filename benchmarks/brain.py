"""A brain, 8 coils, 4x undersampled: posterior mean and intervals against the full scan.

    python benchmarks/brain.py ../shared/data [--samples 16] [--set levels=96] [--pictures OUT.png]
    python benchmarks/brain.py ../shared/data --samples 8 --quality draft --seeds 20
    python benchmarks/brain.py --colin27

The folder holds ``brain_8ch_4x.h5`` (45 of 180 k-space columns) and ``brain_8ch_raw.h5`` (the same
scan, all columns). The reference is the magnitude of the fully sampled coil-combined image, in
file units: the full k-space, its coils whitened as the undersampled scan's were, combined with the
maps that the undersampled scan gave (``sum conj(S) image``). It carries the noise of the scan, so
no method can reach it exactly; nothing is rescaled to fit it. The peak is its maximum. BART's
l1-wavelet and total variation reconstructions are beside it where ``bart`` is installed, with the
same whitened data and maps, their strengths chosen with the reference. With --colin27 the scan is
one of datasets/make_scan.py, and the reference is the true image.

With --seeds several runs are made, and for each the PSNR of its samples is printed. A sample whose
error is more than twice the median over all samples has run away.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bart
import numpy as np
import torch
from against_truth import coverage, last, pictures, setting
from exact import make_sampler
from numpy.typing import NDArray
from skimage import metrics
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.fourier import ifft
from tiltkit_mri.prepare import Prepared
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.plugins import load_plugins
from tiltkit.posterior.outcome import Outcome
from tiltkit.problem import Problem
from tiltkit.recon.recipe import DEFAULT_SAMPLER
from tiltkit.recon.solve import solve
from tiltkit.sampling.state import Sampler

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
import make_scan

Image = NDArray[np.float64]

# Same scan, published elsewhere, tuned against the truth. Their reference was combined with maps of
# their own, probably of unwhitened coils: theirs and ours differ by a few tenths of a dB for that
# alone. Run with --noise-level 0.00121 as well before saying which is better.
ELSEWHERE = (
    ("BART zero-filled", 26.43, 0.668),
    ("BART CG-SENSE, tuned", 31.40, 0.862),
    ("BART TV, tuned", 32.87, 0.930),
    ("BART l1-wavelet, tuned", 33.34, 0.918),
    ("SigPy L1WaveletRecon, tuned", 31.59, 0.820),
    ("SigPy TV, tuned", 31.59, 0.884),
)


def main() -> None:
    """Run and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    host = load_plugins()
    prior = host.create("prior", MriRecon.default_prior, {"precision": args.precision})
    device = torch.device(args.device)
    start = time.perf_counter()
    with (
        scan_files(args) as (measured, complete),
        MriRecon(MriOptions(noise_level=args.noise_level)).open(measured) as scan,
    ):
        prepared = scan.prepare(0)
        problem = scan.problem(0, prior.to(device), device)
        for label, value in scan.describe().items():
            print(f"  {label}: {value}")
        preparation = time.perf_counter() - start
        reference, truth = true_image(complete) if args.colin27 else full_scan(complete, prepared)
    sampler = make_sampler(args)
    if args.seeds > 1:
        several(problem, sampler, reference, args)
        return
    outcome = last(solve([problem], sampler, seed=(args.seed, 0), n=args.samples, devices=[device]))
    print(f"\n{'':44}PSNR dB   SSIM  NRMSE  seconds")
    row("zero-filled", problem.baseline.cpu().numpy(), reference)
    damping, sense = best_sense(problem, reference)
    row(f"CG-SENSE, best damping in hindsight ({damping:.2g})", sense, reference)
    for penalty in bart.PENALTIES:
        best_penalised(penalty, prepared, reference)
    seconds = float(outcome.diagnostics["seconds"])
    row("posterior mean", outcome.mean, reference, seconds)
    if not args.colin27:
        print("published elsewhere, same scan, reference with other maps (see ELSEWHERE):")
        for name, decibel, ssim in ELSEWHERE:
            print(f"  {name:42}{decibel:7.2f}  {ssim:5.3f}")
    certificate(outcome, reference, problem, truth)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{preparation:.1f} s preparation, {seconds:.0f} s sampling, {peak:.0f} MB at the peak")
    if args.pictures:
        top = float(reference.max()) * 0.8
        names = ("reference", "zero-filled")
        pictures(args.pictures, outcome, reference, top, names=names, height=12.5)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="not with --colin27")
    parser.add_argument("--colin27", action="store_true", help="a simulated scan of this head")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--sampler", default=DEFAULT_SAMPLER)
    parser.add_argument("--quality", default="standard")
    parser.add_argument("--seeds", type=int, default=1, help="runs, for the spread of samples")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--noise-level", type=float, help="leave coils and reference unwhitened")
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    if (args.folder is None) != args.colin27:
        parser.error("give either FOLDER or --colin27")
    return args


@contextmanager
def scan_files(args: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """The undersampled scan, and the file of the reference."""
    if not args.colin27:
        yield args.folder / "brain_8ch_4x.h5", args.folder / "brain_8ch_raw.h5"
        return
    rng = np.random.default_rng(0)
    # BART has another centre for odd sizes.
    (image,) = (head[:-1, :-1] for head in make_scan.head([3], rng))
    with TemporaryDirectory() as folder:
        scan, truth = Path(folder, "scan.h5"), Path(folder, "truth.npy")
        make_scan.write_scan(
            scan, [image], rng, coils=8, acceleration=4.0, centre=24, noise=0.02, patient="colin27"
        )
        np.save(truth, np.abs(image) * make_scan.UNIT)
        yield scan, truth


def true_image(path: Path) -> tuple[Image, None]:
    """Magnitude of the true image; its phase is not in the file."""
    return np.load(path), None


def full_scan(path: Path, prepared: Prepared) -> tuple[Image, torch.Tensor]:
    """Magnitude of the fully sampled coil-combined image, and the image as (1, 2, ny, nx)."""
    with FastMri.open(path) as scan:
        kspace = prepared.whitening.apply(torch.from_numpy(scan.read(0)))
    image = (prepared.sensitivities.maps.conj() * ifft(kspace)).sum(0)
    reference = (image.abs() * shading(prepared)).double().numpy()
    return reference, torch.stack([image.real, image.imag])[None]


def shading(prepared: Prepared) -> torch.Tensor:
    """Factor from the image of the mixed coils to that of the coils of the file."""
    return prepared.file_maps().abs().square().sum(0).sqrt()


def best_sense(problem: Problem, reference: Image) -> tuple[float, Image]:
    """Damped least squares through the same operator, the damping chosen with the reference."""
    operator = problem.likelihood.operator  # type: ignore[attr-defined]
    back = operator.adjoint(problem.likelihood.y)  # type: ignore[attr-defined]
    images = {
        float(damping): problem.to_image(operator.solve(float(damping), 1.0, back))[0].cpu().numpy()
        for damping in np.geomspace(1e-4, 1, 33)
    }
    best = max(images, key=lambda damping: psnr(images[damping], reference))
    return best, images[best]


def best_penalised(penalty: str, prepared: Prepared, reference: Image) -> None:
    """Print a reconstruction of BART, its strength chosen with the reference."""
    if not bart.installed():
        print(f"{'BART ' + penalty:44}not installed (Debian package bart)")
        return
    maps = prepared.sensitivities.maps.cpu().numpy()
    kspace = np.zeros_like(maps)
    kspace[..., prepared.mask[0].cpu().numpy()] = prepared.y.cpu().numpy()
    strengths = np.geomspace(1e-4, 0.1, 13)
    start = time.perf_counter()
    images = {
        float(strength): np.abs(bart.penalised(penalty, kspace, maps, float(strength)))
        * shading(prepared).numpy()
        for strength in strengths
    }
    seconds = (time.perf_counter() - start) / len(strengths)
    best = max(images, key=lambda strength: psnr(images[strength], reference))
    row(f"BART {penalty}, best strength ({best:.2g})", images[best], reference, seconds)


def several(
    problem: Problem, sampler: Sampler, reference: Image, args: argparse.Namespace
) -> None:  # fmt: skip
    """Print the samples of several runs, and how many of them ran away."""
    errors = []
    print(f"\n{'seed':>6}  mean dB   samples dB, worst to best")
    for seed in range(args.seed, args.seed + args.seeds):
        steps = solve([problem], sampler, seed=(seed, 0), n=args.samples,
                      devices=[torch.device(args.device)])  # fmt: skip
        outcome = last(steps)
        found = sorted(psnr(image, reference) for image in outcome.samples)
        errors += [10 ** (-value / 20) for value in found]
        codes = " ".join(one.code for one in outcome.diagnostics["warnings"])
        print(f"{seed:6}  {psnr(outcome.mean, reference):7.2f}  ",
              " ".join(f"{value:5.1f}" for value in found), f" {codes}", flush=True)  # fmt: skip
    runaways = int(np.sum(np.array(errors) > 2 * np.median(errors)))
    worst = -20 * np.log10(max(errors))
    print(f"{runaways} of {len(errors)} samples ran away; the worst has {worst:.2f} dB")


def psnr(image: Any, reference: Image) -> float:
    """In dB, the peak is the largest value of the reference."""
    error = np.mean(np.square(np.float64(image) - reference))
    return float(20 * np.log10(reference.max()) - 10 * np.log10(error))


def row(label: str, image: Any, reference: Image, seconds: float | None = None) -> None:
    """One line of the table."""
    image = np.float64(image)
    ssim: Any = metrics.structural_similarity  # it has no types
    value = ssim(reference, image, data_range=reference.max())
    nrmse = np.linalg.norm(image - reference) / np.linalg.norm(reference)
    took = "" if seconds is None else f"  {seconds:7.1f}"
    print(f"{label:44}{psnr(image, reference):7.2f}  {value:5.3f}  {nrmse:5.3f}{took}")


def certificate(
    outcome: Outcome, reference: Image, problem: Problem, truth: torch.Tensor | None
) -> None:
    """Coverage inside the head, and how well samples and reference fit the data."""
    head = reference > 0.1 * np.percentile(reference, 99)
    plain = coverage(outcome.quantiles[0.05], outcome.quantiles[0.95], reference, head)
    # The reference is the image plus the scan's noise; intervals are for the image alone.
    noise = problem.facts["data_noise_level"]
    rng = np.random.default_rng(0)
    noisy = outcome.samples + noise * rng.normal(size=(8, *outcome.samples.shape))
    low, high = np.quantile(noisy.reshape(-1, *reference.shape), (0.05, 0.95), axis=0)
    error = np.sqrt(np.mean((outcome.mean - reference)[head] ** 2))
    spread = np.sqrt(np.mean(outcome.std[head].astype(float) ** 2))
    d = outcome.diagnostics
    print(f"90 % interval inside the head: covers {plain:.3f} of the reference,")
    if truth is not None:
        print(f"  {coverage(low, high, reference, head):.3f} with the reference's own noise added")
    print(f"error {error:.3g}, spread {spread:.3g}, noise of the reference {noise:.3g}")
    print(f"chi2 of samples {d['chi2']:.3f} (expected {d['chi2_expected']:.3f})")
    if truth is not None:
        truth = (truth / problem.facts["scale"]).to(problem.baseline.device)
        print(f"chi2 of the reference {float(problem.likelihood.chi2(truth)):.3f}"
              f" (below 1: it contains the measured noise)")  # fmt: skip
    print("warnings:", "; ".join(map(str, d["warnings"])) or "none")


if __name__ == "__main__":
    main()
