"""Does ``tiltkit check`` estimate the time of a run within a factor of 1.5, cheaply?

Each scan is checked, and then run, in a fresh process that has torch imported. Printed, in seconds
and as ratios:

    run        time of the whole run, result file included
    estimate   estimated over measured time of the run
    check      time of the check over that of the run
    own        the same without opening and preparing the scan, which a run does as well

    OMP_NUM_THREADS=1 python benchmarks/check.py
    OMP_NUM_THREADS=1 python benchmarks/check.py --cpu-time    # on a busy machine
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import tifffile

from tiltkit.config import Recipe
from tiltkit.plugins import load_plugins
from tiltkit.recon.check import check_scan
from tiltkit.recon.recipe import resolve
from tiltkit.recon.scan import run_scan

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """A run whose cost is estimated.

    Attributes:
        scan: Name of the scan in `make_scans`.
        settings: Settings of the run.
    """

    scan: str
    settings: Mapping[str, Any]

    def recipe(self) -> Recipe:
        """The settings, complete."""
        return resolve({"slices": "0", **self.settings}, load_plugins())


GAUSSIAN = {"name": "gaussian"}
CASES = {
    "CT, gaussian, 8 samples": Case(
        "ct.h5", {"task": {"name": "ct-recon"}, "prior": GAUSSIAN, "samples": 8}
    ),
    "MRI, mri.brain, 4 samples, draft": Case(
        "mri.h5", {"task": {"name": "mri-recon"}, "samples": 4, "quality": "draft"}
    ),
    "MRI, gaussian, 16 samples": Case(
        "mri.h5", {"task": {"name": "mri-recon"}, "prior": GAUSSIAN, "samples": 16}
    ),
    "deblurring, 8 samples, draft": Case(
        "blurred.tif",
        {"task": {"name": "deblur", "psf": "psf.tif"}, "samples": 8, "quality": "draft"},
    ),
}


def module(path: str) -> ModuleType:
    """A file of the project as a module."""
    name = path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # dataclasses look their module up
    spec.loader.exec_module(found)
    return found


def make_scans(folder: Path) -> None:
    """Write the scans of all cases: real anatomy, and the simulations of the plugins' tests."""
    mri = module("datasets/make_scan.py")
    rng = np.random.default_rng(0)
    mri.write_scan(
        folder / "mri.h5", list(mri.head([3], rng)), rng,
        coils=8, acceleration=4.0, centre=24, noise=0.02, patient="colin27",
    )  # fmt: skip
    ct = module("plugins/tiltkit-ct/tests/conftest.py")
    seen = ct.simulate()
    ct.write(
        folder / "ct.h5", {"exchange/theta": {"units": "deg"}},
        exchange__data=seen.counts.astype(np.float32),
        exchange__data_white=seen.flats.astype(np.float32),
        exchange__data_dark=seen.darks.astype(np.float32),
        exchange__theta=np.degrees(seen.angles),
    )  # fmt: skip
    scene = module("plugins/tiltkit-deblur/tests/conftest.py").simulate((256, 256))
    tifffile.imwrite(folder / "blurred.tif", scene.readings)
    tifffile.imwrite(folder / "psf.tif", scene.psf)


def measure(work: str, name: str, folder: Path, clock: str) -> tuple[float, Mapping[str, Any]]:
    """Seconds of a check or of a run, and what a check found."""
    case, plugins = CASES[name], load_plugins()
    settings = dict(case.settings)
    task = {k: str(folder / v) if k == "psf" else v for k, v in settings["task"].items()}
    recipe, source = Case(case.scan, settings | {"task": task}).recipe(), folder / case.scan
    found: Mapping[str, Any] = {}
    with patch("time.perf_counter", getattr(time, clock)):
        start = time.perf_counter()
        if work == "check":
            found = check_scan(recipe, plugins, source)
        else:
            output = folder / f"{source.stem}.posterior.h5"
            for _ in run_scan(
                recipe, plugins, source, output, resume=False, overwrite=True, command=""
            ):
                pass
        return time.perf_counter() - start, found


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu-time", action="store_true", help="time of the processor, not wall")
    parser.add_argument("--only", help="cases whose name has this text")
    args = parser.parse_args()
    clock = "process_time" if args.cpu_time else "perf_counter"
    fork = multiprocessing.get_context("fork")
    print(f"{'':34}{'run':>9}{'estimate':>10}{'check':>8}{'own':>8}")
    with tempfile.TemporaryDirectory() as name, fork.Pool(1, maxtasksperchild=1) as pool:
        folder = Path(name)
        make_scans(folder)
        for case in CASES:
            if args.only and args.only not in case:
                continue
            cost, found = pool.apply(measure, ("check", case, folder, clock))
            run, _ = pool.apply(measure, ("run", case, folder, clock))
            estimate = found["estimated_seconds"] / run
            own = found["estimate_took_seconds"] / run
            print(f"{case:34}{run:7.1f} s{estimate:10.2f}{cost / run:8.1%}{own:8.1%}", flush=True)


if __name__ == "__main__":
    main()
