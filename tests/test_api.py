"""The Python door: the same runs as the command line's, without leaving a trace in the caller."""

from __future__ import annotations

import ast
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import tiltkit
from tiltkit.config import Recipe
from tiltkit.io.disk import check_free
from tiltkit.io.reading import read_recipe
from tiltkit.plugins import load_plugins
from tiltkit.recon.scan import LevelDone, ScanDone, SliceDone, run_scan

from .cli.conftest import write_scan

# A run of about a second: a closed-form prior and a short ladder.
FAST: dict[str, Any] = {
    "prior": "gaussian",
    "samples": 3,
    "sampler": {"name": "twisted", "levels": 4, "collect": 1},
}


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan of two slices, alone in its folder."""
    folder = tmp_path / "input"
    folder.mkdir()
    return write_scan(folder / "scan.h5", 2)


def events_of(scan: Path, output: Path, **changes: Any):
    recipe = Recipe(task="mri-recon", **FAST | changes)
    return run_scan(
        recipe, load_plugins(), scan, output, resume=False, overwrite=False, command="test"
    )


class TestImport:
    def test_it_is_cheap(self) -> None:
        script = (
            "import sys, tiltkit;"
            "heavy = {'torch', 'numpy', 'h5py', 'pydantic', 'click'} & sys.modules.keys();"
            "sys.exit(', '.join(heavy) or 0)"
        )
        subprocess.run([sys.executable, "-c", script], check=True)

    def test_public_names_show_and_are_there(self) -> None:
        assert set(tiltkit.__all__) <= set(dir(tiltkit))
        for name in tiltkit.__all__:
            assert getattr(tiltkit, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'reconstuct'"):
            tiltkit.reconstuct  # noqa: B018

    def test_type_checkers_find_all_public_names(self) -> None:
        tree = ast.parse(Path(tiltkit.__file__).read_text())
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        imported = {
            (node.module, alias.name)
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert imported == {(module, name) for name, module in tiltkit._PUBLIC.items()}
        assert {name for _, name in imported} | {"__version__"} == set(tiltkit.__all__)


class TestEvents:
    def test_the_callers_own_training_works_between_levels(
        self, scan: Path, tmp_path: Path
    ) -> None:
        net = torch.nn.Linear(3, 3)
        seen = set()
        for event in events_of(scan, tmp_path / "out.h5"):
            seen.add(type(event))
            assert not torch.is_inference_mode_enabled()
            net(torch.ones(2, 3)).sum().backward()
        assert {LevelDone, SliceDone, ScanDone} <= seen

    def test_a_recipe_that_is_not_resolved_takes_its_quality(
        self, scan: Path, tmp_path: Path
    ) -> None:
        levels = {}
        for quality in ("draft", "high"):
            out = tmp_path / f"{quality}.h5"
            with closing(events_of(scan, out, quality=quality, sampler="twisted")) as events:
                levels[quality] = next(e for e in events if isinstance(e, LevelDone)).n_levels
            assert read_recipe(out.with_name(f"{out.name}.part"))["quality"] == quality
        assert levels["draft"] < levels["high"]

    @pytest.mark.parametrize("leave", ["break", "error", "close"])
    def test_leaving_a_loop_early_unlocks_what_it_wrote(
        self, scan: Path, tmp_path: Path, leave: str
    ) -> None:
        def one_slice(events: Any) -> None:
            for event in events:
                if isinstance(event, SliceDone):
                    if leave == "error":
                        raise RuntimeError
                    break

        part = tmp_path / "out.h5.part"
        if leave == "close":
            with closing(events_of(scan, tmp_path / "out.h5")) as events:
                one_slice(events)
                with pytest.raises(BlockingIOError):
                    check_free(part)
        elif leave == "error":
            with pytest.raises(RuntimeError):
                one_slice(events_of(scan, tmp_path / "out.h5"))
        else:
            one_slice(events_of(scan, tmp_path / "out.h5"))
        check_free(part)
