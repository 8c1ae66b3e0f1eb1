"""Broken plugins: each has a reason and a hint, and all other plugins work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tiltkit.plugins import Plugin, Plugins, load_plugins

Install = Callable[..., str]
Named = Callable[[Plugins, str], Plugin]

HOOK = "@hookimpl\ndef tiltkit_tasks():\n    return "
ENTRY = 'Entry(name="bad-task", target="bad:Task", summary="s")'


@pytest.fixture
def broken(good: str, install: Install, named: Named) -> Callable[..., Plugin]:
    """Install ``bad`` beside a working plugin; check what holds for every broken plugin."""

    def make(code: str = "", **how: object) -> Plugin:
        install("bad", code, **how)
        plugins = load_plugins()
        assert plugins.create("task", "good-task", {"size": 4}).options.size == 4
        assert plugins.load("metric", "good.metric")(None, None) == 1.0
        assert {"walmc", "almc"} <= {entry.name for entry in plugins.entries("sampler")}
        assert named(plugins, "good").status == "ok"
        plugin = named(plugins, "bad")
        assert (plugin.status, plugin.entries) == ("broken", ())
        assert "\n" not in plugin.reason
        assert plugin.hint
        return plugin

    return make


Broken = Callable[..., Plugin]


def test_a_plugin_whose_import_is_missing_is_broken_and_says_what_to_install(
    broken: Broken,
) -> None:
    plugin = broken("import no_such_package.part")
    assert "No module named 'no_such_package'" in plugin.reason
    assert "pip install no_such_package" in plugin.hint


def test_a_plugin_whose_module_is_gone_is_broken_and_says_to_install_it_again(
    broken: Broken,
) -> None:
    plugin = broken(entry="bad = bad_gone.plugin")
    assert "No module named 'bad_gone'" in plugin.reason
    assert "pip install --force-reinstall bad" in plugin.hint


def test_a_plugin_whose_entry_point_names_a_missing_attribute_is_broken(broken: Broken) -> None:
    assert "no attribute 'hooks'" in broken(entry="bad = bad:hooks").reason


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('first line\\nsecond line')",
        "raise SystemExit('no licence')",
        "import sys; sys.exit()",
        "raise GeneratorExit",
        "class Odd(BaseException): pass\nraise Odd",
        "1 / 0",
        "def f(:",
    ],
)
def test_a_plugin_that_raises_on_import_is_broken_and_all_else_works(
    broken: Broken, code: str
) -> None:
    assert broken(code).reason.startswith("importing bad failed: ")


def test_ctrl_c_during_an_import_still_stops_the_program(good: str, install: Install) -> None:
    install("bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_plugins()


@pytest.mark.parametrize(
    "body", ["1 / 0", "exit(3)", "[][1]", f"(x for x in [{ENTRY}, 1 / 0])", "(1 / x for x in [0])"]
)
def test_a_plugin_whose_hook_raises_is_broken_and_all_else_works(broken: Broken, body: str) -> None:
    assert broken(HOOK + body).reason.startswith("tiltkit_tasks() failed: ")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("None", "returned a NoneType, not a list"),
        ("3", "returned a int, not a list"),
        ("'mri'", "returned a str, not a list"),
        (ENTRY, "returned a Entry, not a list"),
        ("['mri']", "returned a str instead of a Entry"),
        ("[dict(name='a')]", "returned a dict instead of a Entry"),
        ("[Entry]", "returned a type instead of a Entry"),
    ],
)
def test_a_hook_that_returns_no_list_of_entries_makes_its_plugin_broken(
    broken: Broken, body: str, reason: str
) -> None:
    assert reason in broken(HOOK + body).reason


def test_a_record_of_the_wrong_kind_makes_its_plugin_broken(broken: Broken) -> None:
    plugin = broken("@hookimpl\ndef tiltkit_priors():\n    return [" + ENTRY + "]")
    assert "returned a Entry instead of a PriorEntry" in plugin.reason


@pytest.mark.parametrize(
    ("hook", "record", "changes", "reason"),
    [
        ("tasks", "Entry", {"name": "Bad Task"}, "'Bad Task' cannot be the name of a task"),
        ("tasks", "Entry", {"name": "bad.task"}, "cannot be the name"),
        ("tasks", "Entry", {"name": 3}, "name of task 3 is 3"),
        ("commands", "Entry", {"name": "two words"}, "cannot be the name of a command"),
        ("metrics", "Entry", {"name": "psnr"}, "'psnr' cannot be the name of a metric"),
        ("metrics", "Entry", {"name": "bad:psnr"}, "cannot be the name"),
        ("priors", "PriorEntry", {"name": "opt.BadDefault"}, "'opt.BadDefault' cannot be the name"),
        ("tasks", "Entry", {"target": "bad.Task"}, "the target 'bad.Task' of bad-task"),
        ("tasks", "Entry", {"target": "bad:"}, "cannot be parsed"),
        ("tasks", "Entry", {"target": None}, "target of task 'bad-task' is None"),
        ("tasks", "Entry", {"requires": "numpy"}, "requires of task 'bad-task' is 'numpy'"),
        ("tasks", "Entry", {"cite": [1]}, "cite of task"),
        ("priors", "PriorEntry", {"name": "b.p", "channels": -1}, "channels of prior 'b.p' is -1"),
        ("priors", "PriorEntry", {"name": "b.p", "weights": "/a"}, "the weights '/a' of b.p"),
        ("priors", "PriorEntry", {"name": "b.p", "sha256": "abc"}, "the sha256 of b.p"),
        ("readers", "ReaderEntry", {"name": "b.r", "patterns": "*.h5"}, "patterns of reader"),
        ("writers", "WriterEntry", {"name": "b.w", "suffix": "h5"}, "the suffix 'h5' of b.w"),
        ("writers", "WriterEntry", {"name": "w", "merge": 1}, "merge of writer 'w' is 1"),
    ],
)
def test_an_entry_that_cannot_be_used_makes_its_plugin_broken(
    broken: Broken, hook: str, record: str, changes: dict[str, object], reason: str
) -> None:
    values = {"name": "bad-task", "target": "bad:Task", "summary": "s"} | changes
    text = ", ".join(f"{key}={value!r}" for key, value in values.items())
    code = f"@hookimpl\ndef tiltkit_{hook}():\n    return [{record}({text})]"
    assert reason in broken(code).reason


def test_the_hint_for_a_name_states_its_form_and_case(broken: Broken) -> None:
    code = "@hookimpl\ndef tiltkit_metrics():\n    return [" + ENTRY.replace("bad-task", "lab.Big")
    hint = broken(code + "]").hint
    assert hint == "it must be prefix.thing in lower case, such as mri.cartesian."


def test_a_plugin_with_two_entries_of_one_name_is_broken(broken: Broken) -> None:
    assert "two tasks with the name bad-task" in broken(f"{HOOK}[{ENTRY}, {ENTRY}]").reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("@hookimpl\ndef tiltkit_taks(): return []", "tiltkit_taks is no hook"),
        ("def tiltkit_sampler(): return []", "tiltkit_sampler is no hook"),
        ("@hookimpl\ndef other(): return []", "other is no hook"),
        ("def tiltkit_tasks(): return []", "tiltkit_tasks is not a function marked as a hook"),
        ("tiltkit_tasks = []", "tiltkit_tasks is not a function marked as a hook"),
        ("@hookimpl\ndef tiltkit_tasks(host): return []", "arguments: tiltkit_tasks(host)"),
    ],
)
def test_a_hook_that_would_be_ignored_makes_its_plugin_broken(
    broken: Broken, code: str, reason: str
) -> None:
    assert reason in broken(code).reason


def test_a_hook_of_a_later_tiltkit_can_be_marked_as_optional(
    install: Install, named: Named
) -> None:
    install("new", "@hookimpl(optionalhook=True)\ndef tiltkit_dreams(): return []")
    assert named(load_plugins(), "new").status == "ok"


@pytest.mark.parametrize("line", ["tiltkit>=99", "TiltKit ==0.0.1", "tiltkit>>1", "tiltkit<0.1"])
def test_a_plugin_for_another_tiltkit_is_broken_and_never_imported(
    broken: Broken, tmp_path: Path, line: str
) -> None:
    trace = tmp_path / "trace"
    plugin = broken(f"open({str(trace)!r}, 'w').close()", requires=("numpy", line))
    assert "tiltkit" in plugin.reason
    assert "pip install" in plugin.hint
    assert not trace.exists()


def test_requirements_that_do_not_apply_are_ignored(install: Install, named: Named) -> None:
    lines = (
        'tiltkit>=99; extra == "later"',
        'tiltkit>=99; python_version < "3"',
        "tiltkit-mri>=99",
        "tiltkit[deepinv]>=0.0.1",
        "not a requirement at all",
    )
    install("fits", requires=lines)
    assert named(load_plugins(), "fits").status == "ok"


@pytest.mark.parametrize("line", ["bad", "bad = ", "bad = bad plugin", "bad = a:b:c", "= bad x"])
def test_an_entry_point_that_cannot_be_parsed_breaks_only_its_plugin(
    broken: Broken, line: str
) -> None:
    plugin = broken(entry=line)
    assert "entry point" in plugin.reason
    assert "write it as" in plugin.hint


def test_a_package_without_metadata_is_a_broken_plugin(good: str, site: Path, named: Named) -> None:
    (site / "left-1.0.dist-info").mkdir()
    (site / "left-1.0.dist-info" / "entry_points.txt").write_text("[tiltkit]\nleft = left\n")
    plugins = load_plugins()
    assert "metadata of its package cannot be read" in named(plugins, "unknown").reason
    assert named(plugins, "good").status == "ok"


def test_a_damaged_package_that_is_no_plugin_is_ignored(
    good: str, site: Path, named: Named
) -> None:
    (site / "other-1.0.dist-info").mkdir()
    (site / "other-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff[tiltkit]\na = b\n")
    assert named(load_plugins(), "good").status == "ok"


def test_output_of_a_plugin_goes_to_stderr(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("chatty", "print('hello')")
    load_plugins()
    output, errors = capsys.readouterr()
    assert "hello" not in output
    assert "hello" in errors


def test_name_reason_and_hint_of_a_broken_plugin_are_texts(broken: Broken) -> None:
    plugin = broken("1 / 0")
    assert json.dumps([plugin.name, plugin.reason, plugin.hint])
