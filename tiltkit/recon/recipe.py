"""Completion of a recipe: defaults, presets, every option of every part."""

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

DEFAULT_SAMPLER = "moments"


class _Task(BaseModel):
    """The task of a recipe, which has a default prior."""

    task: Table


def resolve(values: Mapping[str, Any], plugins: Plugins) -> Recipe:
    """Complete a recipe: the default prior of the task if none is named, a value for every option.

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
    _check_misplaced(filled, plugins)
    recipe = validate(Recipe, filled, "")
    if recipe.baseline_only:
        alone = {"samples": 1, "runs": 1, "test_shares": False, "calibration": None, "widen": False}
        recipe = recipe.model_copy(update=alone)
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
    """Convert paths to absolute ones, so that a run can be repeated from another folder."""
    return {
        name: value.resolve() if isinstance(value, Path) and value.exists() else value
        for name, value in options.items()
    }


def _check_misplaced(values: Mapping[str, Any], plugins: Plugins) -> None:
    """Check that no option of a part is at the top level, outside of its table.

    Raises:
        UsageError: There is one; the hint has its place.
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
    """Sampler options of a quality preset."""
    presets = getattr(sampler, "presets", {})
    if quality != "standard" and quality not in presets:
        raise UsageError(
            f"The sampler {name} has no setting for --quality {quality}.",
            f"set its options; see 'tiltkit list sampler {name}'.",
        )
    return dict(presets.get(quality, {}))
