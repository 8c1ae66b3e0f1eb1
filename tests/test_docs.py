"""The pages: links lead somewhere, and every command line that they show exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest

import tiltkit
from tiltkit.cli.main import cli
from tiltkit.errors import Kind
from tiltkit.plugins import Plugins, load_plugins
from tiltkit.posterior.level import RENAMED
from tiltkit.posterior.warnings import (
    CHANCE,
    CODES,
    DATA_FIT,
    INDEPENDENT_SAMPLES,
    RESIDUAL_RATIO,
    TRAINING_DISTANCE,
)

from .cli.conftest import write_scan

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "plugins").is_dir(), reason="a source distribution has not all pages"
)
PLUGINS = ("tiltkit_mri", "tiltkit_ct", "tiltkit_deblur", "tiltkit_baselines")
# Command lines of CONTRIBUTING.md whose parts only its own example has.
OF_THE_EXAMPLE = ("dead-pixels", "fill-in", "mylab.white")


def pages() -> list[Path]:
    """All Markdown pages and example recipes under version control."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("plugins/*/*.md")]
    found += ROOT.glob("plugins/*/*/*.md")
    found += [*ROOT.glob("plugins/*/*/data/*.md"), *ROOT.glob("examples/*.toml")]
    return sorted(p for p in found if not any(part.startswith(".") for part in p.parts))


def relative_links(page: Path) -> Iterator[str]:
    """Targets of links and pictures that are no addresses."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def command_lines(page: Path) -> Iterator[str]:
    """Command lines in blocks and between backquotes, without the remarks behind them."""
    text = page.read_text()
    for line in text.splitlines():
        if found := re.match(r"(?:#?\s{4,}|\s*\$ )(tiltkit .*)", line):
            yield re.split(r"\s{2,}|\s#", found[1])[0]
    inline = re.sub(r"```.*?```|^ {4}.*$", "", text, flags=re.DOTALL | re.MULTILINE)
    for found in re.finditer(r"`(tiltkit [^`]+)`", inline):
        yield " ".join(found[1].split())


@cache
def plugins() -> Plugins:
    return load_plugins()


@cache
def keys(kind: str) -> frozenset[str]:
    """Options of all installed parts of a kind, those that need a missing package left out."""
    found = {"name"}
    for part in plugins().entries(kind):
        try:
            found |= set(plugins().load(kind, part.name).Options.model_fields)
        except Exception:  # noqa: S112
            continue
    return frozenset(found)


@cache
def names(kind: str) -> frozenset[str]:
    """Names of all installed parts of a kind."""
    return frozenset(entry.name for entry in plugins().entries(kind))


def faults(line: str) -> Iterator[str]:
    """What of a command line does not exist."""
    words = shlex.split(line)[1:]
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        inner = command.get_command(context, words.pop(0))
        if inner is None:
            yield "no such command"
            return
        command = inner
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    options |= {name for p in cli.params for name in p.opts}
    if command.name in ("run", "check", "calibrate"):
        options |= {f"--{key.replace('_', '-')}" for key in keys("task")}
    for option, name in pairwise(words):
        kind = option.removeprefix("--")
        known = kind not in ("prior", "sampler") or not name.islower() or name in names(kind)
        if not known:
            yield f"no {kind} {name}"
    for word in words:
        name = word.split("=")[0]
        if re.match(r"--?[a-z]", word) and name not in options:
            yield f"no option {name}"
        found = re.match(r"(task|prior|sampler)\.(\w+)=", word)
        if found and found[2] not in keys(found[1]):
            yield f"no setting {found[1]}.{found[2]}"


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    for target in relative_links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            names = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in names, target


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_command_lines_on_pages_parse(page: Path) -> None:
    for plugin in PLUGINS:
        pytest.importorskip(plugin)
    for line in command_lines(page):
        if not any(word in line for word in OF_THE_EXAMPLE):
            assert list(faults(line)) == [], line


@pytest.mark.parametrize(
    "line", ["tiltkit walk", "tiltkit run --fast", "tiltkit run t f -s sampler.kin=1",
             "tiltkit run t f --sampler pulla", "tiltkit prior weigh x"],
)  # fmt: skip
def test_a_wrong_command_line_is_found(line: str) -> None:
    assert list(faults(line))


def test_the_page_of_commands_lists_every_command_and_exit_code() -> None:
    page = (ROOT / "docs/commands.md").read_text()
    shown = {
        " ".join(line.split()[1:2]) for line in re.findall(r"^\| `(tiltkit [^`]+)`", page, re.M)
    }
    assert shown == set(cli.list_commands(click.Context(cli)))
    codes = dict(re.findall(r"^\| (\d+) \| (\w+) \|", page, re.MULTILINE))
    assert {int(code): kind for code, kind in codes.items()} == {k.exit_code: str(k) for k in Kind}


def test_benchmark_commands_name_scripts_and_their_options() -> None:
    for page in pages():
        for script, rest in re.findall(r"python benchmarks/(\w+)\.py([^`\n]*)", page.read_text()):
            code = (ROOT / f"benchmarks/{script}.py").read_text()
            for option in re.findall(r"(?<=\s)--[a-z0-9-]+", rest):
                assert f'"{option}"' in code, f"{script}: {option}"


def test_the_pictures_of_pages_are_small() -> None:
    assert all(path.stat().st_size <= 150_000 for path in ROOT.glob("docs/images/*.png"))


def test_the_citation_has_the_version_of_the_package() -> None:
    import tiltkit

    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", text, re.MULTILINE)[1] == tiltkit.__version__


def test_the_python_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tiltkit_mri")
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.split("\n\n")[1].splitlines()) <= 5
    write_scan(tmp_path / "scan.h5")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    assert capsys.readouterr().out.startswith("(1, 40, 36) ")
    assert (names["low"] <= names["high"]).all()
    assert [path.name for path in tmp_path.iterdir()] == ["scan.h5"]


def table(page: Path, heading: str) -> dict[str, str]:
    """First column to the rest of each line of the table under a heading."""
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ", 1) for line in section.splitlines() if line[:2] == "| "]
    return {first: rest for first, rest in lines if first.startswith("`")}


def test_the_page_on_the_certificate_has_each_warning_and_no_other() -> None:
    described = table(ROOT / "docs" / "certificate.md", "Warnings")
    assert {code.strip("`") for code in described} == set(CODES)


def test_the_page_on_the_certificate_has_the_limits_that_warnings_have() -> None:
    described = table(ROOT / "docs" / "certificate.md", "Warnings")
    limits = {
        "data_fit_narrow": DATA_FIT[1], "data_fit_wide": DATA_FIT[0],
        "residual_ratio_high": RESIDUAL_RATIO, "far_from_training": TRAINING_DISTANCE,
        "few_independent_samples": INDEPENDENT_SAMPLES,
    }  # fmt: skip
    for code, limit in limits.items():
        assert re.match(rf"{limit:g}\b", described[f"`{code}`"].split(" | ")[1]), code
    assert f"{CHANCE:g} standard deviations" in described["`data_fit_narrow`"]


def test_the_page_on_the_certificate_has_every_figure_of_a_result_and_the_former_names(
    tmp_path: Path,
) -> None:
    page = ROOT / "docs" / "certificate.md"
    named = set(re.findall(r"`(\w+)`", page.read_text()))
    scan = write_scan(tmp_path / "scan.h5")
    result = tiltkit.reconstruct(
        "mri-recon", scan, prior="gaussian", samples=4, runs=2,
        settings={"sampler.levels": 4, "sampler.collect": 2},
    )  # fmt: skip
    assert set(result.diagnostics[0]) - {"warnings", "notes"} <= named
    assert set(RENAMED) | set(RENAMED.values()) <= named
