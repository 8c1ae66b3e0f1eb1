from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tiltkit.errors import InputError, PluginError
from tiltkit.hookspecs import Entry, ReaderEntry
from tiltkit.io.sniff import find_reader


class Kspace:
    """Reads files with a dataset ``kspace``."""

    @staticmethod
    def matches(path: Path) -> bool:
        with h5py.File(path) as file:
            return "kspace" in file


class Anything:
    """Recognises every file."""

    @staticmethod
    def matches(path: Path) -> bool:
        return True


class Raising:
    """A reader with a mistake."""

    @staticmethod
    def matches(path: Path) -> bool:
        raise KeyError("kspace")


def entry(name: str, gives: str = "mri.kspace", patterns: tuple[str, ...] = ("*.h5",)) -> Entry:
    return ReaderEntry(name=name, target="m:a", summary="", gives=gives, patterns=patterns)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.zeros((1, 2, 4, 4), np.complex64)
    return path


def test_the_reader_that_recognises_the_file_is_chosen(scan: Path, fake_plugins: Any) -> None:
    plugins = fake_plugins("reader", {entry("a"): Raising, entry("b"): Kspace})
    assert find_reader(scan, plugins) is Kspace


def test_readers_with_a_matching_file_name_are_tried_first(scan: Path, fake_plugins: Any) -> None:
    plugins = fake_plugins(
        "reader", {entry("any", patterns=("*.mrc",)): Anything, entry("mri"): Kspace}
    )
    assert find_reader(scan, plugins) is Kspace
    other = scan.rename(scan.with_name("scan.hdf5"))
    assert find_reader(other, plugins) is Anything


def test_only_readers_of_the_right_kind_of_data_are_tried(scan: Path, fake_plugins: Any) -> None:
    plugins = fake_plugins("reader", {entry("ct", gives="ct"): Anything, entry("mri"): Kspace})
    assert find_reader(scan, plugins, gives="mri.kspace") is Kspace
    with pytest.raises(PluginError, match="No plugin reads em"):
        find_reader(scan, plugins, gives="em")


def test_a_reader_that_cannot_be_loaded_does_not_stop_the_others(
    scan: Path, fake_plugins: Any
) -> None:
    broken = PluginError("needs ismrmrd")
    plugins = fake_plugins("reader", {entry("a"): broken, entry("b"): Kspace})
    assert find_reader(scan, plugins) is Kspace


@pytest.mark.parametrize("mistake", [IndexError, EOFError, AssertionError, SystemExit])
def test_a_reader_that_fails_does_not_stop_the_others(
    scan: Path, fake_plugins: Any, mistake: type[BaseException]
) -> None:
    def fail(path: Path) -> bool:
        raise mistake("boom")

    broken = type("Broken", (), {"matches": staticmethod(fail)})
    plugins = fake_plugins("reader", {entry("a"): broken, entry("b"): Kspace})
    assert find_reader(scan, plugins) is Kspace


def test_the_error_for_an_unknown_file_lists_failing_readers_with_reasons(
    scan: Path, fake_plugins: Any
) -> None:
    def raising(error: Exception) -> Any:
        def fail(path: Path) -> bool:
            raise error

        return type("Failing", (), {"matches": staticmethod(fail)})

    targets = {
        entry("a"): Raising,
        entry("b"): PluginError("The reader b needs x, which is not installed."),
        entry("other"): raising(OSError("file signature not found")),
        entry("wordy"): raising(InputError("This is not an MRC file.")),
    }
    with pytest.raises(InputError) as caught:
        find_reader(scan, fake_plugins("reader", targets))
    assert caught.value.message.endswith(
        "tried: a, b, other, wordy. The reader a failed: KeyError: 'kspace'."
        " The reader b needs x, which is not installed."
    )


def test_broken_links_are_listed(tmp_path: Path, fake_plugins: Any) -> None:
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        file["entry/angles"] = np.zeros(3)
        file["entry/data"] = h5py.ExternalLink("gone.h5", "/raw")
    with pytest.raises(InputError, match=r"/entry/data to /raw in gone\.h5"):
        find_reader(path, fake_plugins("reader", {entry("mri"): Kspace}))


def test_the_error_for_an_unknown_layout_lists_the_datasets(
    tmp_path: Path, fake_plugins: Any
) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.zeros((3, 4), np.uint16)
        file["note"] = "hello"
    with pytest.raises(InputError) as caught:
        find_reader(path, fake_plugins("reader", {entry("mri.fastmri"): Kspace}))
    message = str(caught.value)
    assert "exchange/data (3 x 4, uint16), note (scalar, text)" in message
    assert "mri.fastmri" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"not hdf5", "not an HDF5 file"), (b"", "empty")]
)
def test_files_that_are_not_hdf5_are_refused(
    tmp_path: Path, fake_plugins: Any, content: bytes, complaint: str
) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        find_reader(path, fake_plugins("reader", {entry("mri"): Kspace}))


def test_a_truncated_file_is_reported_as_truncated(scan: Path, fake_plugins: Any) -> None:
    scan.write_bytes(scan.read_bytes()[:-300])
    with pytest.raises(InputError, match="truncated"):
        find_reader(scan, fake_plugins("reader", {entry("mri"): Kspace}))


def test_a_missing_file_is_refused(tmp_path: Path, fake_plugins: Any) -> None:
    with pytest.raises(InputError, match="There is no file"):
        find_reader(tmp_path / "no.h5", fake_plugins("reader", {}))
