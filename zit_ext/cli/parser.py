"""The shape of the command line: one parser, a sub-parser for each command, global options anywhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from .. import __version__
from .context import Context

Command = Callable[[argparse.Namespace, Context], int]
"""Does what one command says, and returns the exit code."""

DESCRIPTION = (
    "The cache that makes Z-Image-Turbo feel instant: resident weights, and exact results from disk."
)


class UsageError(Exception):
    """The command line cannot be understood."""


class NoCommandError(UsageError):
    """No command was named. The message is the whole help."""


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)  # a script must not change its meaning with a new option
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


class Commands:
    """Where each group of commands adds its own."""

    def __init__(self) -> None:
        self.parser = Parser(prog="zit-ext", description=DESCRIPTION)
        _add_globals(self.parser, "")
        self.parser.add_argument("--version", action="version", version=f"zit_ext {__version__}")
        self._below = self.parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    def add(
        self, name: str, run: Command, *, help: str, description: str | None = None, usage: str | None = None
    ) -> Parser:
        """Add a command and return its parser, which knows the global options already.

        `usage` stands for the list of options where that would be a screenful.
        """
        described = description or f"{help[0].upper()}{help[1:]}."
        usage = usage and f"%(prog)s {usage}"
        parser = self._below.add_parser(name, help=help, description=described, usage=usage)
        _add_globals(parser.add_argument_group("global options"), "_below")
        parser.set_defaults(run=run)
        return parser


def read(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Return the options. Global ones count before and after the command's name. Raises UsageError."""
    options = parser.parse_args(arguments)
    given = vars(options)
    for name in ("profile", "cache_dir"):
        below = given.pop(f"{name}_below", None)
        given[name] = given[name] if below is None else below
    given["settings"] = [*(given["settings"] or ()), *(given.pop("settings_below", None) or ())]
    given["verbose"] = (given["verbose"] or 0) + (given.pop("verbose_below", None) or 0)
    if getattr(options, "run", None) is None:
        raise NoCommandError(parser.format_help().rstrip())
    return options


def _add_globals(parser: argparse._ActionsContainer, suffix: str) -> None:
    parser.add_argument(
        "--settings",
        action="append",
        metavar="NAME=VALUE",
        dest=f"settings{suffix}",
        help="a setting for this call; may be repeated (see `zit-ext config`)",
    )
    parser.add_argument(
        "--profile", metavar="NAME", dest=f"profile{suffix}", help="settings that go together, by name"
    )
    parser.add_argument(
        "--cache-dir", metavar="FOLDER", dest=f"cache_dir{suffix}", help="the folder of the cache"
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        dest=f"verbose{suffix}",
        help="say what happens; twice: everything. Errors come with their traceback",
    )
