from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from tiltkit.errors import InputError, OutputLockedError, TiltkitError, UsageError
from tiltkit.io.reading import read_slice_diagnostics
from tiltkit.io.result import (
    ResultWriter,
    read_estimate,
    read_provenance,
    read_recipe,
    result_shape,
)
from tiltkit.posterior.outcome import Outcome
from tiltkit.posterior.verdict import BandCheck
from tiltkit.posterior.warnings import Caution
from tiltkit.problem import Note
from tiltkit.protocols import Axis, Layout

Start = Callable[..., ResultWriter]
Make = Callable[..., Outcome]


def run_tool(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_images_and_diagnostics_are_read_back_as_written(result: Path, outcome: Make) -> None:
    wrote, read = outcome(1), read_estimate(result, 1)
    for name in ("mean", "std", "samples", "baseline"):
        np.testing.assert_array_equal(getattr(read, name), getattr(wrote, name))
    assert read.quantiles.keys() == wrote.quantiles.keys()
    np.testing.assert_array_equal(read.quantiles[0.95], wrote.quantiles[0.95])
    np.testing.assert_array_equal(read.diagnostics["ess"], wrote.diagnostics["ess"])
    assert read.diagnostics["verdict"] == "ok"
    assert read.diagnostics["network_calls"] == 98


def test_settings_and_provenance_survive(result: Path) -> None:
    assert read_recipe(result)["task"] == {"name": "mri-recon", "maps": "espirit"}
    assert read_provenance(result)["versions"]["torch"] == "2.14.1"
    assert read_provenance(result)["plugins"] == {"tiltkit-mri": "0.1.0"}
    assert result_shape(result) == (3, 12, 10)
    with h5py.File(result) as file:
        assert file["entry/scan_header/ismrmrd_header"].asstr()[()] == "<xml/>"
        assert file["entry/scan_header/scanner/field_t"][()] == 3.0


def test_viewers_open_the_posterior_mean_first(result: Path) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata")
    with h5py.File(result) as file:
        plot = nxdata.get_default(file)
        assert plot is not None
        assert plot.is_valid, plot.issues
        assert plot.signal.name == "/entry/data/data"
        assert [axis.name.rsplit("/", 1)[1] for axis in plot.axes] == ["z", "y", "x"]


@pytest.mark.parametrize(
    "group", ["data", "uncertainty", "samples", "quantiles", "baseline", "phase", "ladder"]
)
def test_every_quantity_plots_by_itself(result: Path, group: str) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata")
    with h5py.File(result) as file:
        plot = nxdata.NXdata(file["entry"][group])
        assert plot.is_valid, plot.issues


@pytest.mark.parametrize("phase", [True, False])
def test_the_nexus_checker_finds_no_error(start: Start, outcome: Make, phase: bool) -> None:
    pytest.importorskip("nexusformat")
    changes = {} if phase else {"phase": None}
    with start() as writer:
        for index in range(3):
            writer.write(index, outcome(index, levels=5 + index, **changes))
        writer.finish()
        path = writer.path
    report = run_tool("nexusformat.scripts.nxcheck", str(path))
    assert re.search(r"Total number of errors: 0\b", report.stdout), report.stdout
    assert re.search(r"Total number of warnings: 0\b", report.stdout), report.stdout


def test_chexus_finds_no_error(result: Path) -> None:
    pytest.importorskip("chexus")
    report = run_tool("chexus", "--exit-on-fail", "--ignore-missing", str(result))
    assert report.returncode == 0, report.stdout


def test_ladders_of_different_lengths_are_kept_apart(start: Start, outcome: Make) -> None:
    with start() as writer:
        for index, levels in enumerate((9, 4, 70)):
            writer.write(index, outcome(index, levels=levels))
        writer.finish()
    for index, levels in enumerate((9, 4, 70)):
        assert len(read_estimate(writer.path, index).diagnostics["noise_level"]) == levels


def test_a_diagnostic_that_one_slice_lacks_is_absent_there(start: Start, outcome: Make) -> None:
    with start() as writer:
        writer.write(0, outcome(diagnostics={"chi2": 1.0}))
        writer.write(1, outcome(diagnostics={"measured": 0.5, "verdict": "ok"}))
        writer.write(2, outcome(diagnostics={"measured": None}))
        writer.finish()
    found = [dict(read_estimate(writer.path, index).diagnostics) for index in range(3)]
    assert found == [{"chi2": 1.0}, {"measured": 0.5, "verdict": "ok"}, {}]


def test_an_unfinished_result_does_not_have_the_final_name(start: Start, outcome: Make) -> None:
    with start() as writer:
        writer.write(0, outcome())
        assert not writer.path.exists()
        with pytest.raises(TiltkitError, match="2 of 3 slices"):
            writer.finish()
    assert not writer.path.exists()
    assert writer.part.exists()


def test_a_run_that_finished_no_slice_leaves_nothing(tmp_path: Path, start: Start) -> None:
    with pytest.raises(KeyboardInterrupt), start():
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_result_equals_an_uninterrupted_one(
    result: Path, start: Start, outcome: Make
) -> None:
    whole = [read_estimate(result, index) for index in range(3)]
    result.unlink()
    with start() as writer:
        writer.write(1, outcome(1))
    with start(resume=True) as writer:
        assert writer.finished == {1}
        writer.write(0, outcome(0))
        writer.write(2, outcome(2))
        writer.finish()
    for index, before in enumerate(whole):
        after = read_estimate(result, index)
        np.testing.assert_array_equal(after.samples, before.samples)
        np.testing.assert_array_equal(after.diagnostics["ess"], before.diagnostics["ess"])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"recipe": {"seed": 2}}, "seed"),
        ({"recipe": {"task": {"name": "mri-recon", "maps": "given"}}}, "task.maps"),
        ({"provenance": {"raw_sha256": "cd" * 32}}, "another input file"),
    ],
)
def test_another_run_is_not_mixed_into_an_unfinished_one(
    start: Start, outcome: Make, changes: dict, complaint: str, recipe: dict, provenance: dict
) -> None:
    with start() as writer:
        writer.write(0, outcome())
    arguments = {
        "recipe": recipe | changes.get("recipe", {}),
        "provenance": provenance | changes.get("provenance", {}),
    }
    with pytest.raises(UsageError, match=complaint):
        start(resume=True, **arguments)


def test_the_device_may_change_on_resume(start: Start, outcome: Make, recipe: dict) -> None:
    with start() as writer:
        writer.write(0, outcome())
    with start(resume=True, recipe=recipe | {"device": "cuda", "memory_gb": 4.0}) as writer:
        assert writer.finished == {0}


def test_an_existing_result_is_kept_until_the_new_one_is_complete(
    result: Path, start: Start, outcome: Make
) -> None:
    with pytest.raises(UsageError, match="exists"):
        start()
    before = result.read_bytes()
    with start(overwrite=True) as writer:
        for index in range(3):
            writer.write(index, outcome(9))
        assert result.read_bytes() == before
        writer.finish()
    np.testing.assert_array_equal(read_estimate(result, 0).mean, outcome(9).mean)


def test_finished_slices_of_a_stopped_run_are_replaced_with_overwrite_only(
    start: Start, outcome: Make
) -> None:
    with start() as writer:
        writer.write(0, outcome())
    with pytest.raises(UsageError, match="--resume"):
        start()
    with start(overwrite=True) as writer:
        assert writer.finished == frozenset()


def test_two_runs_cannot_write_the_same_result(start: Start, outcome: Make) -> None:
    script = "import h5py, sys, time; f = h5py.File(sys.argv[1], 'r+'); print(flush=True); input()"
    with start() as writer:
        writer.write(0, outcome())
    with subprocess.Popen(
        [sys.executable, "-c", script, str(writer.part)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for how in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(TiltkitError, match=r"another (process|program)"):
                start(**how)
        other.communicate("\n")


def test_two_runs_cannot_write_the_same_result_where_hdf5_takes_no_locks(
    start: Start, outcome: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h5py, "File", partial(h5py.File, locking=False))
    with start() as writer:
        writer.write(0, outcome())
        for how in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(OutputLockedError, match="another process"):
                start(**how)
        writer.write(1, outcome(1))
    np.testing.assert_array_equal(read_estimate(writer.part, 1).mean, outcome(1).mean)
    with start(resume=True) as writer:
        assert writer.finished == {0, 1}


WRITE_FOREVER = """
    import sys
    from pathlib import Path
    import numpy as np
    from tiltkit.io.result import ResultWriter
    from tiltkit.protocols import Axis, Layout
    from tiltkit.posterior.outcome import Outcome

    n, size, samples = 400, 64, 8
    axes = tuple(Axis(name, range(k)) for name, k in zip("zyx", (n, size, size)))
    layout = Layout(axes=axes)
    image = np.ones((size, size), np.float32)
    with ResultWriter.open(
        Path(sys.argv[1]), layout=layout, samples=samples, recipe={"seed": 0},
        provenance={}, resume=len(sys.argv) > 2, overwrite=False,
    ) as writer:
        for i in sorted(set(range(n)) - writer.finished):
            x = image * (i + 1)
            ladder = np.full(5 + i % 3, i + 1.0)
            writer.write(i, Outcome(
                mean=x, std=x, quantiles={0.05: x, 0.5: x, 0.95: x},
                samples=np.stack([x] * samples), baseline=x, phase=None,
                diagnostics={"ess": ladder, "chi2": i + 1.0},
            ))
            print(i, flush=True)
        writer.finish()
"""


@pytest.mark.parametrize("kill_after", [1, 20, 57])
def test_every_finished_slice_survives_a_kill(tmp_path: Path, kill_after: int) -> None:
    out, script = tmp_path / "out.h5", textwrap.dedent(WRITE_FOREVER)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        reported = [int(child.stdout.readline()) for _ in range(kill_after)]
        child.send_signal(signal.SIGKILL)
    part = tmp_path / "out.h5.part"
    assert not out.exists()
    for index in reported:
        estimate = read_estimate(part, index)
        assert (estimate.samples == index + 1).all()
        assert (estimate.diagnostics["ess"] == index + 1).all()
    subprocess.run([sys.executable, "-c", script, str(out), "resume"], check=True, stdout=-3)
    assert not part.exists()
    assert (read_estimate(out, 399).mean == 400).all()


@pytest.mark.parametrize("megabytes", [0.1, 3.0])
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, megabytes: float
) -> None:
    limit = f"""
        import resource
        size = int({megabytes} * 1e6)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    """
    script = textwrap.dedent(limit) + textwrap.dedent(WRITE_FOREVER)
    command = [sys.executable, "-c", script, str(tmp_path / "out.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MachineError: There is not enough disk space" in done.stderr
    assert "about 98 MB" in done.stderr
    assert done.stdout == "", "no work starts when the result cannot fit"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(start: Start, tmp_path: Path, layout: Layout) -> None:
    from tiltkit.io.result import check_output

    with pytest.raises(UsageError, match="does not exist"):
        check_output(tmp_path / "nowhere" / "out.h5", overwrite=False, resume=False)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        check_output(file / "out.h5", overwrite=False, resume=False)
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path, overwrite=True, resume=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="as a user, the real permission is tested below")
def test_a_read_only_folder_is_refused_as_root(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(UsageError, match="read-only"):
        start()


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_folder_is_refused(start: Start, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UsageError, match="read-only"):
            start()
    finally:
        tmp_path.chmod(0o700)


def test_reading_a_missing_slice_is_an_error(start: Start, outcome: Make) -> None:
    with start() as writer:
        writer.write(0, outcome())
    with pytest.raises(InputError, match="not finished"):
        read_estimate(writer.part, 1)
    with pytest.raises(InputError, match="no slice 3"):
        read_estimate(writer.part, 3)


def test_other_files_are_not_taken_for_results(tmp_path: Path) -> None:
    text, other = tmp_path / "a.h5", tmp_path / "b.h5"
    text.write_text("hello")
    h5py.File(other, "w").close()
    with pytest.raises(InputError, match="not an HDF5 file"):
        read_recipe(text)
    with pytest.raises(InputError, match="not a result"):
        read_recipe(other)
    with pytest.raises(InputError, match="no file"):
        read_recipe(tmp_path / "c.h5")


def test_a_flipped_byte_is_detected(result: Path) -> None:
    with h5py.File(result) as file:
        offset = file["entry/data/data"].id.get_chunk_info(0).byte_offset
    damaged = bytearray(result.read_bytes())
    damaged[offset + 10] ^= 0xFF
    result.write_bytes(damaged)
    with pytest.raises(InputError, match="damaged"):
        read_estimate(result, 0)


def test_axes_keep_their_units(tmp_path: Path, start: Start, outcome: Make) -> None:
    layout = Layout(
        axes=(Axis("angle", [0], "deg"), Axis("y", range(12), "px"), Axis("x", range(10), "px")),
        units="1/mm",
    )
    with start(layout=layout) as writer:
        writer.write(0, outcome())
        writer.finish()
    with h5py.File(writer.path) as file:
        assert list(file["entry/data"].attrs["axes"]) == ["angle", "y", "x"]
        assert file["entry/samples/angle"].attrs["units"] == "deg"
        assert file["entry/data/data"].attrs["units"] == "1/mm"


def test_warnings_and_notes_are_read_back_as_they_were_written(start: Start, outcome: Make) -> None:
    warnings = (Caution("data_fit_wide", "χ² is low.", 0.5, 0.85, "Check."), Caution("legacy", "?"))
    notes = (Note("axis_found", "The axis was found."), Note("darks", "None.", assumed=True))
    with start() as writer:
        writer.write(0, outcome(diagnostics={"warnings": warnings, "notes": notes}))
        writer.write(1, outcome(diagnostics={"warnings": ()}))
        writer.write(2, outcome(diagnostics={}))
        writer.finish()
    first, second, third = (read_slice_diagnostics(writer.path, i) for i in range(3))
    assert first["warnings"] == warnings
    assert first["notes"] == notes
    assert first["verdict"] == "χ² is low. Check. ?"
    assert second["warnings"] == ()
    assert second["verdict"].startswith("spread and mean: not tested"), "no test, no ok"
    assert third == {}
    with h5py.File(writer.path) as file:
        stored = json.loads(file["entry/diagnostics/warnings"][0])
    assert stored[0]["code"] == "data_fit_wide"


def test_records_with_unknown_fields_or_invalid_json_are_read(start: Start, outcome: Make) -> None:
    with start() as writer:
        for index in range(3):
            writer.write(index, outcome(diagnostics={"warnings": ()}))
        writer.finish()
    with h5py.File(writer.path, "r+") as file:
        texts = file["entry/diagnostics/warnings"]
        texts[0] = '[{"code": "a", "text": "b", "later": 1}]'
        texts[1] = "not JSON"
        texts[2] = '[{"value": 1}]'
    found = [read_slice_diagnostics(writer.path, i)["warnings"] for i in range(3)]
    assert found[0] == (Caution("a", "b"),)
    assert [one.text for (one,) in found[1:]] == ["not JSON", '[{"value": 1}]']


def test_a_resumed_file_keeps_the_texts_of_finished_slices_in_new_datasets(
    tmp_path: Path, start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> None:
    with start() as writer:
        writer.write(0, outcome(0))
    part = tmp_path / "out.h5.part"
    with h5py.File(part) as file:
        group = file["entry/diagnostics"]
        before = {name: (h5py.h5o.get_info(group[name].id).addr, group[name][0]) for name in group}
    with start(resume=True):
        pass
    with h5py.File(part) as file:
        group = file["entry/diagnostics"]
        texts = [name for name in group if h5py.check_string_dtype(group[name].dtype)]
        assert texts
        for name in group:
            assert group[name][0] == before[name][1] or name not in texts
        assert all(h5py.h5o.get_info(group[n].id).addr != before[n][0] for n in texts)


def test_bands_are_read_back_as_they_were_written_and_hostile_ones_are_left_out(
    start: Start, outcome: Make
) -> None:
    bands = (
        BandCheck(0.0, 0.1, 80, 0.9, 0.05, 0.01, 0.02, 0.0),
        BandCheck(0.1, 0.7, 9, 1, 1, 0, 1),
    )
    with start() as writer:
        writer.write(0, outcome(diagnostics={"bands": bands}))
        writer.write(1, outcome(diagnostics={"bands": [{"low": "far"}]}))
        writer.write(2, outcome(diagnostics={}))
        writer.finish()
    found = [read_slice_diagnostics(writer.path, i) for i in range(3)]
    assert [one.get("bands") for one in found] == [bands, (), None]


def test_figures_that_were_no_bounds_are_not_read_from_former_results(
    start: Start, outcome: Make
) -> None:
    with start() as writer:
        for index in range(3):
            old = {"fisher": 0.0, "kl_bound": 3.0, "log_evidence": -8.0, "chi2": 1.0}
            writer.write(index, outcome(diagnostics=old))
        writer.finish()
    assert read_slice_diagnostics(writer.path, 0) == {"chi2": 1.0}
