"""Recipe of a command line call, from its arguments, a TOML file or an earlier result."""

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

__all__ = ["RecipeCommand", "is_result_name", "recipe_options", "recipe_values", "resolve_recipe"]

# Settings that have an option of their own, by the option's name.
_DIRECT = ("quality", "samples", "runs", "seed", "slices", "device", "memory_gb", "threads",
           "swmr", "calibration", "widen", "test_shares", "baseline_only")  # fmt: skip


class RecipeCommand(click.Command):
    """A command that accepts options of the task: ``--axis 296`` for ``-s task.axis=296``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, and turn unknown options into settings of the task."""
        known = {name for param in self.get_params(ctx) for name in param.opts}
        rest = iter(args)
        own: list[str] = []
        for word in rest:
            name, equals, value = word.partition("=")
            # A name close to one of the command's options is a typing error; click reports it.
            foreign = len(name) > 2 and name[:2] == "--" and name not in known
            if not foreign or get_close_matches(name, known, n=1, cutoff=0.85):
                own += [word, *rest] if word == "--" else [word]
                continue
            if not equals:
                value = next(rest, "")
            if not value:
                raise UsageError(
                    f"The option {name} is unknown or has no value.",
                    f"for an option of the task write {name} VALUE; for others see --help.",
                )
            own += ["-s", f"task.{name[2:].replace('-', '_')}={value}"]
        return super().parse_args(ctx, own)


def recipe_options(command: Command) -> Command:
    """Add the options that change a recipe, in the order of the help text."""
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
        click.option("--test-shares", is_flag=True, default=None,
                     help="Test the shares of separate explanations; costs 32 further runs."),
        click.option("--baseline-only", is_flag=True, default=None,
                     help="Reconstruct without a prior and without samples, in seconds."),
        click.option("--seed", type=int, metavar="N",
                     help="Seed of all random numbers; the same seed gives the same samples."),
        click.option("--slices", metavar="LIST", help="Slices to do, such as 0,3,5:9."),
        click.option("--memory", "memory_gb", type=float, metavar="GB",
                     help="Memory for samples computed together; larger slices are tiled."),
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
    """Return settings and input files of a call.

    Args:
        words: Task and files; the task may be left out when the recipe names one.
        recipe: TOML file, or a result file.
        settings: Texts ``key=value``.
        direct: Values of options such as ``--samples`` by setting; None where not given.

    Raises:
        UsageError: A setting has the wrong form.
        InputError: The recipe cannot be read.
    """
    from tiltkit.config import with_setting

    values, raw = _from_file(recipe) if recipe else ({}, None)
    changed = {setting.partition("=")[0].strip() for setting in settings}
    if raw and (direct["quality"] is not None or "quality" in changed):
        values = _without_budget(values)
    rest = list(words)
    has_task = "task" in values or "task" in changed
    is_task = bool(rest) and rest[0] in _task_names()
    if rest and not has_task and not is_task and Path(rest[0]).exists():
        raise UsageError("No task is named.", "see what there is with 'tiltkit list task'.")
    if rest and (is_task or not has_task):
        values = _with_part(values, "task", rest.pop(0))
    for kind in ("prior", "sampler"):
        if direct[kind] is not None:
            values = _with_part(values, kind, direct[kind])
    for setting in settings:
        values = with_setting(values, setting)
    values |= {name: direct[name] for name in _DIRECT if direct.get(name) is not None}
    if raw and recipe:
        _refuse_other_files(values, recipe, changed)
    files = [Path(word) for word in rest] or ([_input_again(raw, recipe)] if raw and recipe else [])
    return values, files


def resolve_recipe(values: Mapping[str, Any]) -> Recipe:
    """Return the complete, checked recipe."""
    from tiltkit.recon.recipe import resolve

    return resolve(values, call_plugins())


def _from_file(path: Path) -> tuple[dict[str, Any], Path | None]:
    """Read settings from a recipe or a result, and the input file of a result."""
    from tiltkit.config import read_toml
    from tiltkit.io.reading import read_provenance, read_recipe

    if not is_result_name(path):
        return read_toml(path), None
    raw = read_provenance(path).get("raw_path")
    return read_recipe(path), Path(raw) if raw else None


def is_result_name(path: Path) -> bool:
    """Return whether a file is a result, by suffix or content, and not a TOML file."""
    from tiltkit.io.reading import is_hdf5

    return path.suffix.lower() in (".h5", ".hdf5", ".nxs") or is_hdf5(path)


def _input_again(raw: Path, result: Path) -> Path:
    """Return the input file of a result; print a note if it has changed since.

    Raises:
        InputError: It does not exist.
    """
    from tiltkit.io.reading import read_provenance

    if not raw.exists():
        raise InputError(
            f"{raw}, the input of {result}, does not exist.",
            "give the current path of the scan as last argument.",
        )
    if read_provenance(result).get("raw_sha256") != digest(raw):
        log(f"Note: {raw} has changed since {result} was made from it.")
    return raw


def _refuse_other_files(values: Mapping[str, Any], result: Path, changed: Collection[str]) -> None:
    """Check that files named by options are those of the result, except for changed options.

    Raises:
        UsageError: A file has changed.
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
                    f"restore it, or use it as it is: -s {part}.{name}={path}",
                )


def _without_budget(values: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the sampler options that the quality preset of a result has set."""
    sampler = values["sampler"]
    presets = getattr(call_plugins().load("sampler", sampler["name"]), "presets", {})
    budget = {key for preset in presets.values() for key in preset}
    return {**values, "sampler": {k: v for k, v in sampler.items() if k not in budget}}


def _task_names() -> set[str]:
    return {entry.name for entry in call_plugins().entries("task")}


def _with_part(values: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    """Choose a part by name; options of another part in its place are dropped."""
    table = values.get(kind)
    same = isinstance(table, Mapping) and table.get("name") == name
    return {**values, kind: table if same else {"name": name}}
