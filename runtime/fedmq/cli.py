"""The command line. Each package brings its own commands, found through entry points, so no import runs upward.

An error that carries an `exit_code` is a sentence for a person; any other exception is a defect, and shows where it
happened. Exit codes: 0 done, 1 a check did not pass, 2 wrong arguments or settings, 3 unusable input (data, bundle,
disk, device), 4 refused by the other end, 5 network, 130 interrupted.
"""

import os
import sys
from importlib.metadata import entry_points
from importlib.metadata import version as installed
from typing import Annotated

import typer

from fedmq.errors import EXIT_INTERRUPTED

GROUP = "fedmq.commands"
PANELS = ("Run", "Ask", "Prepare", "Use", "Measure")


def application() -> typer.Typer:
    """Return all commands of all installed packages, as one application."""
    root = typer.Typer(
        name="fedmq",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.callback()(_root)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        app: typer.Typer = point.load()
        root.registered_commands += app.registered_commands
        root.registered_groups += app.registered_groups
    root.registered_commands.sort(key=lambda command: _panel(command.rich_help_panel))
    return root


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedmq {installed('fedmq')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Asynchronous federation of CLIP adapters over message queues."""


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        application()()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; say nothing, and keep the interpreter from trying to flush it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(code)


def _panel(name: object) -> int:
    return PANELS.index(name) if name in PANELS else len(PANELS)
