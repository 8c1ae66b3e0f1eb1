"""The command line in the process of the tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def tilt(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line: exit code, output, messages."""
    from tiltkit.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run
