"""The errors that tiltkit raises: their kind, what was wrong, and what to do next."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

__all__ = [
    "InputError", "Kind", "MachineError", "OutputLockedError", "PluginError", "TiltkitError",
    "UsageError", "errno_of", "known_error", "known_errors",
]  # fmt: skip


class Kind(StrEnum):
    """Kind of an error: it decides who must act, and the exit code of the command."""

    SETTINGS = "settings"  # the command or a setting is wrong
    INPUT = "input"  # an input is damaged, of another kind, or holds unusable values
    GROWING = "growing"  # an input is still being written or copied
    UNCLOSED = "unclosed"  # an input was left open by a program that ended without closing it
    LOCKED = "locked"  # another process holds a file
    MEMORY = "memory"  # memory of the computer or of the device ran out
    MACHINE = "machine"  # a disk, a network or a device failed
    PLUGIN = "plugin"  # a plugin is broken, missing, or in conflict with another one
    STOPPED = "stopped"  # by a signal
    INTERNAL = "internal"  # anything else; most often a mistake in tiltkit

    @property
    def exit_code(self) -> int:
        """Exit code of a command that failed for this reason alone; 3 is a gate that was met."""
        return _EXIT_CODES[self]

    @property
    def transient(self) -> bool:
        """True when the same command may succeed later, with nothing changed by hand."""
        return self in (Kind.GROWING, Kind.LOCKED, Kind.MEMORY, Kind.MACHINE)


_EXIT_CODES = {
    Kind.INTERNAL: 1, Kind.SETTINGS: 2, Kind.INPUT: 4, Kind.GROWING: 5, Kind.UNCLOSED: 6,
    Kind.LOCKED: 7, Kind.MEMORY: 8, Kind.MACHINE: 9, Kind.PLUGIN: 10, Kind.STOPPED: 130,
}  # fmt: skip


class TiltkitError(Exception):
    """Something failed in a way that the user can act on; survives pickling.

    Args:
        message: What was wrong, with the actual value. One sentence.
        hint: What to do next. One sentence, or empty.
        kind: Kind of error; that of the class when None.

    Attributes:
        message: As given.
        hint: As given.
        kind: Kind of error.
    """

    kind: Kind = Kind.INTERNAL

    def __init__(self, message: str, hint: str = "", *, kind: Kind | None = None) -> None:
        super().__init__(message, hint)  # both are what pickle passes to the class again
        self.message = message
        self.hint = hint
        self.kind = kind or self.kind

    @property
    def exit_code(self) -> int:
        """Exit code of a command that fails with this error."""
        return self.kind.exit_code

    @property
    def transient(self) -> bool:
        """True when the same call may succeed later, with nothing changed by hand."""
        return self.kind.transient

    def __str__(self) -> str:
        return f"{self.message}\nTry: {self.hint}" if self.hint else self.message


class UsageError(TiltkitError):
    """The command or its settings are wrong: an unknown option, prior or task."""

    kind = Kind.SETTINGS


class InputError(TiltkitError):
    """An input file cannot be used, or not yet: see its kind."""

    kind = Kind.INPUT


class MachineError(TiltkitError):
    """The computer failed, not the input: a disk, a network, a device or the memory."""

    kind = Kind.MACHINE


class OutputLockedError(TiltkitError):
    """Another process writes the same output."""

    kind = Kind.LOCKED


class PluginError(TiltkitError):
    """A plugin is broken, missing, or in conflict with another one."""

    kind = Kind.PLUGIN


@contextmanager
def known_errors() -> Iterator[None]:
    """Raise `known_error` in the place of an exception of Python, torch or HDF5."""
    try:
        yield
    except Exception as error:
        known = known_error(error)
        if known is None or known is error:
            raise
        raise known from error


def known_error(error: BaseException, name: str = "") -> TiltkitError | None:
    """The tiltkit error for any exception; None where its cause is not known.

    Where an input, a plugin or a part of tiltkit is blamed for a failure of the machine, such as a
    file that a reader calls damaged because the disk failed, this is the failure of the machine.

    Args:
        error: The exception.
        name: The file that it is about, where the exception does not say it.
    """
    blamed = isinstance(error, TiltkitError) and error.kind in _BLAMED
    if blamed and error.__cause__:
        cause = known_error(error.__cause__, name)
        if isinstance(cause, MachineError):
            return cause
    if isinstance(error, TiltkitError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return TiltkitError("Stopped.", kind=Kind.STOPPED)
    return _memory(error) or _disk(error, name) or _device(error)


_BLAMED = (Kind.INPUT, Kind.PLUGIN, Kind.INTERNAL)


# errno by name, since no system has all of them.
def _numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_FULL = _numbers("ENOSPC", "EDQUOT", "EFBIG")
_TOO_MANY = _numbers("EMFILE", "ENFILE")
_TROUBLE = _numbers(
    "EIO", "ESTALE", "EREMOTEIO", "ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN",
    "EHOSTUNREACH", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ENOTCONN",
    "ESHUTDOWN", "ENODEV", "ENXIO", "ENOMEDIUM", "EROFS", "EBUSY", "ENOLCK", "EUCLEAN",
)  # fmt: skip
# Libraries that are not written in Python put the number into their message.
_ERRNO = re.compile(r"(?:errno = |\[Errno |os error )(\d+)")
_FULL_TEXTS = ("No space left", "File too large", "quota exceeded")
_MEMORY_TEXTS = (
    "can't allocate memory", "not enough memory", "Cannot allocate memory", "out of memory",
    "memory allocation failed", "ALLOC_FAILED",
)  # fmt: skip
_DEVICE_TEXTS = ("CUDA error", "CUDA driver", "cuDNN", "CUDNN_STATUS", "CUBLAS_STATUS", "NCCL",
                 "HIP error", "MPS backend")  # fmt: skip
# Such an error of a device comes from a wrong index in the code.
_ASSERTION = "device-side assert"


def errno_of(error: BaseException) -> int | None:
    """The operating system's number of an error, from its attribute or its text; else None."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = _ERRNO.search(str(error))
    return int(found[1]) if found else None


def is_full(error: BaseException) -> bool:
    """Whether an error comes of a disk, or a share of it, that is full."""
    texts = isinstance(error, OSError | RuntimeError | ValueError)
    return errno_of(error) in _FULL or (texts and any(text in str(error) for text in _FULL_TEXTS))


def _memory(error: BaseException) -> TiltkitError | None:
    """No memory: of Python, numpy, HDF5, the operating system or the device."""
    torch = sys.modules.get("torch")  # what is not imported has not failed
    on_device = torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)
    texts = isinstance(error, RuntimeError | OSError) and any(
        text in str(error) for text in _MEMORY_TEXTS
    )
    if not (on_device or texts or isinstance(error, MemoryError) or _is(error, errno.ENOMEM)):
        return None
    where = "of the device " if on_device or "CUDA" in str(error) else ""
    return MachineError(
        f"The memory {where}is not enough{_because(error)}.",
        "lower --memory, ask for more memory, or end other programs that use it.",
        kind=Kind.MEMORY,
    )


def _disk(error: BaseException, name: str) -> TiltkitError | None:
    """A disk or a network that failed, or is full."""
    number, name = errno_of(error), str(getattr(error, "filename", None) or name or "A file")
    if is_full(error):
        return MachineError(
            f"{name} could not be written: {os.strerror(number or errno.ENOSPC)}.",
            "free some space, or choose another disk.",
        )
    if number in _TOO_MANY:
        return MachineError(
            f"{name} could not be opened: too many files are open.",
            "run again later, or allow more open files: ulimit -n 4096.",
        )
    if number in _TROUBLE:
        return MachineError(
            f"{name} could not be read or written: {os.strerror(number)}.",
            "run the same command again; if that fails too, see to the disk or the network.",
        )
    if isinstance(error, PermissionError) and error.filename:
        return UsageError(
            f"{name} may not be read or written: permission denied.",
            "ask its owner for access, or name another file.",
        )
    return None


def _device(error: BaseException) -> TiltkitError | None:
    """A device that failed."""
    texts = isinstance(error, RuntimeError) and any(t in str(error) for t in _DEVICE_TEXTS)
    if not texts or _ASSERTION in str(error):
        return None
    return MachineError(
        f"The device failed{_because(error)}.",
        "run the same command again; if that fails too, see to the device or use --device cpu.",
    )


def _is(error: BaseException, number: int) -> bool:
    return errno_of(error) == number


def _because(error: BaseException) -> str:
    """The first line of an exception, to go on with a sentence."""
    first = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return f": {first}" if first else ""
