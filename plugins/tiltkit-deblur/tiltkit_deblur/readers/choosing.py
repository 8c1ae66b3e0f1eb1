"""Choice of one image among several in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltkit.errors import UsageError

__all__ = ["chosen_image"]

# Images that an error message lists: it stays readable.
_NAMED = 6


def chosen_image(path: Path, names: Sequence[str], asked: int | None) -> int:
    """Number of the image to read.

    Args:
        path: The file, for messages.
        names: Descriptions of its images, in order.
        asked: The number that was asked for.

    Raises:
        UsageError: There is no such image, or there are several and none was asked for.
    """
    listed = ", ".join(f"{i}: {name}" for i, name in enumerate(names[:_NAMED]))
    listed += ", ..." if len(names) > _NAMED else ""
    if asked is not None and asked >= len(names):
        raise UsageError(
            f"{path} has no series {asked}; it has {len(names)} ({listed}).",
            "count series from 0.",
        )
    if asked is None and len(names) > 1:
        raise UsageError(
            f"{path} holds {len(names)} images, such as positions of the stage: {listed}.",
            "choose one with -s task.series=NUMBER.",
        )
    return asked or 0
