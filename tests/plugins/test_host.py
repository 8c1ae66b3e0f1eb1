"""The plugin host: names, blocking, loading, and the built-in plugin."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tiltkit
from tiltkit.errors import PluginError, UsageError
from tiltkit.plugins import Plugin, Plugins, hooks, load_plugins
from tiltkit.plugins.targets import missing_packages

Install = Callable[..., str]
Named = Callable[[Plugins, str], Plugin]
Code = Callable[..., str]


def test_built_in_entries_come_first(good: str) -> None:
    plugins = load_plugins()
    assert plugins.plugins[0].label == "core (tiltkit)"
    assert {"almc", "walmc"} <= {entry.name for entry in plugins.entries("sampler")}
    assert {"gaussian", "tv"} <= {entry.name for entry in plugins.entries("prior")}
    names = [entry.name for entry in plugins.entries("metric")]
    assert names.index("spread_ratio") < names.index("good.metric")
    assert plugins.owner("metric", "good.metric").distribution == "good"


@pytest.mark.parametrize("kind", ["sampler", "prior", "metric", "writer"])
def test_every_built_in_entry_can_be_loaded(kind: str, site: Path) -> None:
    plugins = load_plugins(["*"])
    for entry in plugins.entries(kind):
        if missing_packages(entry):
            continue
        part = plugins.load(kind, entry.name)
        assert callable(part)
        options = getattr(part, "Options", None)
        if options and not any(f.is_required() for f in options.model_fields.values()):
            make = plugins.options if kind == "writer" else plugins.create
            assert make(kind, entry.name, {})


def test_the_built_in_plugin_needs_no_metadata_and_is_listed_once(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [p.builtin for p in load_plugins().plugins].count(True) == 1
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: iter(()))
    [core] = load_plugins().plugins
    assert (core.status, core.version) == ("ok", tiltkit.__version__)


def test_two_distributions_with_one_entry_point_name_both_load(
    good: str, install: Install, task_plugin: Code
) -> None:
    install("one", task_plugin("task-one"), entry="same = one")
    install("two", task_plugin("task-two"), entry="same = two")
    plugins = load_plugins()
    assert plugins.owner("task", "task-one").distribution == "one"
    assert plugins.owner("task", "task-two").distribution == "two"


def test_a_name_that_two_plugins_use_is_an_error_only_when_it_is_used(
    good: str, install: Install, task_plugin: Code
) -> None:
    install("other", task_plugin("good-task", "other_target:x"), other_target="x = 'other'")
    plugins = load_plugins()
    with pytest.raises(UsageError) as caught:
        plugins.load("task", "good-task")
    for text in ("good (good)", "other (other)", "good:good-task", "other:good-task"):
        assert text in str(caught.value)
    assert "--no-plugins=other" in caught.value.hint
    assert plugins.load("task", "other:good-task") == "other"
    assert plugins.create("task", "good:good-task", {}).options.size == 3
    assert load_plugins(["good"]).load("task", "good-task") == "other"


def test_every_listed_name_can_be_looked_up(good: str, install: Install, task_plugin: Code) -> None:
    code = task_plugin("good-task")
    install("other", code, entry="x = other\ny = other_y", other_y=_with_imports(code))
    install("third", code, entry="good = third")
    plugins = load_plugins()
    names = [entry.name for entry in plugins.entries("task")]
    assert {"good:good-task", "x:good-task", "y:good-task", "third:good-task"} <= set(names)
    for name in names:
        assert plugins.get("task", name).name == name


def test_every_entry_can_be_named_with_its_distribution(good: str) -> None:
    plugins = load_plugins()
    assert plugins.get("task", "good:good-task") == plugins.get("task", "good-task")
    assert plugins.get("sampler", "tiltkit:walmc").name == "walmc"
    with pytest.raises(UsageError, match="no task 'elsewhere:good-task'"):
        plugins.get("task", "elsewhere:good-task")


def test_the_error_for_a_wrong_name_has_the_nearest_name_and_all_names(good: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_plugins(["*"]).get("sampler", "wlamc")
    assert caught.value.message.startswith("There is no sampler 'wlamc'.")
    assert "did you mean 'walmc'?" in caught.value.hint
    assert "There are: almc, moments, " in caught.value.hint


def test_the_error_for_a_wrong_kind_has_the_nearest_kind(site: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'prior'"):
        load_plugins().entries("priors")


def test_the_error_for_an_unknown_name_lists_broken_and_blocked_plugins(
    good: str, install: Install
) -> None:
    install("bad", "raise RuntimeError('no licence')")
    with pytest.raises(UsageError) as caught:
        load_plugins(["good"]).get("task", "good-task")
    assert "Plugin bad (bad) is broken: importing bad failed: RuntimeError: no licence" in str(
        caught.value
    )
    assert "tiltkit plugins doctor" in caught.value.message
    assert "Plugin good (good) is blocked." in caught.value.message


@pytest.mark.parametrize("name", ["short", "long-name", "Long_Name", "*", "all", "1"])
def test_a_blocked_plugin_is_never_imported(
    install: Install, named: Named, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    install("long-name", "raise SystemExit", entry="short = long_name")
    assert named(load_plugins([]), "long-name").status == "broken"
    assert named(load_plugins([name]), "long-name").status == "blocked"
    monkeypatch.setenv("TILTKIT_NO_PLUGINS", f"nothing, {name},")
    plugins = load_plugins()
    assert named(plugins, "long-name").status == "blocked"
    assert plugins.unknown_blocked == ("nothing",)
    assert plugins.entries("sampler")


def test_built_ins_cannot_be_blocked(site: Path) -> None:
    plugins = load_plugins(["core", "tiltkit"])
    assert plugins.plugins[0].status == "ok"
    assert plugins.unknown_blocked == ("core", "tiltkit")


def test_a_distribution_with_two_versions_on_the_path_is_loaded_once(
    install: Install, named: Named, task_plugin: Code, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    install("twice", task_plugin("old"), folder=tmp_path / "old", version="0.9")
    install("twice", task_plugin("new"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "old")])
    plugins = load_plugins()
    assert named(plugins, "twice").version == "1.0"
    assert plugins.get("task", "new")


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("gone_module:Task", "No module named 'gone_module'", "--force-reinstall lazy"),
        ("good_target:Gone", "no attribute 'Gone'", "--upgrade lazy"),
        ("needy_target:x", "No module named 'no_such_package'", "pip install no_such_package"),
        ("exit_target:x", "SystemExit: 3", "--upgrade lazy"),
    ],
)
def test_a_target_that_cannot_be_loaded_names_its_plugin(
    good: str, install: Install, task_plugin: Code, target: str, message: str, hint: str
) -> None:
    install(
        "lazy", task_plugin("lazy-task", target),
        needy_target="import no_such_package", exit_target="raise SystemExit(3)",
    )  # fmt: skip
    plugins = load_plugins()
    with pytest.raises(PluginError) as caught:
        plugins.load("task", "lazy-task")
    assert caught.value.message.startswith("Plugin lazy (lazy) cannot load its task lazy-task: ")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert plugins.create("task", "good-task", {})


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.part"])
def test_the_error_for_a_missing_requirement_has_the_package_to_install(
    good: str, install: Install, task_plugin: Code, package: str
) -> None:
    install("needy", task_plugin("needy-task", more=f"requires=('numpy', {package!r})"))
    with pytest.raises(PluginError, match=f"needs {package}, which is not") as caught:
        load_plugins().load("task", "needy-task")
    assert caught.value.hint == f"pip install {package}"


def test_code_is_imported_on_first_use_and_once(
    install: Install, task_plugin: Code, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    target = f"with open({str(trace)!r}, 'a') as file:\n    file.write('x')\nx = 1"
    install("lazy", task_plugin("lazy-task", "lazy_target:x"), lazy_target=target)
    plugins = load_plugins()
    assert not trace.exists()
    assert plugins.load("task", "lazy-task") == plugins.load("task", "lazy-task") == 1
    assert trace.read_text() == "x"


def test_options_are_checked_and_errors_name_the_nearest_key(good: str) -> None:
    plugins = load_plugins()
    assert plugins.options("task", "good-task", {}).model_dump() == {"size": 3}
    with pytest.raises(UsageError, match=r"task\.siz") as caught:
        plugins.create("task", "good-task", {"siz": 3})
    assert "size" in caught.value.hint
    with pytest.raises(UsageError, match=r"sampler\.levels"):
        plugins.options("sampler", "walmc", {"levels": -1})


def test_a_target_without_options_is_an_error_of_its_plugin(
    good: str, install: Install, task_plugin: Code
) -> None:
    install("bare", task_plugin("bare-task", "good_target:metric"))
    with pytest.raises(PluginError, match=r"bare-task of plugin bare \(bare\) has no Options"):
        load_plugins().create("task", "bare-task", {})


def test_a_failing_constructor_is_an_error_of_its_plugin(
    good: str, install: Install, task_plugin: Code
) -> None:
    target = (
        "import good_target\nclass Task:\n    Options = good_target.Options\n"
        "    def __init__(self, options): raise ValueError('no')"
    )
    install("fails", task_plugin("fails", "fails_target:Task"), fails_target=target)
    with pytest.raises(PluginError, match=r"fails \(fails\) could not create .* ValueError: no"):
        load_plugins().create("task", "fails", {})


PARTS = """
@hookimpl
def tiltkit_priors():
    return [PriorEntry(name=f"p.{n}", target=f"parts_target:{n}", summary="s", channels=2)
            for n in ("nothing", "half", "leaves", "one", "two", "any")]

@hookimpl
def tiltkit_samplers():
    return [Entry(name="p.still", target="parts_target:Still", summary="s")]

@hookimpl
def tiltkit_commands():
    return [Entry(name="plain", target="parts_target:nothing", summary="s")]
"""
PARTS_TARGET = """
import sys
from types import SimpleNamespace
import good_target

def nothing(options, entry): ...
def half(options, entry):
    return SimpleNamespace(channels=2, score=None, to=None)
def leaves(options, entry):
    print("leaving")
    sys.exit()
def of(channels):
    return lambda options, entry: SimpleNamespace(
        channels=channels, score=None, to=None, sigma_range=(1, 2), value_range="")
one, two, any = of(1), of(2), of(0)
class Still:
    weighted = False
    def __init__(self, options): ...
    levels = init = step = images = scores = None
for part in (nothing, half, leaves, one, two, any, Still):
    part.Options = good_target.Options
"""


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("prior", "p.nothing", "is a NoneType without channels, sigma_range, value_range, score"),
        ("prior", "p.half", "is a SimpleNamespace without sigma_range, value_range."),
        ("prior", "p.leaves", "could not create its prior p.leaves with these options: SystemExit"),
        ("prior", "p.one", "has 1 channels, but its entry states 2"),
        ("sampler", "p.still", "is a Still without next_level"),
    ],
)
def test_a_part_without_its_members_or_with_other_channels_is_an_error_of_its_plugin(
    good: str, install: Install, capsys: pytest.CaptureFixture[str],
    kind: str, name: str, message: str,
) -> None:  # fmt: skip
    install("parts", PARTS, parts_target=PARTS_TARGET)
    plugins = load_plugins()
    with pytest.raises(PluginError) as caught:
        plugins.create(kind, name, {})
    assert message in caught.value.message
    assert "parts (parts)" in caught.value.message
    assert not capsys.readouterr().out
    assert {plugins.create("prior", f"p.{n}", {}).channels for n in ("two", "any")} == {2, 0}


def test_a_command_that_is_no_click_command_is_an_error_of_its_plugin(
    good: str, install: Install
) -> None:
    install("parts", PARTS, parts_target=PARTS_TARGET)
    with pytest.raises(PluginError, match=r"plain of plugin parts \(parts\) is a function, not a"):
        load_plugins().load("command", "plain")


def test_finding_plugins_imports_nothing_heavy(good: str, site: Path) -> None:
    code = (
        "import sys, tiltkit.plugins, tiltkit.plugins.builtin\n"
        "plugins = tiltkit.plugins.load_plugins(['tiltkit-mri'])\n"
        "assert plugins.get('task', 'good-task') and plugins.entries('prior')\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'h5py', 'scipy', 'matplotlib', 'rich', 'click'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{_root()}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def _root() -> Path:
    return Path(tiltkit.__file__).parents[1]


def _with_imports(code: str) -> str:
    return f"from tiltkit.hookspecs import Entry, hookimpl\n{code}"


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("tiltkit>=0.1,<0.2", True),
        ("tiltkit<0.2,>=0.1.0", True),
        ("tiltkit >=0.1, <0.2", True),
        ("tiltkit>=0.2,<0.3", False),
        ("tiltkit>=0.1,<0.1", False),
        ("tiltkit>=0.1,!=0.1.0", False),
        ("tiltkit>=0.1,<0.2,!=0.1.0", False),
        ("tiltkit>=0.1,<0.2; extra == 'x'", False),
        ("tiltkit>=0.1.0,<=0.2", False),
    ],
)
def test_only_plain_ranges_are_judged_without_the_packaging_library(
    monkeypatch: pytest.MonkeyPatch, requirement: str, met: bool
) -> None:
    monkeypatch.setattr("tiltkit.__version__", "0.1.0")
    assert hooks._is_met_range(requirement) is met
