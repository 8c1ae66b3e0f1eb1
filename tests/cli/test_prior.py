"""``tiltkit prior``: check, convert, fetch and fit from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

Tilt = Callable[..., Any]

QUICK = ("--levels", "0.1,0.4", "--count", "1", "--samples", "1", "--size", "32", "--device", "cpu")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Bright discs on dark ground, as bytes."""
    y, x = np.mgrid[:48, :40]
    discs = [100 * ((y - 20 - k) ** 2 + (x - 18) ** 2 < 150) + 5 * k for k in range(3)]
    np.savez(tmp_path / "discs.npz", image=np.stack(discs).astype(np.uint8))
    return tmp_path / "discs.npz"


@pytest.mark.parametrize(
    ("name", "option"),
    [("gaussian", "amplitude=0.3"), ("tv", "iterations=20"), ("wavelet", "levels=2")],
)
def test_without_images_a_prior_is_checked_on_its_own_samples(
    tilt: Tilt, name: str, option: str
) -> None:
    done = tilt("prior", "check", name, *QUICK, "-s", option, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["prior"] == name
    assert [level["sigma"] for level in found["levels"]] == [0.1, 0.4]
    judged = {f["about"]: f["judgement"] for f in found["findings"]}
    assert (judged["symmetry"], judged["consistency"]) == ("good", "good") or name != "gaussian"
    assert found["verdict"]


def test_a_check_on_images_prints_figures_and_words_and_writes_a_page(
    tilt: Tilt, images: Path, tmp_path: Path
) -> None:
    page = tmp_path / "tv.html"
    done = tilt(
        "prior", "check", "tv", "--images", images, *QUICK, "-s", "strength=0.8", "-o", page
    )
    assert done.code == 0, done.err
    for part in ("noise range", "strength=0.8", "1 of 3 images of discs.npz, divided by",
                 "asymmetry", "denoising:", "calibration:", f"Wrote {page}."):  # fmt: skip
        assert part in done.out
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "{{" not in text


def test_a_picture_alone_is_a_png(tilt: Tilt, tmp_path: Path) -> None:
    picture = tmp_path / "gaussian.png"
    assert tilt("prior", "check", "gaussian", *QUICK, "-o", picture).code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(("gausian",), "did you mean 'gaussian'?"), (("tv", "-s", "strenght=1"), "'prior.strenght'"),
     (("tv", "--levels", "a"), "not positive numbers"), (("tv", "--levels", "99"), "level 99"),
     (("tv", "--scale", "-1"), "not a positive number"), (("tv", "--scale", "inf"), "positive"),
     (("tv", "--seed", "-1"), "--seed"), (("tv", "-o", "x.pdf"), "neither .png"),
     (("tv", "--images", "nowhere.npz"), "no file nowhere.npz")],
)  # fmt: skip
def test_wrong_options_are_reported_before_any_work(
    tilt: Tilt, arguments: tuple[str, ...], what: str
) -> None:
    done = tilt("prior", "check", *arguments)
    assert done.code in (2, 4)
    assert what in done.err


def test_a_checkpoint_becomes_the_weights_of_a_prior(tilt: Tilt, tmp_path: Path) -> None:
    models = pytest.importorskip("deepinv.models")
    with torch.random.fork_rng():
        net = models.DRUNet(in_channels=1, out_channels=1, nc=(4, 4, 4, 4), nb=1, pretrained=None)
    old, new = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save({"state_dict": net.state_dict(), "epoch": 1}, old)
    done = tilt("prior", "convert", old, "-o", new, "--note", "licence=MIT")
    assert done.code == 0, done.err
    assert "from 'state_dict'" in done.out
    assert tilt("prior", "convert", old, "-o", new).code == 2, "it is there already"
    done = tilt(
        "prior", "check", "deepinv", *QUICK, "-s", "denoiser=DRUNet", "-s", f"weights={new}", "-s",
        "arguments={in_channels=1, out_channels=1, nc=[4, 4, 4, 4], nb=1}",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "sha256 of new.safetensors" in done.out
    assert "MIT" in done.out


def test_a_prior_with_shipped_weights_has_nothing_to_fetch(tilt: Tilt) -> None:
    done = tilt("prior", "fetch", "tv")
    assert done.code == 2
    assert "nothing to fetch" in done.err


def test_a_patch_mixture_is_fitted_and_used(tilt: Tilt, images: Path, tmp_path: Path) -> None:
    new = tmp_path / "patches.safetensors"
    done = tilt("prior", "fit-patches", images, "-o", new, "--components", "4", "--patches", "600",
                "--steps", "3", "--side", "4")  # fmt: skip
    assert done.code == 0, done.err
    assert "3 of 3 images of discs.npz" in done.out
    assert new.stat().st_mode & 0o777 == images.stat().st_mode & 0o777
    done = tilt("prior", "check", "patches", "--images", images, *QUICK, "-s", f"file={new}")
    assert done.code == 0, done.err
    assert "fitted to" in done.out


@pytest.mark.parametrize("command", [
    ("check", "tv", "--images", "in.png", "-o", "in.png", *QUICK),
    ("convert", "in.png", "-o", "in.png"),
    ("fit-patches", "in.png", "-o", "in.png"),
])  # fmt: skip
def test_an_input_is_never_replaced(
    tilt: Tilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.png").write_text("precious")
    done = tilt("prior", *command, "--overwrite")
    assert (done.code, "is the input itself" in done.err) == (2, True), done.err
    assert Path("in.png").read_text() == "precious"


def test_an_existing_page_is_replaced_with_overwrite_only(tilt: Tilt, tmp_path: Path) -> None:
    page = tmp_path / "gaussian.html"
    page.write_text("precious")
    command = ("prior", "check", "gaussian", *QUICK, "-o", page)
    assert tilt(*command).code == 2
    assert page.read_text() == "precious"
    assert tilt(*command, "--overwrite").code == 0
    assert page.read_text() != "precious"
