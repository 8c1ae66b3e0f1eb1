from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tiltkit.config import Recipe, read_toml, suggest, validate, with_setting
from tiltkit.errors import UsageError
from tiltkit.recon.recipe import resolve


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    levels: int = Field(48, ge=2, description="noise levels")
    step: float = 0.5


class Choices(BaseModel):
    scale: Literal["subject", "all"] | float = 1.0
    names: list[str] = Field(["a"], min_length=1)
    code: str = Field("a", pattern="^[a-z]$", description="one letter")


class Plugins:
    """Just enough of a host: every part has the same options."""

    def load(self, kind: str, name: str) -> Any:
        return SimpleNamespace(
            default_prior="lab.prior", presets={"draft": {"levels": 12}}, Options=Options
        )

    def options(self, kind: str, name: str, values: dict[str, Any]) -> BaseModel:
        return validate(Options, values, kind)


def test_a_complete_recipe_has_every_option_filled_in() -> None:
    recipe = resolve({"task": "t", "sampler": {"name": "s", "levels": 9}}, Plugins())  # type: ignore[arg-type]
    assert recipe.prior == {"name": "lab.prior", "levels": 48, "step": 0.5}
    assert recipe.sampler == {"name": "s", "levels": 9, "step": 0.5}
    assert (recipe.samples, recipe.seed, recipe.device) == (16, 0, "auto")


def test_a_quality_sets_what_the_user_does_not() -> None:
    values = {"task": "t", "quality": "draft", "sampler": {"name": "s", "step": 0.1}}
    assert resolve(values, Plugins()).sampler == {"name": "s", "levels": 12, "step": 0.1}  # type: ignore[arg-type]
    values["sampler"] = {"name": "s", "levels": 7}
    recipe = resolve(values, Plugins())  # type: ignore[arg-type]
    assert recipe.sampler["levels"] == 7
    assert resolve(recipe.model_dump(), Plugins()) == recipe  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no setting for --quality high"):
        resolve({"task": "t", "quality": "high"}, Plugins())  # type: ignore[arg-type]


def test_a_resolved_recipe_resolves_to_itself() -> None:
    once = resolve({"task": "t", "seed": 4}, Plugins())  # type: ignore[arg-type]
    assert resolve(once.model_dump(), Plugins()) == once  # type: ignore[arg-type]


def test_a_reconstruction_without_a_prior_has_no_intervals_to_widen() -> None:
    values = {"task": "t", "baseline_only": True, "calibration": "c.json", "widen": True}
    recipe = resolve(values, Plugins())  # type: ignore[arg-type]
    assert (recipe.calibration, recipe.widen) == (None, False)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"sample": 3}, "no setting 'sample'.*\n.*did you mean 'samples'"),
        ({"samples": 0}, "samples is 0, but must be greater"),
        ({"samples": "many"}, "samples is 'many', but must be a valid integer"),
        ({"seed": -1}, "seed is -1"),
        ({"memory_gb": float("nan")}, "memory_gb is nan"),
        ({"sampler": 3}, "must be a name, or a table with a name"),
        ({"sampler": {"name": "s", "level": 3}}, "no option 'sampler.level'.*\n.*'levels'"),
        ({"sampler": {"name": "s", "levels": 1}}, "sampler.levels is 1, but must be greater"),
        ({"prior": 3}, "must be a name"),
        ({"task": 3}, "task is 3, but must be a name"),
        ({"levels": 9}, r"no setting 'levels'(.|\n)*did you mean sampler\.levels"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(
    values: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        resolve({"task": "t"} | values, Plugins())  # type: ignore[arg-type]
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"scale": []}, r"x\.scale is \[\], but must be 'subject' or 'all' or be a valid number"),
        ({"names": []}, r"x\.names is \[\], but must have at least 1 item"),
        ({"code": "AB"}, r"x\.code is 'AB', but must match pattern .*\n.*x\.code: one letter\."),
    ],
)
def test_every_kind_of_rule_reads_as_a_sentence(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        validate(Choices, values, "x")


def test_one_slice_may_be_a_number() -> None:
    assert resolve({"task": "t", "slices": 0}, Plugins()).slices == "0"  # type: ignore[arg-type]


def test_a_recipe_without_a_task_is_refused() -> None:
    with pytest.raises(UsageError, match="No task"):
        resolve({}, Plugins())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [("60", 60), ("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("walmc", "walmc"),
     ("0,3,5:9", "0,3,5:9"), ('"a=b"', "a=b"), ("", "")],
)  # fmt: skip
def test_settings_are_read_as_toml_or_text(text: str, value: object) -> None:
    assert with_setting({"a": 1}, f"sampler.levels={text}") == {
        "a": 1,
        "sampler": {"levels": value},
    }


def test_one_setting_leaves_the_others_and_the_original_alone() -> None:
    before = {"sampler": {"name": "walmc", "levels": 3}}
    after = with_setting(before, "sampler.step=0.1")
    assert after == {"sampler": {"name": "walmc", "levels": 3, "step": 0.1}}
    assert before == {"sampler": {"name": "walmc", "levels": 3}}
    assert with_setting({"prior": "tv"}, "prior.strength=2")["prior"] == {
        "name": "tv",
        "strength": 2,
    }


@pytest.mark.parametrize("setting", ["levels", "=3", "sampler.=3", ".x=3"])
def test_a_setting_of_another_form_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        with_setting({}, setting)


def test_a_recipe_file_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_toml(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(UsageError, match=r"bad\.toml is not valid TOML: .*line 1"):
        read_toml(tmp_path / "bad.toml")


def test_the_nearest_name_is_offered_only_when_there_is_one() -> None:
    assert suggest("walnc", ["almc", "walmc"]) == "did you mean 'walmc'? There are: almc, walmc."
    assert suggest("zzz", ["almc"]) == "there are: almc."
    assert suggest("zzz", []) == ""


def test_recipes_cannot_be_changed() -> None:
    recipe = Recipe.model_validate({"task": "t", "prior": "p", "sampler": "s"})
    with pytest.raises(ValueError, match="frozen"):
        recipe.samples = 3  # type: ignore[misc]


class Ordered(Options):
    high: float = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Ordered:
        if self.step > self.high:
            raise ValueError(f"step must be at most high, not {self.step}")
        return self


def test_a_rule_between_options_says_which_part_it_belongs_to() -> None:
    with pytest.raises(UsageError, match="options of prior do not fit together: step must be at"):
        validate(Ordered, {"step": 3.0}, "prior")


def test_no_more_runs_than_samples() -> None:
    with pytest.raises(UsageError, match="7 runs cannot share 6 samples"):
        resolve({"task": "t", "runs": 7, "samples": 6}, Plugins())  # type: ignore[arg-type]


class Reduced(Options):
    removed: ClassVar[dict[str, tuple[Any, str]]] = {"adapt": (False, "it gained nothing")}


def test_a_removed_option_is_an_error_with_the_reason() -> None:
    with pytest.raises(
        UsageError, match=r"sampler\.adapt was removed: it gained nothing"
    ) as caught:
        validate(Reduced, {"adapt": True}, "sampler")
    assert caught.value.hint == "leave it out."


def test_a_removed_option_at_its_former_default_changes_nothing() -> None:
    assert validate(Reduced, {"adapt": False, "levels": 9}, "sampler") == Reduced(levels=9)
