"""Draw docs/images/demo.png from the scan that 'make demo' leaves.

From left to right: zero-filled reconstruction, posterior mean, posterior standard deviation, truth.
The standard deviation is shown 16 times brighter than the images.

    make demo
    tiltkit run mri-recon demo/scan.h5 -o demo/picture.h5
    python docs/images/make_demo.py demo/picture.h5 demo/truth.h5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

GAIN = 16  # of the standard deviation
GAP = 4  # pixels between the images


def main() -> None:
    """Read, scale and write."""
    parser = argparse.ArgumentParser(description="Picture of the demo.")
    parser.add_argument("result", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("demo.png"))
    given = parser.parse_args()
    with h5py.File(given.result) as result, h5py.File(given.truth) as file:
        names = ("baseline/baseline", "data/data", "data/data_errors")
        zero_filled, mean, std = (result[f"entry/{name}"][0] for name in names)
        truth = file["truth"][0]
    white = np.quantile(truth, 0.995)
    panels = [zero_filled / white, mean / white, GAIN * std / white, truth / white]
    row = np.concatenate([np.pad(p, ((0, 0), (0, GAP)), constant_values=1) for p in panels], axis=1)
    grey = np.uint8(255 * row[:, :-GAP].clip(0, 1))
    Image.fromarray(grey).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
