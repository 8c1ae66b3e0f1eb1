"""The examples of CONTRIBUTING.md, as a plugin that is installed and used."""

from __future__ import annotations

import importlib
import json
import re
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tiltkit.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (tiltkit_mylab/\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
KINDS = ("task", "operator", "prior", "sampler", "reader", "writer", "metric", "command")
NOISE, MEAN, SPREAD = 0.1, 0.5, 0.3

Tilt = Callable[..., str]


def code_lines(code: str) -> int:
    """Lines without blank ones and imports."""
    lines = [line.strip() for line in code.splitlines()]
    return sum(bool(line) and not line.startswith(("import ", "from ")) for line in lines)


@pytest.fixture
def tilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Tilt]:
    """The command line, with the plugin of the page installed; gives what it prints."""
    site = tmp_path / "site"
    (site / "tiltkit_mylab").mkdir(parents=True)
    for name, code in BLOCKS.items():
        (site / name).write_text(code)
    info = site / "tiltkit_mylab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiltkit-mylab\nVersion: 1.0\n")
    [points] = re.findall(r"```toml\n\[project\.entry-points\.tiltkit\]\n(.*?)```", PAGE, re.DOTALL)
    (info / "entry_points.txt").write_text("[tiltkit]\n" + points.replace('"', ""))
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv("TILTKIT_NO_PLUGINS", raising=False)
    importlib.invalidate_caches()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert stop.value.code == 0, printed.err
        return printed.out

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name in [name for name in sys.modules if name.startswith("tiltkit_mylab")]:
        del sys.modules[name]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Two noisy frames with dead pixels, and the truth."""
    rng = np.random.default_rng(3)
    truth = MEAN + SPREAD * rng.standard_normal((2, 12, 10))
    alive = (rng.random((12, 10)) > 0.3).astype(np.uint8)
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        file["frames"] = alive * (truth + NOISE * rng.standard_normal(truth.shape))
        file["alive"] = alive
        file["truth"] = truth
    return tmp_path / "frames.h5"


def test_the_page_has_a_short_example_of_every_kind() -> None:
    examples = {name: code for name, code in BLOCKS.items() if not name.endswith("plugin.py")}
    assert set(examples) == {f"tiltkit_mylab/{kind}.py" for kind in KINDS}
    assert max(map(code_lines, examples.values())) <= 32


def test_every_example_loads(tilt: Tilt) -> None:
    shown = tilt("plugins", "show", "tiltkit-mylab")
    assert all(kind in shown for kind in KINDS)
    assert "no problems found" in tilt("plugins", "doctor")


def test_the_examples_draw_from_the_posterior(tilt: Tilt, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    parts = ("--prior", "mylab.white", "--sampler", "mylab.langevin", "--write", "mylab.npy")
    tilt("run", "fill-in", frames, "-o", out, "--noise", NOISE, "--samples", 100, *parts)
    with h5py.File(frames) as file:
        y, alive = file["frames"][()], file["alive"][()]
    with h5py.File(out) as file:
        std = file["entry/data/std"][()]
    precision = SPREAD**-2 + alive * NOISE**-2
    exact = (MEAN * SPREAD**-2 + y * NOISE**-2) / precision
    written = np.load(out.with_suffix(".npy"))
    assert np.abs((written - exact) * np.sqrt(precision)).max() < 0.5
    ratio = std * np.sqrt(precision)
    for kind in (0, 1):
        assert 0.9 < ratio[:, alive == kind].mean() < 1.25
    metrics = json.loads(tilt("evaluate", out, "--truth", frames, "--dataset", "truth", "--json"))
    assert "mylab.worst" in json.dumps(metrics)


def test_the_command_counts_dead_pixels(tilt: Tilt, frames: Path) -> None:
    with h5py.File(frames) as file:
        dead = int((file["alive"][()] == 0).sum())
    assert tilt("dead-pixels", frames).strip() == str(dead)


def test_the_map_names_rooms_that_exist_and_forgets_none() -> None:
    rows = [line.split("|")[1:4] for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name: first for cell, _, first in rows for name in re.findall(r"`([^`]+)`", cell)}
    house = ROOT / "tiltkit"
    for name, first in named.items():
        assert (house / name).exists()
        if name.endswith("/"):
            assert all((house / name / file).exists() for file in re.findall(r"`([^`]+)`", first))
    rooms = {f"{path.name}/" for path in house.iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(named)


def test_the_map_is_in_the_order_of_the_layers() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = settings["tool"]["importlinter"]["contracts"][0]
    depth = {room: i for i, layer in enumerate(contract["layers"]) for room in layer.split(" | ")}
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`(\w+)[./]", cell)]
    order = [depth[name] for name in named]
    assert order == sorted(order)
    assert set(named) == set(depth)
