"""The command line: ``tiltkit COMMAND``; one file per command, imported when it is called."""

from __future__ import annotations

from tiltkit.cli.main import cli, main

__all__ = ["cli", "main"]
