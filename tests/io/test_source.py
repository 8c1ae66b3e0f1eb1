from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiltkit.digest import digest
from tiltkit.errors import InputError
from tiltkit.io.source import check_source, check_unchanged, stamp


@pytest.fixture(params=["file", "folder"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An input; in a folder it is the file ``scan``."""
    scan = tmp_path / "scan"
    scan.write_text("kspace")
    return scan if request.param == "file" else tmp_path


def test_an_input_that_grows_has_changed(source: Path, tmp_path: Path) -> None:
    before, sha256 = stamp(source), digest(source)
    check_unchanged(source, before)
    (tmp_path / "scan").write_text("kspace of more slices")
    with pytest.raises(InputError, match="changed while it was read"):
        check_unchanged(source, before, sha256)


def test_an_input_that_is_saved_again_with_the_same_content_has_not_changed(
    source: Path, tmp_path: Path
) -> None:
    before, sha256 = stamp(source), digest(source)
    os.utime(tmp_path / "scan", (1, 1))
    check_unchanged(source, before, sha256)
    with pytest.raises(InputError, match="changed"):
        check_unchanged(source, before)


def test_a_new_file_changes_a_folder(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("chunk")
    before = stamp(tmp_path)
    (tmp_path / "1").write_text("chunk")
    with pytest.raises(InputError, match="changed"):
        check_unchanged(tmp_path, before)


def test_a_removed_input_that_is_open_has_not_changed(tmp_path: Path) -> None:
    scan = tmp_path / "scan"
    scan.write_text("kspace")
    before = stamp(scan)
    scan.unlink()
    check_unchanged(scan, before)


def test_only_files_and_folders_are_inputs(source: Path, tmp_path: Path) -> None:
    check_source(source)
    with pytest.raises(InputError, match="no regular file"):
        check_source(Path("/dev/null"))
    with pytest.raises(InputError, match="There is no file"):
        check_source(tmp_path / "none")
