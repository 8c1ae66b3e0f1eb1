"""The Python door: the same runs as the command line's, without leaving a trace in the caller."""

from __future__ import annotations

import ast
import asyncio
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import tiltkit
from tiltkit.config import Recipe
from tiltkit.errors import InputError, TiltkitError, UsageError
from tiltkit.io.disk import lock
from tiltkit.io.reading import read_recipe
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.operators.spectral import Dense
from tiltkit.plugins import load_plugins
from tiltkit.plugins.isolation import isolate
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.recon.recipe import resolve
from tiltkit.recon.scan import LevelDone, ScanDone, SliceDone, SliceStarted, run_scan
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions

from .cli.conftest import write_scan

# A run of about a second: a closed-form prior and a short ladder.
FAST: dict[str, Any] = {
    "prior": "gaussian",
    "samples": 3,
    "sampler": {"name": "twisted", "levels": 4, "collect": 1},
}
IMAGES = ("mean", "std", "samples", "baseline", "phase")


def reconstruct(scan: Path | str, **changes: Any) -> tiltkit.Result:
    return tiltkit.reconstruct("mri-recon", scan, **FAST | changes)


def assert_same_images(one: tiltkit.Result, other: tiltkit.Result) -> None:
    for name in IMAGES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan of two slices, alone in its folder."""
    folder = tmp_path / "input"
    folder.mkdir()
    return write_scan(folder / "scan.h5", 2)


def events_of(scan: Path, output: Path, **changes: Any):
    recipe = Recipe(task="mri-recon", **FAST | changes)
    return run_scan(
        recipe, load_plugins(), scan, output, resume=False, overwrite=False, command="test"
    )


def check_free(part: Path) -> None:
    """Raise `BlockingIOError` where a file is locked."""
    with part.open("r+b") as file:
        lock(file.fileno())


class TestImport:
    def test_it_is_cheap(self) -> None:
        script = (
            "import sys, tiltkit;"
            "heavy = {'torch', 'numpy', 'h5py', 'pydantic', 'click'} & sys.modules.keys();"
            "sys.exit(', '.join(heavy) or 0)"
        )
        subprocess.run([sys.executable, "-c", script], check=True)

    def test_public_names_show_and_are_there(self) -> None:
        assert set(tiltkit.__all__) <= set(dir(tiltkit))
        for name in tiltkit.__all__:
            assert getattr(tiltkit, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'reconstuct'"):
            tiltkit.reconstuct  # noqa: B018

    def test_type_checkers_find_all_public_names(self) -> None:
        tree = ast.parse(Path(tiltkit.__file__).read_text())
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        imported = {
            (node.module, alias.name)
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert imported == {(module, name) for name, module in tiltkit._PUBLIC.items()}
        assert {name for _, name in imported} | {"__version__"} == set(tiltkit.__all__)


class TestEvents:
    def test_the_callers_own_training_works_between_levels(
        self, scan: Path, tmp_path: Path
    ) -> None:
        net = torch.nn.Linear(3, 3)
        seen = set()
        for event in events_of(scan, tmp_path / "out.h5"):
            seen.add(type(event))
            assert not torch.is_inference_mode_enabled()
            net(torch.ones(2, 3)).sum().backward()
        assert {LevelDone, SliceDone, ScanDone} <= seen

    def test_a_recipe_that_is_not_resolved_takes_its_quality(
        self, scan: Path, tmp_path: Path
    ) -> None:
        levels = {}
        for quality in ("draft", "high"):
            out = tmp_path / f"{quality}.h5"
            with closing(events_of(scan, out, quality=quality, sampler="twisted")) as events:
                levels[quality] = next(e for e in events if isinstance(e, LevelDone)).n_levels
            assert read_recipe(out.with_name(f"{out.name}.part"))["quality"] == quality
        assert levels["draft"] < levels["high"]

    @pytest.mark.parametrize("leave", ["break", "error", "close"])
    def test_leaving_a_loop_early_unlocks_what_it_wrote(
        self, scan: Path, tmp_path: Path, leave: str
    ) -> None:
        def one_slice(events: Any) -> None:
            for event in events:
                if isinstance(event, SliceDone):
                    if leave == "error":
                        raise RuntimeError
                    break

        part = tmp_path / "out.h5.part"
        if leave == "close":
            with closing(events_of(scan, tmp_path / "out.h5")) as events:
                one_slice(events)
                with pytest.raises(BlockingIOError):
                    check_free(part)
        elif leave == "error":
            with pytest.raises(RuntimeError):
                one_slice(events_of(scan, tmp_path / "out.h5"))
        else:
            one_slice(events_of(scan, tmp_path / "out.h5"))
        check_free(part)


class TestReconstruct:
    def test_arrays_have_the_shapes_of_the_scan_and_nothing_is_written(self, scan: Path) -> None:
        before = Path.cwd()
        result = reconstruct(str(scan))
        for name in ("mean", "std", "baseline", "phase"):
            assert getattr(result, name).shape == (2, 40, 36)
        assert result.samples.shape == (3, 2, 40, 36)
        assert [axis.name for axis in result.axes] == ["z", "y", "x"]
        assert tuple(len(axis.coordinates) for axis in result.axes) == (2, 40, 36)
        assert len(result) == len(result.diagnostics) == 2
        assert list(scan.parent.iterdir()) == [scan]
        assert Path.cwd() == before

    def test_an_output_holds_what_memory_would(self, scan: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.h5"
        held, written = reconstruct(scan), reconstruct(scan, output=str(out))
        assert out.is_file()
        assert_same_images(held, written)
        assert held.settings == written.settings == read_recipe(out)
        assert held.axes[1].units == written.axes[1].units
        assert held.provenance["raw_sha256"] == written.provenance["raw_sha256"]
        for mine, stored in zip(held.diagnostics, written.diagnostics, strict=True):
            assert mine.keys() == stored.keys() - {"verdict"}
            assert mine["warnings"] == stored["warnings"]
            np.testing.assert_array_equal(mine["ess"], stored["ess"])
            assert mine["chi2"] == stored["chi2"]

    def test_a_result_in_memory_is_saved_as_the_command_writes_it(
        self, scan: Path, tmp_path: Path
    ) -> None:
        reconstruct(scan, output=tmp_path / "written.h5")
        reconstruct(scan).save(tmp_path / "saved.h5")
        with h5py.File(tmp_path / "written.h5") as a, h5py.File(tmp_path / "saved.h5") as b:
            names: list[str] = []
            a.visit(names.append)
            for name in names:
                assert name in b
                quantity = name.startswith(("entry/data", "entry/samples", "entry/quantiles"))
                if quantity and isinstance(a[name], h5py.Dataset):
                    np.testing.assert_array_equal(a[name][()], b[name][()])

    def test_settings_reach_the_recipe(self, scan: Path) -> None:
        result = tiltkit.reconstruct(
            {"name": "mri-recon", "crop": False}, scan,
            prior={"name": "gaussian", "amplitude": 0.5}, sampler="walmc", quality="draft",
            samples=np.int64(4), runs=2, seed=7, slices=[1], device="cpu", memory_gb=2,
            settings={"sampler.levels": 3, "sampler.collect": 1},
        )  # fmt: skip
        found = result.settings
        assert found["task"]["name"] == "mri-recon"
        assert found["task"]["crop"] is False
        assert found["prior"]["amplitude"] == 0.5
        assert (found["sampler"]["name"], found["sampler"]["levels"]) == ("walmc", 3)
        assert (found["samples"], found["runs"], found["seed"]) == (4, 2, 7)
        assert (found["slices"], found["device"], found["memory_gb"]) == ("1", "cpu", 2)
        assert result.mean.shape[0] == 1
        assert "rhat" in result.diagnostics[0]

    @pytest.mark.parametrize(
        ("slices", "text"), [(1, "1"), ((0, 1), "0,1"), (range(1), "0"), ("0:1", "0:1")]
    )
    def test_slices_may_be_numbers(self, scan: Path, slices: Any, text: str) -> None:
        assert reconstruct(scan, slices=slices).settings["slices"] == text

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"samples": "8"}, "setting samples is '8'"),
            ({"samples": 2.5}, "setting samples is 2.5"),
            ({"seed": True}, "setting seed is True"),
            ({"quality": "fast"}, "setting quality is 'fast'"),
            ({"slices": [0.5]}, r"slices \[0.5\]"),
            ({"slices": 9}, "slices '9' are not all in the file"),
            ({"prior": "gausian"}, "no prior 'gausian'"),
            ({"settings": {"sampler.levles": 3}}, "no option 'sampler.levles'"),
            ({"settings": {"levels": 3}}, "no setting 'levels'"),
            ({"settings": {"sampler.": 3}}, "key 'sampler.'"),
            ({"sampler": 3}, "setting sampler.name is 3|setting sampler is"),
            ({"resume": True}, "need an output"),
            ({"output": "nowhere/out.h5"}, "does not exist"),
        ],
    )
    def test_wrong_settings_are_named_as_on_the_command_line(
        self, scan: Path, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            reconstruct(scan, **changes)

    def test_a_missing_scan_is_an_input_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no file"):
            reconstruct(tmp_path / "absent.h5")

    def test_progress_gives_every_event(
        self, scan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        events: list[Any] = []
        reconstruct(scan, progress=events.append)
        assert [type(e) for e in events if not isinstance(e, LevelDone)] == [
            SliceStarted, SliceDone, SliceStarted, SliceDone, ScanDone,
        ]  # fmt: skip
        assert capsys.readouterr() == ("", "")
        reconstruct(scan, progress=True)
        assert "scan.h5" in capsys.readouterr().err

    def test_an_error_of_the_caller_keeps_finished_slices_for_resume(
        self, scan: Path, tmp_path: Path
    ) -> None:
        def stop(event: Any) -> None:
            if isinstance(event, SliceDone):
                raise RuntimeError

        out = tmp_path / "out.h5"
        with pytest.raises(RuntimeError) as kept:  # holds the frames, as a notebook does
            reconstruct(scan, output=out, progress=stop)
        check_free(out.with_name("out.h5.part"))
        resumed = reconstruct(scan, output=out, resume=True)
        assert kept
        assert_same_images(resumed, reconstruct(scan))
        with pytest.raises(UsageError, match="exists"):
            reconstruct(scan, output=out)
        reconstruct(scan, output=out, overwrite=True, seed=2)

    def test_no_global_state_changes(self, scan: Path) -> None:
        def state() -> tuple[Any, ...]:
            numbers = np.random.get_state()[1].sum()  # noqa: NPY002
            return (
                torch.get_rng_state().sum(), numbers, torch.get_default_dtype(),
                torch.get_num_threads(), torch.is_grad_enabled(), dict(os.environ), Path.cwd(),
                sys.stdout, sys.stderr,
            )  # fmt: skip

        before = state()
        reconstruct(scan, threads=2)
        reconstruct(scan, prior="mri.brain", slices=0)
        assert state() == before

    def test_threads_are_those_of_the_recipe_while_it_runs(self, scan: Path) -> None:
        seen = set()
        before = torch.get_num_threads()
        reconstruct(scan, threads=3, progress=lambda _: seen.add(torch.get_num_threads()))
        assert 3 in seen
        assert torch.get_num_threads() == before

    def test_a_running_event_loop_is_no_hindrance(self, scan: Path) -> None:
        async def cell() -> tiltkit.Result:
            return reconstruct(scan)

        assert asyncio.run(cell()).mean.shape == (2, 40, 36)


class TestParallel:
    def test_threads_give_what_single_runs_give(self, scan: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda seed: reconstruct(scan, seed=seed), (1, 2)))
        for seed, result in zip((1, 2), both, strict=True):
            assert_same_images(result, reconstruct(scan, seed=seed))

    def test_stdout_is_restored_after_plugins_ran_in_threads_that_overlap(self) -> None:
        before = sys.stdout
        first, second = isolate("a", "a"), isolate("b", "b")
        first.__enter__()
        second.__enter__()
        assert sys.stdout is sys.stderr
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert sys.stdout is before

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @pytest.mark.parametrize("method", ["spawn", "fork"])
    def test_worker_processes_give_what_this_one_gives(self, scan: Path, method: str) -> None:
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"no {method} on this system")
        call = partial(tiltkit.reconstruct, "mri-recon", str(scan), **FAST)
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            result = pool.submit(call).result(timeout=300)
        assert_same_images(result, reconstruct(scan))

    def test_events_recipes_and_results_pickle(self, scan: Path, tmp_path: Path) -> None:
        def copied(value: Any) -> Any:
            return pickle.loads(pickle.dumps(value))  # noqa: S301

        events = list(events_of(scan, tmp_path / "out.h5"))
        for event, copy in zip(events, copied(events), strict=True):
            assert type(copy) is type(event)
        assert copied(events[-1]) == events[-1]
        recipe = resolve({"task": "mri-recon", **FAST}, load_plugins())
        assert copied(recipe) == recipe
        written = tiltkit.load_result(tmp_path / "out.h5")
        assert_same_images(copied(written), written)
        assert len(pickle.dumps(written)) < 10_000, "images stay in the file"
        held = reconstruct(scan)
        assert_same_images(copied(held), held)


class TestResult:
    def test_a_file_is_read_when_images_are_used(self, result: Path) -> None:
        loaded = tiltkit.load_result(str(result))
        moved = result.rename(result.with_name("moved.h5"))
        with pytest.raises(InputError, match="no file"):
            _ = loaded.mean
        moved.rename(result)
        first = loaded.mean
        assert loaded.mean is first

    def test_it_holds_what_was_written(self, result: Path, outcome: Any) -> None:
        loaded = tiltkit.load_result(result)
        for index in range(3):
            wrote = outcome(index)
            for name in ("mean", "std", "baseline", "phase"):
                np.testing.assert_array_equal(getattr(loaded, name)[index], getattr(wrote, name))
            np.testing.assert_array_equal(loaded.samples[:, index], wrote.samples)
        assert [axis.units for axis in loaded.axes] == ["mm", "mm", "mm"]
        np.testing.assert_array_equal(loaded.axes[0].coordinates, [0, 5, 10])
        assert loaded.settings["task"]["maps"] == "espirit"
        assert loaded.provenance["versions"]["torch"] == "2.14.1"

    def test_saving_a_loaded_result_loses_nothing(self, result: Path, tmp_path: Path) -> None:
        loaded = tiltkit.load_result(result)
        loaded.save(tmp_path / "copy.h5")
        copy = tiltkit.load_result(tmp_path / "copy.h5")
        assert_same_images(copy, loaded)
        assert (copy.settings, copy.provenance) == (loaded.settings, loaded.provenance)
        assert repr(copy) == repr(loaded)
        with pytest.raises(UsageError, match="exists"):
            loaded.save(tmp_path / "copy.h5")
        loaded.save(tmp_path / "copy.h5", overwrite=True)

    def test_an_unfinished_result_says_how_many_slices_are_done(
        self, start: Any, outcome: Any
    ) -> None:
        with start() as writer:
            writer.write(0, outcome())
        with pytest.raises(InputError, match="1 of 3 slices"):
            tiltkit.load_result(writer.part)

    def test_quantiles_follow_the_rule_of_the_stored_ones(self, scan: Path) -> None:
        result = reconstruct(scan)
        stored = result._stored.image("quantiles")
        np.testing.assert_array_equal(result.quantiles([0.05, 0.5, 0.95]), stored)
        np.testing.assert_array_equal(result.quantiles(0.5), stored[1])
        # Three samples stand for the levels 1/4, 2/4 and 3/4.
        ordered = np.sort(result.samples, axis=0)
        np.testing.assert_array_equal(result.quantiles(0.25), ordered[0])
        np.testing.assert_allclose(
            result.quantiles(0.375), (ordered[0] + ordered[1]) / 2, rtol=1e-5, atol=1e-12
        )

    @pytest.mark.parametrize("q", [0, 1, -0.1, float("nan"), [0.5, 2.0], [[0.5]]])
    def test_quantile_levels_lie_between_0_and_1(self, result: Path, q: Any) -> None:
        with pytest.raises(UsageError, match="between 0 and 1"):
            tiltkit.load_result(result).quantiles(q)

    def test_a_single_sample_has_no_quantiles(self, scan: Path) -> None:
        assert np.isnan(reconstruct(scan, samples=1, slices=0).quantiles(0.5)).all()

    def test_it_becomes_a_dataset_with_coordinates_and_units(self, result: Path) -> None:
        pytest.importorskip("xarray")
        data = tiltkit.load_result(result).to_xarray()
        assert set(data.data_vars) == set(IMAGES)
        assert data["mean"].dims == ("z", "y", "x")
        assert data["samples"].dims == ("sample", "z", "y", "x")
        assert data["x"].attrs["units"] == "mm"
        assert data["phase"].attrs["units"] == "rad"
        assert float(data["z"][1]) == 5.0
        assert data.sel(z=5.0)["mean"].shape == (12, 10)

    def test_without_xarray_the_error_says_what_to_install(
        self, result: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "xarray", None)
        with pytest.raises(TiltkitError, match=r"pip install 'tiltkit\[xarray\]'"):
            tiltkit.load_result(result).to_xarray()

    def test_a_notebook_shows_pictures_and_warnings(self, scan: Path) -> None:
        result = reconstruct(scan)
        page = result._repr_html_()
        assert page.count("data:image/png;base64,") == 2
        assert "slice 2 of 2" in page
        assert result.warnings
        for warning in result.warnings:
            assert warning.code in page
            assert warning.text[:40] in page
        alone = reconstruct(scan, samples=1, slices=0)._repr_html_()
        assert alone.count("data:image/png") == 1, "one sample has no spread"

    def test_its_text_is_one_line(self, result: Path) -> None:
        text = repr(tiltkit.load_result(result))
        assert text == "<tiltkit.Result 'brain': 3 slices of 12 x 10, 4 samples, 0 warnings>"

    def test_titles_from_files_are_no_html(self, start: Any, outcome: Any, layout: Any) -> None:
        from dataclasses import replace

        with start(layout=replace(layout, title="<script>")) as writer:
            for index in range(3):
                writer.write(index, outcome(index))
            writer.finish()
        assert "<script>" not in tiltkit.load_result(writer.path)._repr_html_()


SHAPE = (1, 4, 5)
PRIOR_VAR, NOISE_VAR = 0.5, 0.25


def own_problem(dtype: torch.dtype = torch.float32, **changes: Any) -> Problem:
    """Noisy pixels under a Gaussian prior: posterior variance 1/6, mean 2/3 of the data."""
    prior = Mixture(
        torch.zeros(1, *SHAPE, dtype=dtype), PRIOR_VAR, torch.ones(1, dtype=dtype), (0.01, 20.0)
    )
    y = torch.linspace(-1, 1, 20, dtype=dtype).reshape(1, *SHAPE)
    operator = Pointwise(torch.ones(SHAPE, dtype=dtype))
    return Problem(prior, GaussianLikelihood(operator, y, NOISE_VAR), SHAPE, **changes)


class TestSample:
    def test_the_posterior_of_an_own_problem_is_the_exact_one(self) -> None:
        posterior = tiltkit.sample(own_problem(), n=2000, options={"levels": 30}, seed=3)
        exact = np.linspace(-1, 1, 20).reshape(1, 4, 5) * PRIOR_VAR / (PRIOR_VAR + NOISE_VAR)
        np.testing.assert_allclose(posterior.mean, exact, atol=0.05)
        np.testing.assert_allclose(posterior.std**2, 1 / 6, rtol=0.2)
        np.testing.assert_allclose(posterior.quantiles(0.5), exact, atol=0.06)
        assert posterior.samples.shape == (2000, 1, 4, 5)
        assert [axis.name for axis in posterior.axes] == ["slice", "y", "x"]
        assert posterior.settings["sampler"]["levels"] == 30

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_images_have_the_type_that_was_asked_for(self, dtype: torch.dtype) -> None:
        for asked in (dtype, None):
            posterior = tiltkit.sample(
                own_problem(dtype), n=3, dtype=asked, options={"levels": 4, "collect": 1}
            )
            for name in ("mean", "std", "samples", "baseline"):
                assert getattr(posterior, name).dtype == str(dtype).removeprefix("torch.")
        other = {torch.float32: torch.float64, torch.float64: torch.float32}[dtype]
        with pytest.raises(TiltkitError, match=r"prior.*(dtype|torch.float)"):
            tiltkit.sample(own_problem(dtype), n=3, dtype=other)

    def test_a_sampler_may_be_an_object(self) -> None:
        options = {"levels": 4, "collect": 1}
        named = tiltkit.sample(own_problem(), sampler="walmc", options=options, n=3)
        made = tiltkit.sample(
            own_problem(), sampler=Walmc(WalmcOptions.model_validate(options)), n=3
        )
        np.testing.assert_array_equal(named.samples, made.samples)
        assert made.settings["sampler"]["levels"] == 4
        with pytest.raises(UsageError, match="has its options already"):
            tiltkit.sample(own_problem(), sampler=Walmc(WalmcOptions()), options=options)

    def test_the_seed_is_all_that_chance_depends_on(self) -> None:
        def draw(seed: int) -> Any:
            return tiltkit.sample(own_problem(), n=3, seed=seed, options={"levels": 4}).samples

        torch.manual_seed(1)
        first = draw(5)
        torch.manual_seed(2)
        np.testing.assert_array_equal(draw(5), first)
        assert (draw(6) != first).any()

    def test_runs_give_r_hat_and_progress_gives_events(self) -> None:
        events: list[Any] = []
        posterior = tiltkit.sample(
            own_problem(), n=8, runs=2, options={"levels": 4}, progress=events.append
        )
        assert "rhat" in posterior.diagnostics[0]
        assert isinstance(events[0], SliceStarted)
        assert {type(event) for event in events[1:]} == {LevelDone}

    def test_a_slice_of_a_scan_gives_the_samples_of_the_scan(self, scan: Path) -> None:
        from tiltkit.config import split_table

        plugins = load_plugins()
        recipe = resolve({"task": "mri-recon", **FAST}, plugins)
        task = plugins.create("task", *split_table(recipe.task))
        prior = plugins.create("prior", *split_table(recipe.prior))
        with task.open(scan) as opened:
            problem = opened.problem(0, prior, torch.device("cpu"))
        alone = tiltkit.sample(problem, n=3, sampler="twisted", options={"levels": 4, "collect": 1})
        np.testing.assert_array_equal(alone.samples[:, 0], reconstruct(scan).samples[:, 0])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"n": "8"}, "setting n is '8'"),
            ({"n": 0}, "setting n is 0"),
            ({"seed": -1}, "setting seed is -1"),
            ({"n": 2, "runs": 3}, "3 runs cannot share 2 samples"),
            ({"memory_gb": 0}, "setting memory_gb is 0"),
            ({"sampler": "twistd"}, "no sampler 'twistd'"),
            ({"options": {"levles": 3}}, "no option 'sampler.levles'"),
        ],
    )
    def test_wrong_arguments_are_named(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            tiltkit.sample(own_problem(), **changes)

    def test_a_saved_posterior_has_a_report(self, tmp_path: Path) -> None:
        from tiltkit.report import write_report

        posterior = tiltkit.sample(own_problem(), n=4, options={"levels": 4})
        posterior.save(tmp_path / "own.h5")
        assert_same_images(tiltkit.load_result(tmp_path / "own.h5"), posterior)
        write_report(tmp_path / "own.h5", tmp_path / "own.html")
        assert (tmp_path / "own.html").stat().st_size > 1000


class TestProblem:
    def test_one_channel_is_shown_as_it_is_and_two_as_magnitude_and_phase(self) -> None:
        problem = own_problem()
        x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
        assert torch.equal(problem.to_image(x), x[:, 0])
        assert problem.phase is None
        pair = Problem(problem.prior, problem.likelihood, (2, 4, 5))
        z = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 5)
        assert torch.equal(pair.to_image(z), torch.full((1, 4, 5), 5.0))
        assert pair.phase is not None
        torch.testing.assert_close(pair.phase(z[0]), torch.full((4, 5), 0.9273), atol=1e-4, rtol=0)

    def test_an_own_way_to_images_has_no_phase_by_itself(self) -> None:
        problem = Problem(*(None, None), (2, 4, 5), to_image=lambda x: x[:, 0])  # type: ignore[arg-type]
        assert problem.phase is None

    def test_a_baseline_that_is_left_out_fits_the_data_best_along_the_backprojection(self) -> None:
        a = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
        truth = torch.linspace(0, 1, 20)
        likelihood = GaussianLikelihood(Dense(a, SHAPE), (a @ truth)[None], 0.1)
        problem = Problem(own_problem().prior, likelihood, SHAPE)
        base = tiltkit.sample(problem, n=2, options={"levels": 3}).baseline.reshape(20)
        back = (a.T @ (a @ truth)).numpy()
        assert np.corrcoef(base, back)[0, 1] == pytest.approx(1, abs=1e-5)
        left = (a @ truth).numpy() - a.numpy() @ base
        assert left @ (a.numpy() @ back) == pytest.approx(0, abs=1e-2)


def test_the_page_about_python_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[1] / "docs" / "python.md"
    write_scan(tmp_path / "scan.h5", 2)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, page, "exec"), names)  # noqa: S102
    share = re.search(r"(\d+)% of the pixels lie in their 90 % interval", capsys.readouterr().out)
    assert share
    assert 80 <= int(share[1]) <= 98
    assert_same_images(*names["results"])
    attributes = re.findall(r"`result\.(\w+)", page.read_text())
    assert set(attributes) > {"mean", "quantiles"}
    assert all(hasattr(names["result"], name) for name in attributes)
