"""Examination of plugins: what is wrong with those that load."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tiltkit.plugins import load_plugins
from tiltkit.plugins.doctor import Finding, examine_plugins

Install = Callable[..., str]
Code = Callable[..., str]

PRIOR = """
@hookimpl
def tiltkit_priors():
    return [PriorEntry(name="p.net", target="p_target:make", summary="s",
                       weights="p_data:net.safetensors", sha256={digest!r})]
"""
PRIOR_TARGET = """
import good_target
def make(options, entry): ...
make.Options = good_target.Options
"""


def test_nothing_is_found_in_healthy_and_blocked_plugins(good: str, install: Install) -> None:
    assert _found("good") == []
    install("bad", "1 / 0")
    assert _found("bad", blocked="bad") == []


def test_broken_plugins_are_found_with_their_reason(good: str, install: Install) -> None:
    install("bad", "1 / 0")
    [bad] = _found("bad")
    assert (bad.level, bad.subject) == ("error", "")
    assert "ZeroDivisionError" in bad.message
    assert bad.hint


def test_targets_that_cannot_be_used_are_found(
    good: str, install: Install, task_plugin: Code
) -> None:
    install("gone", task_plugin("gone", "good_target:Gone"))
    install("bare", task_plugin("bare", "good_target:metric"))
    install("needy", task_plugin("needy", more="requires=('no_such_package',)"))
    loose = "from pydantic import BaseModel\nclass Task:\n    Options = BaseModel\n"
    install("loose", task_plugin("loose", "loose_target:Task"), loose_target=loose)
    assert "no attribute 'Gone'" in _found("gone")[0].message
    assert "has no Options" in _found("bare")[-1].message
    [needy] = _found("needy")
    assert (needy.level, needy.hint) == ("warning", "pip install no_such_package")
    members, keys = _found("loose")
    assert (members.level, keys.level) == ("error", "warning")
    assert "task loose lacks default_prior, open" in members.message
    assert "forbid" in keys.hint


def test_a_writer_with_options_takes_three_arguments(good: str, install: Install) -> None:
    hook = "@hookimpl\ndef tiltkit_writers():\n    return [" + ", ".join(
        f"WriterEntry(name='{name}', target='writer_target:{name}', summary='s', suffix='.x',)"
        for name in ("plain", "rich", "wrong", "checked")
    )
    target = (
        "import good_target\ndef plain(result, output): ...\n"
        "def rich(result, output, options): ...\ndef wrong(result, output): ...\n"
        "rich.Options = wrong.Options = good_target.Options\n"
        "def checked(result, output): ...\nchecked.check = lambda result: None\n"
    )
    install("pen", hook + "]", writer_target=target)
    wrong, checked = _found("pen")
    assert "writer wrong cannot be called with (result, output, options)" in wrong.message
    assert "has a check that cannot be called with (result, output)" in checked.message


def test_the_extra_that_installs_a_missing_package_is_named(
    install: Install, task_plugin: Code
) -> None:
    install("needy", task_plugin("needy", more="requires=('no_such_package',), extra='more'"))
    [needy] = _found("needy")
    assert needy.hint == "pip install 'needy[more]'"


def test_a_sampler_without_next_level_is_found(good: str, install: Install) -> None:
    hook = "@hookimpl\ndef tiltkit_samplers():\n    return [" + (
        "Entry(name='s.still', target='still_target:Still', summary='s')]"
    )
    target = (
        "import good_target\nclass Still:\n    Options, weighted = good_target.Options, False\n"
        "    levels = init = step = images = scores = None\n"
    )
    install("still", hook, still_target=target)
    [finding] = _found("still")
    assert "sampler s.still lacks next_level" in finding.message


HOOKS = """
@hookimpl
def tiltkit_priors():
    return [PriorEntry(name="p.one", target="t:prior", summary="s")]

@hookimpl
def tiltkit_metrics():
    return [Entry(name="p.metric", target="t:metric", summary="s")]

@hookimpl
def tiltkit_commands():
    return [Entry(name="plain", target="t:plain", summary="s"),
            Entry(name="run", target="t:run", summary="s")]
"""
TARGETS = """
import click
import good_target

def prior(options): ...
prior.Options = good_target.Options
def metric(estimate): ...
def plain(): ...
@click.command()
def run(): ...
"""


def test_functions_with_wrong_arguments_and_hidden_commands_are_found(
    good: str, install: Install
) -> None:
    install("odd", HOOKS, t=TARGETS)
    found = {
        f.subject: f.message
        for f in examine_plugins(load_plugins([]), ["run"])
        if "odd" in f.plugin
    }
    assert "cannot be called with (options, entry)" in found["prior p.one"]
    assert "cannot be called with (estimate, truth)" in found["metric p.metric"]
    assert "is a function, not a click.Command" in found["command plain"]
    assert "cannot be reached" in found["command run"]


OPTIONS = """
from pydantic import BaseModel, ConfigDict, Field, model_validator

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    {fields}

class Task:
    Options = Options
    default_prior = "gaussian"
    def open(self, path): ...
"""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("name: str = ''", "task odd has an option 'name', which in recipes"),
        ("size: int = 'big'", "task odd has default options that are not allowed (size: Input"),
        ("size: int = Field(0, gt=0)", "(size: Input should be greater than 0)"),
        ("size: int = Field(default_factory=lambda: 1 / 0)", "Options that fail: ZeroDivision"),
        ("size: int = 3\n    needed: float", ""),
    ],
)
def test_options_that_recipes_cannot_set_are_found(
    good: str, install: Install, task_plugin: Code, fields: str, message: str
) -> None:
    install("odd", task_plugin("odd", "o:Task"), o=OPTIONS.format(fields=fields))
    found = _found("odd")
    assert [(f.level, message in f.message) for f in found] == (
        [("error", True)] if message else []
    )


def test_names_that_two_plugins_use_are_found(
    good: str, install: Install, task_plugin: Code
) -> None:
    install("other", task_plugin("good-task"))
    [finding] = _found("good")
    assert "a name that other (other) uses too" in finding.message
    assert "write good:good-task" in finding.hint
    assert _found("other")[0].level == "warning"


def test_weights_that_are_missing_or_have_another_digest_are_found(
    good: str, install: Install, site: Path
) -> None:
    right = hashlib.sha256(b"net").hexdigest()
    for name, digest in (("right", right), ("wrong", "0" * 64), ("none", "")):
        install(name, PRIOR.format(digest=digest), p_target=PRIOR_TARGET)
    # The same name in three plugins is a finding, too; here only the weights matter.
    assert "prior p.net has weights that cannot be read" in _found("right")[0].message
    (site / "p_data").mkdir()
    (site / "p_data" / "__init__.py").touch()
    (site / "p_data" / "net.safetensors").write_bytes(b"net")
    assert "has a name that" in _found("right")[0].message
    assert "another sha256" in _found("wrong")[0].message
    assert right in _found("none")[0].hint


def _found(distribution: str, blocked: str = "") -> list[Finding]:
    plugins = load_plugins([blocked] if blocked else [])
    return [f for f in examine_plugins(plugins) if f.plugin == f"{distribution} ({distribution})"]
