from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltkit.errors import InputError, UsageError
from tiltkit.io.result import ResultWriter
from tiltkit.posterior.outcome import FurtherImage, Outcome
from tiltkit.posterior.warnings import Caution, find_warnings
from tiltkit.problem import Note
from tiltkit.protocols import Axis, Layout
from tiltkit.report import write_report

Start = Callable[..., ResultWriter]
Make = Callable[..., Outcome]


class Page(HTMLParser):
    """Collects images, outside addresses and text, and checks that tags are balanced."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [str(found[k]) for k in ("src", "href", "xlink:href") if found.get(k)]
        if tag == "img":
            self.images.append(found)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += " ".join(data.split()) + " "


@pytest.fixture
def page(tmp_path: Path) -> Callable[[Path], Page]:
    def make(result: Path) -> Page:
        html = tmp_path / "report.html"
        write_report(result, html)
        return Page(html)

    return make


@pytest.fixture
def page_of(start: Start, outcome: Make, page: Callable[[Path], Page]) -> Callable[..., Page]:
    """The page of three slices with given changes to their diagnostics."""

    def make(**changes: Any) -> Page:
        with start(overwrite=True) as writer:
            for index in range(3):
                report = dict(outcome(index).diagnostics) | changes
                report = {"warnings": find_warnings(report)} | report
                writer.write(index, outcome(index, diagnostics=report))
            writer.finish()
        return page(writer.path)

    return make


def test_the_page_needs_no_other_file(result: Path, page: Callable[[Path], Page]) -> None:
    found = page(result)
    assert found.images
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in found.links)


def test_every_image_has_an_alternative_text(result: Path, page: Callable[[Path], Page]) -> None:
    alts = [image["alt"] for image in page(result).images]
    assert all(alts)
    assert {"Plain reconstruction", "Posterior sample 4", "Posterior mean of slice 2"} <= {*alts}


def test_the_page_has_settings_and_provenance(result: Path, page: Callable[[Path], Page]) -> None:
    text = page(result).text
    for part in ("brain", "tiltkit run mri-recon scan.h5", "task.maps", "espirit", "ab" * 32):
        assert part in text


def test_the_page_of_a_run_without_warnings_has_none(page_of: Callable[..., Page]) -> None:
    text = page_of().text
    assert "No warnings" in text
    assert "weights were used at every noise level" in text


def test_weights_that_were_left_out_are_stated(page_of: Callable[..., Page]) -> None:
    weight_power = np.array([1, 1, 0, 0.6, 1, 1, 1])
    text = page_of(weight_power=weight_power, temper_min=0.0).text
    assert "At 2 of 7 noise levels" in text
    assert "at every noise level" not in text


def test_the_page_begins_with_each_warning_and_its_slices(page_of: Callable[..., Page]) -> None:
    odd = Caution("far_from_training", "The image is odd.", 2.0, 1.0, "Look again.")
    text = page_of(warnings=[odd]).text
    assert "1 warning: read before using this result" in text
    assert "Slices 0, 1, 2: The image is odd. Look again." in text
    assert "No warnings" not in text


def test_assumptions_stand_at_the_top_and_all_notes_in_a_section(
    page_of: Callable[..., Page],
) -> None:
    assumed = Note("angles_assumed", "Angles from 0 to 180 degrees are assumed.", assumed=True)
    plain = Note("axis_found", "The axis was found.")
    text = page_of(notes=[plain, assumed]).text
    assert text.index("Angles from 0") < text.index("Images")
    assert text.index("The axis was found") > text.index("Images")
    assert text.count("The axis was found") == 1
    assert "Assumed when the scan was read" not in page_of(notes=[plain]).text


@pytest.mark.parametrize(
    ("chi2", "words"),
    [(2.0, "miss the data"), (1.02, "as well as the noise allows"), (0.5, "too high")],
)
def test_chi_squared_is_compared_with_its_expected_value(
    page_of: Callable[..., Page], chi2: float, words: str
) -> None:
    assert words in page_of(chi2=chi2 * 1.1, chi2_expected=1.1).text


def test_images_far_from_those_of_training_are_a_warning(page_of: Callable[..., Page]) -> None:
    assert "differ from the training images" in page_of(prior_distance=1.7).text
    near = page_of(prior_distance=0.6).text
    assert "Distance from the training images: 0.60" in near
    assert "differ from the training images" not in near
    assert "training images: " not in page_of().text


def test_the_page_of_a_sampler_without_weights_promises_no_convergence(
    page: Callable[[Path], Page], start: Start, outcome: Make
) -> None:
    with start() as writer:
        for index in range(3):
            writer.write(index, outcome(index, diagnostics={"noise_level": [1.0, 0.1]}))
        writer.finish()
    text = page(writer.path).text
    assert "No convergence is guaranteed" in text
    assert "effective sample size" not in text


def test_a_single_sample_has_no_map_of_its_spread(
    page: Callable[[Path], Page], start: Start, outcome: Make
) -> None:
    with start() as writer:
        for index in range(3):
            one = outcome(index)
            writer.write(index, replace(one, std=np.full_like(one.std, np.nan)))
        writer.finish()
    text = page(writer.path).text
    assert not re.search(r"\bnan\b", text)
    assert "standard deviation" not in text


def test_the_page_of_a_reconstruction_without_a_prior_speaks_of_no_posterior(
    page_of: Callable[..., Page],
) -> None:
    found = page_of(baseline_only=1, device="cpu")
    assert "Reconstruction of 3 of 3 slices" in found.text
    for wrong in ("posterior mean", "the prior fills in", "samples are", "equally weighted"):
        assert wrong not in found.text.lower()
    assert not any("osterior" in str(image["alt"]) for image in found.images)


def test_a_result_without_diagnostics_has_a_page(
    page: Callable[[Path], Page], start: Start, outcome: Make
) -> None:
    with start(provenance={}) as writer:
        for index in range(3):
            writer.write(index, outcome(index, diagnostics={}))
        writer.finish()
    assert "Posterior mean" in page(writer.path).text


def test_a_long_scan_shows_at_most_twelve_slices(
    page: Callable[[Path], Page], start: Start, outcome: Make
) -> None:
    axes = (Axis("z", range(30)), Axis("y", range(12)), Axis("x", range(10)))
    with start(layout=Layout(axes=axes)) as writer:
        for index in range(30):
            writer.write(index, outcome(index))
        writer.finish()
    sheet = [i for i in page(writer.path).images if "mean of slice" in str(i["alt"])]
    assert len(sheet) == 12
    assert "slice 0" in str(sheet[0]["alt"])
    assert "slice 29" in str(sheet[-1]["alt"])


def test_large_images_do_not_make_a_large_page(
    page: Callable[[Path], Page], start: Start, outcome: Make, tmp_path: Path
) -> None:
    side = 2000
    noise = np.random.default_rng(0).random((side, side), np.float32)
    axes = (Axis("z", range(1)), Axis("y", range(side)), Axis("x", range(side)))
    one = outcome(
        mean=noise, std=noise, baseline=noise, phase=None,
        samples=noise[None], quantiles=dict.fromkeys((0.05, 0.5, 0.95), noise),
    )  # fmt: skip
    with start(layout=Layout(axes=axes), samples=1) as writer:
        writer.write(0, one)
        writer.finish()
    page(writer.path)
    assert (tmp_path / "report.html").stat().st_size < 4e6


def test_the_page_of_an_unfinished_run_has_its_finished_slices(
    page: Callable[[Path], Page], start: Start, outcome: Make
) -> None:
    with start() as writer:
        writer.write(2, outcome(2))
    assert re.search(r"1 slice of 3: this run is not finished", page(writer.part).text)


def test_titles_from_files_cannot_change_the_page(
    page: Callable[[Path], Page], start: Start, outcome: Make, layout: Layout
) -> None:
    evil = "<script>alert(1)</script>"
    with start(layout=Layout(axes=layout.axes, title=evil)) as writer:
        for index in range(3):
            writer.write(index, outcome(index))
        writer.finish()
    assert evil in page(writer.path).text


def test_a_page_without_a_result_or_a_folder_is_refused(result: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        write_report(result, tmp_path / "no" / "report.html")
    text = tmp_path / "text.h5"
    text.write_text("hello")
    with pytest.raises(InputError, match="not an HDF5 file"):
        write_report(text, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_further_images_are_shown_with_their_range(
    start: Start, outcome: Make, page: Callable[[Path], Page]
) -> None:
    snr = np.linspace(0, 50, 120, dtype=np.float32).reshape(12, 10)
    snr[0, 0] = np.nan
    further = {
        "snr": FurtherImage(snr, "mean over spread", ""),
        "g_factor": FurtherImage(np.full_like(snr, np.inf), "g-factor", ""),
        "complex_mean": FurtherImage(snr + 1j, "complex mean"),
    }
    with start() as writer:
        for index in range(3):
            writer.write(index, outcome(index, further=further))
        writer.finish()
    shown = page(writer.path)
    assert "mean over spread: 0 to 49.9" in shown.text
    assert "g-factor: no finite value" in shown.text
    assert "complex_mean" not in [one["alt"] for one in shown.images]
