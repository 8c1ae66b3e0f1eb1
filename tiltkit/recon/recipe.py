"""From what the user wrote to a complete recipe: defaults, presets, every option of every part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from tiltkit.config import Recipe, Table, as_table, split_table, validate
from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from tiltkit.plugins import Plugins

__all__ = ["resolve"]

DEFAULT_SAMPLER = "twisted"


class _Task(BaseModel):
    """The part of a recipe that says which prior is meant where none is named."""

    task: Table


def resolve(values: Mapping[str, Any], plugins: Plugins) -> Recipe:
    """The complete recipe: the task's own prior where none is named, every option filled in.

    Raises:
        UsageError: A setting, a name or an option that does not exist or has a wrong value.
    """
    if "task" not in values:
        raise UsageError("No task is named.", "see what there is with 'tiltkit list task'.")
    filled = dict(values)
    filled["sampler"] = {"name": DEFAULT_SAMPLER, **as_table(filled.get("sampler", {}))}
    if "name" not in as_table(filled.get("prior", {})):
        task = plugins.load("task", validate(_Task, {"task": filled["task"]}, "").task["name"])
        filled["prior"] = {"name": task.default_prior, **as_table(filled.get("prior", {}))}
    _refuse_lost(filled, plugins)
    recipe = validate(Recipe, filled, "")
    if recipe.runs > recipe.samples:
        raise UsageError(
            f"{recipe.runs} runs cannot share {recipe.samples} samples.",
            "ask for as many samples as runs, or more.",
        )
    complete = {}
    for kind in ("task", "prior", "sampler"):
        name, options = split_table(getattr(recipe, kind))
        if kind == "sampler":
            options = {**_preset(plugins.load(kind, name), name, recipe.quality), **options}
        checked = plugins.options(kind, name, options)
        complete[kind] = {"name": name, **_absolute(checked.model_dump())}
    return recipe.model_copy(update=complete)


def _absolute(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with files by their full names: a result may be repeated from another folder."""
    return {
        name: value.resolve() if isinstance(value, Path) and value.exists() else value
        for name, value in options.items()
    }


def _refuse_lost(values: Mapping[str, Any], plugins: Plugins) -> None:
    """An option that stands outside of its table is not the nearest setting.

    Raises:
        UsageError: There is one.
    """
    for key in sorted(values.keys() - Recipe.model_fields.keys()):
        for kind in ("sampler", "task", "prior"):
            name = str(as_table(values.get(kind, {})).get("name", ""))
            if name and key in getattr(plugins.load(kind, name), "Options", Recipe).model_fields:
                raise UsageError(
                    f"There is no setting {key!r}.",
                    f"did you mean {kind}.{key}, which the {kind} {name} has?",
                )


def _preset(sampler: Any, name: str, quality: str) -> dict[str, Any]:
    """What a quality means for a sampler."""
    presets = getattr(sampler, "presets", {})
    if quality != "standard" and quality not in presets:
        raise UsageError(
            f"The sampler {name} has no setting for --quality {quality}.",
            f"set its options; see 'tiltkit list sampler {name}'.",
        )
    return dict(presets.get(quality, {}))
