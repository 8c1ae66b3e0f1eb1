from __future__ import annotations

import errno
import os
import pickle
import re
from pathlib import Path

import pytest
import torch

from tiltkit.errors import (
    InputError,
    Kind,
    MachineError,
    OutputLockedError,
    PluginError,
    TiltkitError,
    UsageError,
    known_error,
    known_errors,
)

CLASSES = [TiltkitError, InputError, MachineError, OutputLockedError, PluginError, UsageError]
TRANSIENT = {Kind.GROWING, Kind.LOCKED, Kind.MEMORY, Kind.MACHINE}


def test_every_class_of_error_is_listed_here() -> None:
    assert set(TiltkitError.__subclasses__()) <= set(CLASSES)


@pytest.mark.parametrize("kind", [None, Kind.GROWING])
@pytest.mark.parametrize("error_class", CLASSES)
def test_an_error_is_the_same_in_another_process(
    error_class: type[TiltkitError], kind: Kind | None
) -> None:
    error = error_class("It has 15 coils.", "give 8.", kind=kind)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is error_class
    assert (again.message, again.hint, again.kind) == ("It has 15 coils.", "give 8.", error.kind)
    assert str(again) == str(error) == "It has 15 coils.\nTry: give 8."


def test_each_kind_has_an_exit_code_of_its_own_and_none_is_success_or_a_gate() -> None:
    codes = {kind: kind.exit_code for kind in Kind}
    assert len(set(codes.values())) == len(Kind)
    assert not {0, 3} & set(codes.values())
    assert (codes[Kind.INTERNAL], codes[Kind.SETTINGS], codes[Kind.STOPPED]) == (1, 2, 130)


def test_the_page_about_errors_has_every_kind_with_its_exit_code() -> None:
    page = (Path(__file__).parents[1] / "docs/errors.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))
    assert rows == {str(kind): str(kind.exit_code) for kind in Kind}


def test_only_what_may_pass_by_itself_is_worth_another_try() -> None:
    assert {kind for kind in Kind if kind.transient} == TRANSIENT
    assert MachineError("").transient
    assert not InputError("").transient


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), Kind.MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Kind.MEMORY),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), Kind.MEMORY),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory"), Kind.MEMORY),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), Kind.MEMORY),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), Kind.MACHINE),
        (RuntimeError("CUDA error: device-side assert triggered"), None),
        (OSError(errno.ENOSPC, "full", "out.h5"), Kind.MACHINE),
        (OSError(errno.EDQUOT, "quota"), Kind.MACHINE),
        (OSError(errno.EIO, "i/o", "scan.h5"), Kind.MACHINE),
        (OSError(errno.ESTALE, "stale"), Kind.MACHINE),
        (OSError(errno.EMFILE, "many"), Kind.MACHINE),
        (OSError("Can't read (errno = 5, error message = 'Input/output error')"), Kind.MACHINE),
        (RuntimeError("Can't write (errno = 28, error message = 'No space ...')"), Kind.MACHINE),
        (PermissionError(errno.EACCES, "no", "cache"), Kind.SETTINGS),
        (KeyboardInterrupt(), Kind.STOPPED),
        (ValueError("5"), None),
        (FileNotFoundError(errno.ENOENT, "no", "x"), None),
    ],
)
def test_an_exception_with_a_known_cause_has_a_kind(error: BaseException, kind: Kind) -> None:
    found = known_error(error)
    assert (found and found.kind) == kind
    assert found is None or (found.message.endswith(".") and "copy" not in found.hint)


def test_an_error_of_tiltkit_is_known_as_itself() -> None:
    error = InputError("It is empty.")
    assert known_error(error) is error


@pytest.mark.parametrize("error_class", [InputError, PluginError, TiltkitError])
def test_a_disk_that_fails_is_blamed_on_nothing_else(
    error_class: type[TiltkitError],
) -> None:
    error = error_class("scan.tif is damaged.", "copy it again.")
    error.__cause__ = OSError(errno.EIO, "failed", "scan.tif")
    with pytest.raises(MachineError, match=os.strerror(errno.EIO)), known_errors():
        raise error


def test_other_exceptions_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), known_errors():
        _ = 1 / 0


def test_what_was_wrong_before_is_no_longer_lost() -> None:
    with pytest.raises(MachineError) as caught, known_errors():
        raise MemoryError("2 GiB")
    assert isinstance(caught.value.__cause__, MemoryError)
    assert "2 GiB" in caught.value.message
