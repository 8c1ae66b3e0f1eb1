"""Modules of the folder ``benchmarks``, which is no package, can be imported."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"
collect_ignore_glob = [] if FOLDER.is_dir() else ["test_*.py"]
sys.path.append(str(FOLDER))
