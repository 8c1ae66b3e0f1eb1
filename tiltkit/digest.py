"""SHA-256 digests of files and folders, which identify inputs and weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["digest"]


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of names and contents of all files in a folder, in hex."""
    path = Path(path)
    parts = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for part in parts:
        if part is not path:
            total.update(part.relative_to(path).as_posix().encode() + b"\0")
        with part.open("rb") as file:
            hashlib.file_digest(file, lambda: total)
    return total.hexdigest()
