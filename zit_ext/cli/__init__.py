"""`zit-ext`: the engine, its store and its settings from a command line.

Each group of commands is a module here that adds its own to the parser. This one turns what they
raise into one line and an exit code: 0 done, 1 failed, 2 asked for wrongly, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from ..errors import RequestError, ZitError
from ..runtime import Runtime
from . import (
    config_command,
    doctor_command,
    entry_commands,
    explain_command,
    generate_command,
    models_command,
    plugins_command,
    serve_command,
    server_command,
    store_commands,
    verify_command,
    version_command,
    weights_commands,
)
from .console import Console
from .context import Context, OpenRuntime
from .logs import logging_to
from .parser import Commands, NoCommandError, Parser, UsageError, read

GROUPS: Sequence[Callable[[Commands], None]] = (
    generate_command.add_to,
    entry_commands.add_to,
    explain_command.add_to,
    store_commands.add_to,
    verify_command.add_to,
    serve_command.add_to,
    config_command.add_to,
    models_command.add_to,
    weights_commands.add_to,
    server_command.add_to,
    plugins_command.add_to,
    doctor_command.add_to,
    version_command.add_to,
)
"""Every group of commands, in the order in which `--help` shows them."""


def parser() -> Parser:
    """Return the parser of the whole command line."""
    commands = Commands()
    for add_to in GROUPS:
        add_to(commands)
    return commands.parser


def main(argv: Sequence[str] | None = None, *, open_runtime: OpenRuntime = Runtime) -> int:
    """Run one command and return its exit code. `open_runtime` makes the engine when one is needed."""
    console = Console()
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = 0
    try:
        options = read(parser(), arguments)
        verbose = options.verbose
        context = Context(options, console, open_runtime, os.environ)
        with logging_to(console, verbose):
            code: int = options.run(options, context)
            sys.stdout.flush()
            return code
    except SystemExit as done:  # argparse, after --help
        return int(done.code or 0)
    except BrokenPipeError:
        _drop_stdout()  # whoever read our output has seen enough
        return 0
    except KeyboardInterrupt:
        console.complain("interrupted")
        return 130
    except NoCommandError as error:
        console.note(str(error))
        return 2
    except (ZitError, UsageError, OSError) as error:
        _explain(console, error, verbose)
        return 2 if isinstance(error, (RequestError, UsageError)) else 1
    except Exception as error:
        logging.getLogger(__name__).debug("unexpected", exc_info=error)
        _explain(console, error, verbose)
        return 1


def _explain(console: Console, error: Exception, verbose: int) -> None:
    if verbose:
        console.note("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        console.complain(f"{place}{error.strerror or error}")
    elif isinstance(error, (ZitError, UsageError)):
        console.complain(str(error))
    else:
        again = "" if verbose else "; run it again with -v to see where"
        console.complain(f"unexpected {type(error).__name__}: {error}{again}")


def _drop_stdout() -> None:
    """Let the interpreter's last flush go nowhere: it would complain about the closed pipe again."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
