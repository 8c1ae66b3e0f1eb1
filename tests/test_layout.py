"""The layout of the code: layers, public modules, no cycles, no slivers."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "tiltkit": ROOT / "tiltkit",
    **{
        f"tiltkit_{name}": ROOT / "plugins" / f"tiltkit-{name}" / f"tiltkit_{name}"
        for name in ("baselines", "ct", "deblur", "mri")
    },
}
# The Python door loads what it needs on first use: it stands above all rooms.
DOOR = {"tiltkit", "tiltkit.api"}
MOST_FILES_AT_THE_ROOT = 10
SHORTEST = 40

pytestmark = pytest.mark.skipif(
    not all(folder.is_dir() for folder in PACKAGES.values()), reason="not a whole checkout"
)


@cache
def modules() -> dict[str, Path]:
    """All modules of the packages by name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """Modules of the packages that each module imports, anywhere in its text."""
    found = defaultdict(set)
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                inside = whole & modules().keys()
                found[name] |= inside if len(inside) == len(whole) else inside | {node.module}
    return {name: (found[name] & modules().keys()) - {name} for name in modules()}


def test_the_layers_and_the_public_modules_of_the_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    pytest.importorskip("importlinter")
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_modules_import_each_other_in_a_circle() -> None:
    rooms = {name: found - DOOR for name, found in imports().items() if name not in DOOR}
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_plugins_of_domains_use_only_the_public_modules_of_the_contributors_guide() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.search(r"Public modules: (.*?)\n\n", guide, re.DOTALL)
    assert listed
    public = set(re.findall(r"`(tiltkit[\w.]*)`", listed.group(1)))
    for name, found in imports().items():
        if name.partition(".")[0] in ("tiltkit_ct", "tiltkit_deblur", "tiltkit_mri"):
            core = {one for one in found if one.partition(".")[0] == "tiltkit"}
            private = {one for one in core if not is_public(one, public)}
            assert not private, name


def is_public(module: str, public: set[str]) -> bool:
    """True for a listed module, and for those below it; of ``tiltkit`` only its own names."""
    return module in public or any(
        module.startswith(f"{one}.") for one in public if one != "tiltkit"
    )


def test_the_root_of_the_package_has_few_files() -> None:
    files = [p for p in PACKAGES["tiltkit"].iterdir() if p.is_file() and p.suffix != ".pyc"]
    assert len(files) <= MOST_FILES_AT_THE_ROOT, sorted(p.name for p in files)


def test_no_short_module_serves_a_single_other_one() -> None:
    users = defaultdict(set)
    for name, found in imports().items():
        for one in found:
            users[one].add(name)
    targets = "".join(path.read_text(encoding="utf-8") for path in modules().values())
    slivers = [
        name
        for name, path in modules().items()
        if path.stem not in ("__init__", "__main__")
        and len(path.read_text(encoding="utf-8").splitlines()) < SHORTEST
        and len(users[name]) == 1
        and f'"{name}:' not in targets  # a command or another entry of a plugin
    ]
    assert not slivers


def test_every_module_begins_with_a_docstring_of_one_line_and_more_if_needed() -> None:
    for name, path in modules().items():
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[
            0
        ]
        assert len(first) > 10, name
        assert first.endswith((".", "?", ":")), name
