"""The command group, and the conversion of errors into messages and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tiltkit.cli.shared import call_plugins, log, printable
from tiltkit.cli.signals import catch_stops, end_of_work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tiltkit.hookspecs import Entry

__all__ = ["cli", "main"]

# Name, where the command is, one line of help. Kept here so that --help imports no command.
COMMANDS = {
    "run": ("tiltkit.cli.run:run", "Sample the posterior of a scan into a result file."),
    "check": ("tiltkit.cli.check:check", "Show what a run would do, without sampling."),
    "show": ("tiltkit.cli.show:show", "Show the content of a scan or a result."),
    "evaluate": ("tiltkit.cli.evaluate:evaluate", "Compare a result with the truth."),
    "calibrate": (
        "tiltkit.cli.calibrate:calibrate",
        "Test whether intervals are as wide as they say.",
    ),
    "report": ("tiltkit.cli.report:report", "Write a result's HTML page."),
    "export": ("tiltkit.cli.export:export", "Write a result in another format, such as TIFF."),
    "cite": ("tiltkit.cli.cite:cite", "List what to cite for a result."),
    "train": ("tiltkit.cli.train:train", "Train a prior on your own images."),
    "prior": ("tiltkit.cli.prior:prior", "Check priors; convert, fetch and fit their weights."),
    "list": ("tiltkit.cli.listing:listing", "List tasks, priors, samplers and other parts."),
    "plugins": ("tiltkit.cli.plugins:plugins", "List and examine plugins."),
}


class Commands(click.Group):
    """Built-in commands, then those of plugins; each is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return [*COMMANDS, *(entry.name for entry in _plugin_commands(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by name; plugins are loaded only if it is not built in."""
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        if cmd_name in {entry.name for entry in _plugin_commands(ctx)}:
            loaded: click.Command = call_plugins(ctx).load("command", cmd_name)
            return loaded
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does; the error for an unknown command has the nearest name."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from tiltkit.config import suggest
            from tiltkit.errors import UsageError

            hint = suggest(name, self.list_commands(ctx))
            raise UsageError(f"There is no command {name!r}.", hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands of ``--help``, without importing them."""
        rows = [(name, text) for name, (_, text) in COMMANDS.items()]
        rows += [(entry.name, entry.summary) for entry in _plugin_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _plugin_commands(ctx: click.Context) -> list[Entry]:
    """Commands of plugins, except those with the name of a built-in one."""
    return [entry for entry in call_plugins(ctx).entries("command") if entry.name not in COMMANDS]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tiltkit", message="%(prog)s %(version)s")
@click.option(
    "--no-plugins",
    metavar="[NAME,...]",
    is_flag=False,
    flag_value="all",
    help="Leave out plugins: all of them, or those named (--no-plugins=NAME).",
    callback=lambda _ctx, _param, value: None if value is None else tuple(value.split(",")),
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(no_plugins: tuple[str, ...] | None, debug: bool) -> None:
    """Posterior samples, uncertainty maps and a certificate from instrument files.

    \b
    tiltkit run mri-recon scan.h5
    """
    if no_plugins is not None:
        # Through the environment, for tasks that choose a reader themselves.
        block = _environment("TILTKIT_NO_PLUGINS", ",".join(no_plugins))
        click.get_current_context().with_resource(block)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Codes: 0 done, 3 a --fail-if was met, and one for each kind of error: see `tiltkit.errors.Kind`.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    try:
        catch_stops()
        _command(args)
    except KeyboardInterrupt:
        _fail(args, "Stopped.", 130, label="")


def _command(args: list[str]) -> NoReturn:
    """Run a command and exit; errors become messages and exit codes."""
    warnings.showwarning = _note
    warnings.simplefilter("always", FutureWarning)
    # A flag with an optional value must not swallow the command behind it.
    args = ["--no-plugins=all" if arg == "--no-plugins" else arg for arg in args]
    try:
        code = cli.main(args, prog_name="tiltkit", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        _fail(args, error.format_message(), 2, label="")
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "tiltkit"
        _fail(args, f"{error.format_message()}\nTry: {command} --help", 2)
    except click.ClickException as error:
        _fail(args, error.format_message(), error.exit_code)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, for example `head`
        sys.exit(1)
    except Exception as error:
        from tiltkit.cli.faults import as_tiltkit_error

        found = as_tiltkit_error(error)
        _fail(args, str(found), found.exit_code)
    if end_of_work():
        raise KeyboardInterrupt
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for the time of a command."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _fail(args: Sequence[str], text: str, code: int, label: str = "Error: ") -> NoReturn:
    if end_of_work():  # errors that result from stopping are not reported
        text, code, label = "Stopped.", 130, ""
    if "--debug" in args:
        import traceback

        click.echo(traceback.format_exc(), err=True)
    click.echo(printable(f"{label}{text}"), err=True)
    sys.exit(code)


def _note(message: Warning | str, category: type[Warning], *where: Any, **_: Any) -> None:
    """Print a Python warning as a note, without its source line."""
    log(f"Note: {message}")
