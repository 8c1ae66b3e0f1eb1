"""From the words and options of a call to a recipe, or from an earlier result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltkit.cli.shared import Command, call_plugins, log, threads_option
from tiltkit.digest import digest
from tiltkit.errors import InputError, UsageError

if TYPE_CHECKING:
    from tiltkit.config import Recipe

__all__ = ["RecipeCommand", "is_result_name", "recipe_options", "recipe_values", "resolved"]

# Settings that have an option of their own, by the option's name.
_DIRECT = ("quality", "samples", "runs", "seed", "slices", "device", "memory_gb", "threads",
           "swmr")  # fmt: skip


class RecipeCommand(click.Command):
    """A command that takes its task's options as its own: ``--axis 296`` for ``task.axis=296``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Like click's, with options that it does not know turned into settings of the task."""
        known = {name for param in self.get_params(ctx) for name in param.opts}
        rest = iter(args)
        own: list[str] = []
        for word in rest:
            name, equals, value = word.partition("=")
            # What is nearly an option of the command is a slip, which click explains best.
            foreign = len(name) > 2 and name[:2] == "--" and name not in known
            if not foreign or get_close_matches(name, known, n=1, cutoff=0.85):
                own += [word, *rest] if word == "--" else [word]
                continue
            if not equals:
                value = next(rest, "")
            if not value:
                raise UsageError(
                    f"There is no option {name} here, or it has no value.",
                    f"options of the task need one: {name} VALUE; for others see --help.",
                )
            own += ["-s", f"task.{name[2:].replace('-', '_')}={value}"]
        return super().parse_args(ctx, own)


def recipe_options(command: Command) -> Command:
    """The options that change a recipe, in the order in which help shows them."""
    options = [
        click.option("-c", "--recipe", type=click.Path(path_type=Path), metavar="FILE",
                     help="Settings from a TOML recipe, or those of an earlier result."),
        click.option("-s", "--set", "settings", multiple=True, metavar="KEY=VALUE",
                     help="Change one setting, such as sampler.levels=60; repeatable."),
        click.option("--prior", metavar="NAME", help="Prior; see 'tiltkit list prior'."),
        click.option("--sampler", metavar="NAME", help="Sampler; see 'tiltkit list sampler'."),
        click.option("--quality", metavar="NAME", help="draft, standard or high."),
        click.option("--samples", type=int, metavar="N", help="Posterior samples per slice."),
        click.option("--runs", type=int, metavar="N",
                     help="Independent runs that share the samples; 2 or more give R-hat."),
        click.option("--seed", type=int, metavar="N", help="The same seed, the same samples."),
        click.option("--slices", metavar="LIST", help="Slices to do, such as 0,3,5:9."),
        click.option("--memory", "memory_gb", type=float, metavar="GB",
                     help="For samples side by side; what does not fit is done in tiles."),
        click.option("--device", metavar="NAME",
                     help="auto, cpu, cuda, or several as cuda:0,cuda:1."),
        threads_option,
        click.option("--swmr", is_flag=True, default=None,
                     help="Read an HDF5 file that is still being written (SWMR) as it stands."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def recipe_values(
    words: Sequence[str], recipe: Path | None, settings: Sequence[str], **direct: Any
) -> tuple[dict[str, Any], list[Path]]:
    """Settings and input files of a call.

    Args:
        words: Task and files; the task may be left out when the recipe names one.
        recipe: TOML file, or a result file.
        settings: ``key=value`` each.
        direct: Values of the options of their own; None where not given.

    Raises:
        UsageError: A setting of the wrong form.
        InputError: The recipe cannot be read.
    """
    from tiltkit.config import with_setting

    values, raw = _from_file(recipe) if recipe else ({}, None)
    changed = {setting.partition("=")[0].strip() for setting in settings}
    if raw and (direct["quality"] is not None or "quality" in changed):
        values = _without_budget(values)
    rest = list(words)
    named = "task" in values or "task" in changed
    is_task = bool(rest) and rest[0] in _task_names()
    if rest and not named and not is_task and Path(rest[0]).exists():
        raise UsageError("No task is named.", "see what there is with 'tiltkit list task'.")
    if rest and (is_task or not named):
        values = _renamed(values, "task", rest.pop(0))
    for kind in ("prior", "sampler"):
        if direct[kind] is not None:
            values = _renamed(values, kind, direct[kind])
    for setting in settings:
        values = with_setting(values, setting)
    values |= {name: direct[name] for name in _DIRECT if direct[name] is not None}
    if raw and recipe:
        _refuse_other_files(values, recipe, changed)
    files = [Path(word) for word in rest] or ([_unchanged(raw, recipe)] if raw and recipe else [])
    return values, files


def resolved(values: Mapping[str, Any]) -> Recipe:
    """The complete, checked recipe."""
    from tiltkit.recon.recipe import resolve

    return resolve(values, call_plugins())


def _from_file(path: Path) -> tuple[dict[str, Any], Path | None]:
    """Settings of a recipe or result, and for a result the file that it was made from."""
    from tiltkit.config import read_toml
    from tiltkit.io.reading import read_provenance, read_recipe

    if not is_result_name(path):
        return read_toml(path), None
    raw = read_provenance(path).get("raw_path")
    return read_recipe(path), Path(raw) if raw else None


def is_result_name(path: Path) -> bool:
    """Whether a file of settings is, or is called like, a result, and no TOML file."""
    from tiltkit.io.reading import is_hdf5

    return path.suffix.lower() in (".h5", ".hdf5", ".nxs") or is_hdf5(path)


def _unchanged(raw: Path, result: Path) -> Path:
    """The scan that a result was made from; says so where it is another one by now."""
    from tiltkit.io.reading import read_provenance

    if not raw.exists():
        raise InputError(
            f"{raw}, which {result} was made from, is not there.",
            "name the scan where it is now, behind the other options.",
        )
    if read_provenance(result).get("raw_sha256") != digest(raw):
        log(f"Note: {raw} has changed since {result} was made from it.")
    return raw


def _refuse_other_files(values: Mapping[str, Any], result: Path, changed: Collection[str]) -> None:
    """Files that options name must be those of the result, but for options that were given anew.

    Raises:
        UsageError: One has changed.
    """
    from tiltkit.io.reading import read_provenance

    for part, options in read_provenance(result).get("files_sha256", {}).items():
        table = values[part]
        for name, expected in options.items():
            path = table.get(name) if isinstance(table, Mapping) else None
            if f"{part}.{name}" in changed or not path or not Path(path).exists():
                continue
            if digest(path) != expected:
                raise UsageError(
                    f"{path} has changed since {result} was made with it.",
                    f"put it back, or take it as it is: -s {part}.{name}={path}",
                )


def _without_budget(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a result, without what its quality meant for its sampler."""
    sampler = values["sampler"]
    presets = getattr(call_plugins().load("sampler", sampler["name"]), "presets", {})
    budget = {key for preset in presets.values() for key in preset}
    return {**values, "sampler": {k: v for k, v in sampler.items() if k not in budget}}


def _task_names() -> set[str]:
    return {entry.name for entry in call_plugins().entries("task")}


def _renamed(values: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    """Another part takes none of the options of the one it replaces."""
    table = values.get(kind)
    same = isinstance(table, Mapping) and table.get("name") == name
    return {**values, kind: table if same else {"name": name}}
