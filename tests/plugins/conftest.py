"""Small distributions in a folder: metadata and modules, as pip installs them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tiltkit.plugins import Plugin, Plugins

IMPORTS = "from tiltkit.hookspecs import Entry, PriorEntry, ReaderEntry, WriterEntry, hookimpl\n"

GOOD = """
@hookimpl
def tiltkit_tasks():
    return [Entry(name="good-task", target="good_target:Task", summary="works")]

@hookimpl
def tiltkit_metrics():
    return [Entry(name="good.metric", target="good_target:metric", summary="works")]
"""
GOOD_TARGET = """
from pydantic import BaseModel, ConfigDict

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 3

class Task:
    Options = Options
    default_prior = "gaussian"
    def __init__(self, options):
        self.options = options
    def open(self, path): ...

def metric(estimate, truth):
    return 1.0
"""

Install = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with packages, on ``sys.path``; modules imported from it are removed at the end."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("TILTKIT_NO_PLUGINS", raising=False)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Installs a distribution: its hook module, its entry points, its requirements."""

    def make(
        name: str,
        code: str = "",
        *,
        entry: str | None = None,
        requires: tuple[str, ...] = (),
        folder: Path = site,
        version: str = "1.0",
        **modules: str,
    ) -> str:
        module = name.replace("-", "_")
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        line = f"{module} = {module}" if entry is None else entry
        (info / "entry_points.txt").write_text(f"[tiltkit]\n{line}\n")
        (folder / f"{module}.py").write_text(IMPORTS + dedent(code))
        for other, text in modules.items():
            (folder / f"{other}.py").write_text(dedent(text))
        importlib.invalidate_caches()
        return name

    return make


@pytest.fixture
def good(install: Install) -> str:
    """A working plugin with a task and a metric."""
    return install("good", GOOD, good_target=GOOD_TARGET)


@pytest.fixture
def named() -> Callable[[Plugins, str], Plugin]:
    """The plugin of a distribution."""

    def find(plugins: Plugins, distribution: str) -> Plugin:
        [plugin] = [p for p in plugins.plugins if p.distribution == distribution]
        return plugin

    return find


@pytest.fixture
def task_plugin() -> Callable[..., str]:
    """Code of a hook module that adds one task."""

    def code(name: str, target: str = "good_target:Task", more: str = "") -> str:
        return (
            "@hookimpl\ndef tiltkit_tasks():\n"
            f"    return [Entry(name={name!r}, target={target!r}, summary='a task', {more})]\n"
        )

    return code
