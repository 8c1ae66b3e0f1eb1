"""Recipes: the settings of a run, read from TOML and ``key=value``, and their checks."""

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
    "split_table",
    "suggest",
    "read_toml",
    "validate",
    "with_setting",
    "with_value",
]

Model = TypeVar("Model", bound=BaseModel)


def _check_table(value: Any) -> Any:
    """Check a table with a name; ``prior = "tv"`` is short for ``prior = {name = "tv"}``."""
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ValueError("must be a name, or a table with a name")
    return dict(table)


def _number_as_text(value: Any) -> Any:
    """Convert a slice number to text, so that ``slices = 3`` is allowed."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _path_as_text(value: Any) -> Any:
    """Convert a path to text, absolute where the file exists, so that a run can be repeated."""
    if not isinstance(value, str | Path):
        return value
    return str(Path(value).resolve()) if Path(value).exists() else str(value)


Table = Annotated[dict[str, Any], BeforeValidator(_check_table)]


class Recipe(BaseModel):
    """All settings of a run; ``task``, ``prior`` and ``sampler`` have a name and options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Table
    prior: Table
    sampler: Table
    quality: Literal["draft", "standard", "high"] = Field(
        "standard", description="preset of the sampler, for options that are not set"
    )
    samples: int = Field(
        16, ge=1, le=100_000, strict=True, description="posterior samples per slice"
    )
    runs: int = Field(
        1, ge=1, le=1000, strict=True, description="independent runs that the samples are divided "
        "into; two or more give R-hat, and use as many devices",
    )  # fmt: skip
    test_shares: bool = Field(
        False, description="test the shares of separate explanations among the samples by posterior"
        " simulation-based calibration, which costs 32 further runs"
    )  # fmt: skip
    baseline_only: bool = Field(
        False, description="reconstruct without a prior (zero-filled, filtered back-projection,"
        " ...), without samples",
    )  # fmt: skip
    seed: int = Field(
        0, ge=0, lt=2**63, strict=True, description="the same seed gives the same samples"
    )
    slices: Annotated[str | None, BeforeValidator(_number_as_text)] = Field(
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

    calibration: Annotated[str | None, BeforeValidator(_path_as_text)] = Field(
        None, description="calibration file that the result cites; it must be of the same task,"
        " prior and sampler settings"
    )  # fmt: skip
    widen: bool = Field(
        False, description="widen the stored intervals by the calibration's conformal factors"
    )

    @property
    def files(self) -> dict[str, dict[str, Path]]:
        """Paths among the options, by part of the recipe and option name."""
        parts = {"task": self.task, "prior": self.prior, "sampler": self.sampler}
        return {
            part: {name: value for name, value in options.items() if isinstance(value, Path)}
            for part, options in parts.items()
        }


def read_toml(path: Path) -> dict[str, Any]:
    """Read the settings of a TOML file.

    Raises:
        UsageError: The file cannot be read, or is not valid TOML.
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
            f"The recipe {path} is not valid TOML: {error}.", "correct it there."
        ) from error


def with_setting(values: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """Return settings with one ``key=value`` or ``table.key=value`` changed.

    The value is read as TOML (``60``, ``0.1``, ``true``, ``"text"``), else as a plain text.

    Raises:
        UsageError: ``setting`` is not of that form.
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
    """Return settings with the value of one key, such as ``sampler.levels``, changed.

    Raises:
        UsageError: The key is empty or has an empty part.
    """
    parts = key.split(".")
    if not all(parts):
        raise UsageError(f"The key {key!r} has an empty part.", "write for example sampler.levels.")
    return _set(values, parts, value)


def split_table(table: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Split a table of a recipe into name and options."""
    return table["name"], {key: value for key, value in table.items() if key != "name"}


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Create an options model from plain values.

    Args:
        model: Class of the model.
        values: Options by name.
        where: Prefix of option names in messages, such as ``sampler``; empty at the top level.

    Raises:
        UsageError: An unknown option (the hint has the nearest one), or a value that is not
            allowed.
    """
    try:
        return model.model_validate(_with_current_names(model, values, where))
    except ValidationError as error:
        raise UsageError(*_explain(error.errors(), model, where)) from None


def _with_current_names(
    model: type[BaseModel], values: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Replace former names of options by the current ones, with a warning for each.

    A model lists them as ``renamed: ClassVar[dict[str, str]]``, old name to new name. It lists
    options without a successor as ``removed: ClassVar[dict[str, tuple[Any, str]]]``, name to former
    default and reason. The former default, which stored recipes hold, is left out.

    Raises:
        UsageError: A removed option has another value than its former default.
    """
    removed: Mapping[str, tuple[Any, str]] = getattr(model, "removed", {})
    for name in removed.keys() & values.keys():
        default, reason = removed[name]
        if values[name] != default:
            full = f"{where}.{name}" if where else name
            raise UsageError(f"The option {full} was removed: {reason}.", "leave it out.")
    values = {name: value for name, value in values.items() if name not in removed}
    names: Mapping[str, str] = getattr(model, "renamed", {})
    for old in names.keys() & values.keys():
        text = f"The option {old} is now {names[old]}; release 0.3 will remove the old name."
        warnings.warn(text, FutureWarning, stacklevel=3)
    return {names.get(name, name): value for name, value in values.items()}


def suggest(name: str, names: Iterable[str]) -> str:
    """Return a hint for an unknown name, ``did you mean ...? There are: ...``.

    Args:
        name: The unknown name.
        names: All existing names; the hint is empty if there are none.
    """
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    there = f"there are: {', '.join(known)}." if known else ""
    return f"did you mean {close[0]!r}? {there[0].upper()}{there[1:]}" if close else there


def _explain(errors: Sequence[ErrorDetails], model: type[BaseModel], where: str) -> tuple[str, str]:
    """Return message and hint for the first wrong setting."""
    error = errors[0]
    path = [str(part) for part in error["loc"]]
    # A field of several types has one error for each type.
    same = [
        one for one in errors
        if one["loc"][:1] == error["loc"][:1] and one["input"] is error["input"]
    ]  # fmt: skip
    path = path[:1] if len(same) > 1 else path
    name = ".".join([where, *path] if where else path)
    if error["type"] == "extra_forbidden":
        what = "option" if where else "setting"
        return f"There is no {what} {name!r}.", suggest(path[-1], model.model_fields)
    if error["type"] == "missing":
        return f"The setting {name!r} is missing.", f"set it with -s {name}=VALUE."
    if not path:  # a rule between several options
        text = error["msg"].removeprefix("Value error, ")
        return (
            f"The options of {where or 'the recipe'} do not fit together: {text}.",
            "change one of them.",
        )
    must = " or ".join(dict.fromkeys(_requirement(one["msg"]) for one in same))
    field = model.model_fields.get(path[0])
    about = f"{name}: {field.description}." if field and field.description else ""
    hint = about or "correct it in the recipe or with -s."
    return f"The setting {name} is {error['input']!r}, but must {must}.", hint


def _requirement(text: str) -> str:
    """Turn pydantic's ``Input should be ...`` into the end of ``must be ...``."""
    text = text.removeprefix("Value error, ").removeprefix("must ")
    _, should, rule = text.partition(" should ")
    return rule if should else text if text.startswith("be ") else f"be {text}"


def as_table(value: Any) -> dict[str, Any]:
    """Return a table of a recipe; a bare name becomes a table with that name."""
    if isinstance(value, str):
        return {"name": value}
    return dict(value) if isinstance(value, Mapping) else {"name": value}


def _set(values: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return {**values, first: value}
    inner = as_table(values.get(first, {}))
    return {**values, first: _set(inner, rest, value)}
