"""Recipes: the settings of a run, from TOML and ``key=value``, checked with helpful errors."""

from __future__ import annotations

import difflib
import tomllib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


__all__ = [
    "Recipe",
    "Table",
    "as_table",
    "named",
    "nearest",
    "read_toml",
    "validated",
    "with_setting",
    "with_value",
]

Model = TypeVar("Model", bound=BaseModel)


def _table(value: Any) -> Any:
    """``prior = "tv"`` is short for ``[prior]`` with ``name = "tv"``."""
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ValueError("must be a name, or a table with a name")
    return dict(table)


def _text(value: Any) -> Any:
    """One slice may be written as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Table = Annotated[dict[str, Any], BeforeValidator(_table)]


class Recipe(BaseModel):
    """All settings of a run; ``task``, ``prior`` and ``sampler`` hold a name and their options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Table
    prior: Table
    sampler: Table
    quality: Literal["draft", "standard", "high"] = Field(
        "standard", description="budget of the sampler, for what its options do not set"
    )
    samples: int = Field(
        16, ge=1, le=100_000, strict=True, description="posterior samples per slice"
    )
    runs: int = Field(
        1, ge=1, le=1000, strict=True, description="independent runs that the samples are divided "
        "into; two or more give R-hat, and use as many devices",
    )  # fmt: skip
    seed: int = Field(
        0, ge=0, lt=2**63, strict=True, description="the same seed gives the same samples"
    )
    slices: Annotated[str | None, BeforeValidator(_text)] = Field(
        None, description="slices to do, such as 0,3,5:9; all when unset"
    )
    device: str = Field("auto", description="auto, cpu, cuda, or several as cuda:0,cuda:1")
    memory_gb: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="memory for samples handled side by side"
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="threads of the CPU; when unset, the command line takes"
        " all processors that it may use, and Python calls leave torch as it is"
    )  # fmt: skip

    swmr: bool = Field(
        False, description="read an HDF5 file that its writer has open in SWMR mode as it stands"
    )

    @property
    def files(self) -> dict[str, dict[str, Path]]:
        """Files that options name, by part of the recipe and option."""
        parts = {"task": self.task, "prior": self.prior, "sampler": self.sampler}
        return {
            part: {name: value for name, value in options.items() if isinstance(value, Path)}
            for part, options in parts.items()
        }


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        UsageError: No such file, or no valid TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(
            f"The recipe {path} cannot be read: {error.strerror}.", "check its name and folder."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The recipe {path} is not valid TOML: {error}.", "correct it at that place."
        ) from error


def with_setting(values: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """Settings with one ``key=value`` or ``table.key=value`` changed.

    The value is read as TOML (``60``, ``0.1``, ``true``, ``"text"``); what is no TOML is a text.

    Raises:
        UsageError: Not of that form.
    """
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(
            f"The setting {setting!r} is not of the form key=value.",
            "write for example -s sampler.levels=60.",
        )
    try:
        value = tomllib.loads(f"x = {text.strip()}")["x"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return _set(values, parts, value)


def with_value(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Settings with that of one key, such as ``sampler.levels``, changed.

    Raises:
        UsageError: The key is no name, or has an empty part.
    """
    parts = key.split(".")
    if not all(parts):
        raise UsageError(f"The key {key!r} is no setting.", "write for example sampler.levels.")
    return _set(values, parts, value)


def named(table: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and options of a table of a recipe."""
    return table["name"], {key: value for key, value in table.items() if key != "name"}


def validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """An options model from plain values.

    Args:
        model: The model.
        values: What the user gave.
        where: Prefix of the names in messages, such as ``sampler``; empty at the top level.

    Raises:
        UsageError: An unknown option (names the nearest one) or a value that is not allowed.
    """
    try:
        return model.model_validate(_renamed(model, values))
    except ValidationError as error:
        raise UsageError(*_explained(error.errors(), model, where)) from None


def _renamed(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their present names, with a warning for those under a former name.

    A model says which they were: ``renamed: ClassVar[dict[str, str]]``, old name to new one.
    """
    names: Mapping[str, str] = getattr(model, "renamed", {})
    for old in names.keys() & values.keys():
        text = f"The option {old} is now called {names[old]}; the old name goes with release 0.3."
        warnings.warn(text, FutureWarning, stacklevel=3)
    return {names.get(name, name): value for name, value in values.items()}


def nearest(name: str, names: Iterable[str]) -> str:
    """``did you mean ...? There are: ...`` for a name that does not exist; empty without names."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    there = f"there are: {', '.join(known)}." if known else ""
    return f"did you mean {close[0]!r}? {there[0].upper()}{there[1:]}" if close else there


def _explained(
    errors: Sequence[ErrorDetails], model: type[BaseModel], where: str
) -> tuple[str, str]:
    """Message and hint of the first setting that is wrong."""
    error = errors[0]
    path = [str(part) for part in error["loc"]]
    # Of a value that may be one of several things, every one of them has its own error.
    same = [
        one for one in errors
        if one["loc"][:1] == error["loc"][:1] and one["input"] is error["input"]
    ]  # fmt: skip
    path = path[:1] if len(same) > 1 else path
    name = ".".join([where, *path] if where else path)
    if error["type"] == "extra_forbidden":
        what = "option" if where else "setting"
        return f"There is no {what} {name!r}.", nearest(path[-1], model.model_fields)
    if error["type"] == "missing":
        return f"The setting {name!r} is missing.", f"set it with -s {name}=VALUE."
    if not path:  # a rule between several options
        text = error["msg"].removeprefix("Value error, ")
        return (
            f"The options of {where or 'the recipe'} do not fit together: {text}.",
            "correct them.",
        )
    must = " or ".join(dict.fromkeys(_must(one["msg"]) for one in same))
    field = model.model_fields.get(path[0])
    about = f"{name}: {field.description}." if field and field.description else ""
    hint = about or "correct it in the recipe or with -s."
    return f"The setting {name} is {error['input']!r}, but must {must}.", hint


def _must(text: str) -> str:
    """What a value must do, from what pydantic says that it should."""
    text = text.removeprefix("Value error, ").removeprefix("must ")
    _, should, rule = text.partition(" should ")
    return rule if should else text if text.startswith("be ") else f"be {text}"


def as_table(value: Any) -> dict[str, Any]:
    """A table of a recipe; a bare name is short for a table with that name."""
    if isinstance(value, str):
        return {"name": value}
    return dict(value) if isinstance(value, Mapping) else {"name": value}


def _set(values: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        # A new name for a part keeps no options of the old one.
        return {**values, first: value}
    inner = as_table(values.get(first, {}))
    return {**values, first: _set(inner, rest, value)}
