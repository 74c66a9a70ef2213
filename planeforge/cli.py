"""The command line: every verb, its exit status, and errors as one line.

0: done. 1: the work failed, or a comparison mismatched. 2: bad input; the line says what and how to mend it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import typer

from planeforge import __version__, verbs
from planeforge.output import Failure

# typer carries its own copy of click and exports only the leaves of its errors; these are their bases.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
ClickException: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="planeforge",
    help="Low-bit language models from checkpoint to bitplanes, exact simulation, RTL and cost.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"planeforge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, help="Print the version and exit."
    ),
) -> None:
    """Low-bit language models from checkpoint to bitplanes, exact simulation, RTL and cost."""


#: The order of the help: the main job first, then the way of a tensor.
ORDER = (
    *(
        "demo",
        "compare",
        "quantize",
        "allocate",
        "recommend",
        "inspect",
        "simulate",
        "workload",
        "verify",
        "verilog",
        "synth",
        "cost",
        "sparsity",
        "export",
        "calibrate",
        "validate",
        "eval",
    ),
    *("methods", "formats", "pes", "techs"),
)


def _commands() -> dict[str, Any]:
    """Commands by name: a file in ``verbs`` names its own in COMMANDS, so a verb is one file."""
    found: dict[str, Any] = {}
    for module in iter_modules(verbs.__path__):
        if not module.ispkg:
            found |= import_module(f"planeforge.verbs.{module.name}").COMMANDS
    return dict(sorted(found.items(), key=lambda c: ORDER.index(c[0]) if c[0] in ORDER else len(ORDER)))


for _name, _function in _commands().items():
    app.command(_name)(_function)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        status = app(args=words, prog_name="planeforge", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except ClickException as error:
        return _usage(error)
    except (ValueError, TypeError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return _say(_or_traceback(error), 2)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Failure, RuntimeError, OSError) as error:
        return _say(_or_traceback(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", 130)


def _usage(error: Any) -> int:
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    where = error.ctx.command_path if getattr(error, "ctx", None) else "planeforge"
    return _say(f"{message.rstrip('.')} ({where} --help)", 2)


def _or_traceback(error: Exception) -> str:
    if os.environ.get("PLANEFORGE_DEBUG"):
        raise error
    return str(error) or type(error).__name__


def _say(message: str, status: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return status
