"""Results that release 0.1 wrote, before figures, options and modules were renamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiltkit import problem
from tiltkit.io.reading import read_estimate, read_recipe, read_slice_diagnostics
from tiltkit.plugins import load_plugins
from tiltkit.recon.recipe import resolve
from tiltkit.report import write_report

OLD = Path(__file__).parent / "data" / "result_0_1.h5"


def test_the_figures_of_an_old_result_have_their_current_names() -> None:
    found = read_slice_diagnostics(OLD, 0)
    assert found["residual_ratio_max"] == pytest.approx(4.99, abs=0.01)
    assert {"residual_ratio", "weight_power", "weight_power_min"} <= found.keys()
    assert not {"prior_misfit", "prior_misfit_max", "temper", "temper_min"} & found.keys()
    assert read_estimate(OLD, 0).samples.shape == (3, 24, 24)


def test_the_verdict_of_an_old_result_is_one_warning() -> None:
    (warning,) = read_slice_diagnostics(OLD, 0)["warnings"]
    assert warning.code == "legacy"
    assert "4.99" in warning.text


def test_an_old_result_has_a_page(tmp_path: Path) -> None:
    write_report(OLD, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "4.99" in page
    assert "as well as the noise" not in page


def test_the_settings_of_an_old_result_can_be_run_again_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="The option .* is now"):
        recipe = resolve(read_recipe(OLD), load_plugins())
    assert recipe.sampler["most_shared_ancestry"] == 0.3
    assert recipe.sampler["min_ess"] == 2
    assert recipe.sampler["difference_step"] == 0.4


def test_a_sampler_that_moved_to_another_package_is_found_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match=r"is now baselines\.pula"):
        assert load_plugins().get("sampler", "pula").name == "baselines.pula"


def test_protocols_that_moved_are_found_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match=r"tiltkit\.problem\.Task"):
        from tiltkit.protocols import Task
    assert Task is problem.Task
    with pytest.raises(ImportError):
        from tiltkit.protocols import Nothing  # type: ignore[attr-defined]  # noqa: F401
