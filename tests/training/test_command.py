"""The command: from a recipe file to a prior, interrupted and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tiltkit.cli import main
from tiltkit.config import read_toml
from tiltkit.training.recipe import TABLES, resolve

ROOT = Path(__file__).parents[2]

RECIPE = """
output = "prior.safetensors"
device = "cpu"
[data]
paths = ["heads"]
[network]
widths = [8, 16]
blocks = [1, 1]
[training]
steps = 6
checks = 2
crop = 16
batch = 4
workers = 1
precision = "float32"
"""


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images and a recipe, which commands run in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["train", "recipe.toml", *arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_a_recipe_becomes_a_prior(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("-o", "mine.safetensors", "-s", "training.steps=4") == 0
    printed = capsys.readouterr()
    assert "mine.safetensors: 4 steps" in printed.out
    assert "held out: " in printed.err
    assert "step 4: 0.02: " in printed.err
    assert {p.name for p in here.iterdir()} >= {"mine.safetensors", "mine.md", "mine.html"}


def test_one_line_for_machines(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["steps"], len(found["psnr"])) == (6, len(found["levels"]))


def test_a_budget_given_takes_the_place_of_the_recipe_s(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--check", "-s", "training.minutes=2") == 0
    assert "2 minutes" in capsys.readouterr().out
    assert call("--check", "-s", "training.minutes=2", "-s", "training.steps=5") == 0
    assert "5 steps" in capsys.readouterr().out


def test_a_check_trains_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--check") == 0
    assert "4 crops of 16 pixels" in capsys.readouterr().out
    assert {p.name for p in here.iterdir()} == {"heads", "recipe.toml"}


def test_wrong_settings_exit_with_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("-s", "training.stepz=4") == 2
    assert "did you mean 'steps'" in capsys.readouterr().err
    assert call("-s", "data.paths=['nowhere']") == 4


def test_ctrl_c_leaves_what_resume_needs(here: Path) -> None:
    command = [sys.executable, "-m", "tiltkit", "train", "recipe.toml", "-s"]
    long = [*command, "training.steps=1000000", "-s", "training.checks=100000"]
    with subprocess.Popen(long, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " step " in line:
                break
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "--resume" in rest
    assert (here / "prior.safetensors.part").exists()
    assert not (here / "prior.safetensors").exists()


@pytest.mark.parametrize("name", ["train_prior", "train_kspace"])
def test_the_examples_are_recipes(name: str) -> None:
    recipe = resolve(read_toml(ROOT / "examples" / f"{name}.toml"))
    assert (recipe.channels, recipe.data.augment) == (2, "mri")


def test_the_guide_names_every_setting() -> None:
    guide = (ROOT / "docs" / "training.md").read_text()
    for model in TABLES.values():
        for name in model.model_fields:
            assert f"`{name}`" in guide, name
    block = guide.partition("```toml\n")[2].partition("```")[0]
    assert resolve(tomllib.loads(block)).data.held_out == 0.15
