"""`zit-ext version`."""

from __future__ import annotations

import argparse
import platform

from .. import __version__
from .context import Context
from .parser import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add("version", version, help="show the version")
    parser.add_argument("--json", action="store_true", help="for programs")


def version(options: argparse.Namespace, context: Context) -> int:
    versions = {"zit_ext": __version__, "python": platform.python_version()}
    if options.json:
        context.console.json(versions)
    else:
        context.console.say(" ".join(f"{name} {number}" for name, number in versions.items()))
    return 0
