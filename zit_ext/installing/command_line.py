"""The commands of install.py."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import groups, hosts, inside_host, links, registry
from .children import as_typed, stop_on_sigterm
from .places import Project, user_data_dir
from .pythons import notice
from .trouble import SetupError

_EPILOG = """\
Called without arguments inside a host, as ComfyUI-Manager and A1111 do, it sets up what that host needs.
"""


def main(script: str, arguments: Sequence[str]) -> int:
    """Carry out one command and return the exit code: 0 done, 1 not so, 2 could not, 130 stopped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console of another code page shows ? for what it cannot show
            stream.reconfigure(errors="replace")
    place = Path(os.path.abspath(script))  # noqa: PTH100 (a link must stay one: it says which host calls)
    project = Project(Path(os.path.realpath(place)).parent)
    if strange := notice(sys.version_info[:2], sys.implementation.name):
        _say(strange)
    try:
        if not arguments:
            host = hosts.around(place, Path.cwd(), os.environ)
            if host is not None:
                return inside_host.set_up(host, project, user_data_dir())
            _parser().print_help()
            return 0
        stop_on_sigterm()
        return _carry_out(project, arguments)
    except SetupError as error:
        print(f"zit_ext: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again whenever you like.", file=sys.stderr)
        return 130


def _carry_out(project: Project, arguments: Sequence[str]) -> int:
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    if others and options.command not in ("demo", "test"):
        parser.error(f"unknown: {' '.join(others)}")
    if options.command is None:
        parser.print_help()
        return 0
    torch_index = os.environ.get("ZIT_TORCH_INDEX") or None
    if options.command in ("demo", "test"):
        torch_index = options.torch_index or torch_index
    if options.command == "demo":
        from .demo import demo

        return demo(project, others, torch_index=torch_index, say=_say, verbose=options.verbose)
    if options.command == "test":
        from .testing import test

        return test(
            project,
            others,
            names=options.group,
            everything=options.all,
            lint=options.lint,
            torch_index=torch_index,
            say=_say,
            verbose=options.verbose,
        )
    if options.command == "doctor":
        from .doctor import report

        return report(project, options.path, user_data_dir(), say=_say)
    if options.command == "uninstall":
        return _uninstall(project, options.path)
    host = hosts.recognise(options.command, options.path)
    _say(links.put(project, host, copy=options.copy))
    registry.remember(user_data_dir(), project.root, host)
    _say(_next_step(host))
    return 0


def _uninstall(project: Project, path: Path | None) -> int:
    data = user_data_dir()
    if path is not None:
        chosen = [hosts.any_at(path)]
    else:
        chosen = registry.remembered(data, project.root)
        if not chosen:
            _say("This checkout was not put into any host that is remembered; name the host: uninstall PATH")
    for host in chosen:
        if host.root.is_dir():
            for line in links.take_away(project, host):
                _say(line)
        else:
            _say(f"{host.root} is gone; nothing is left to remove there.")
        registry.forget(data, project.root, host)
    return 0


def _next_step(host: hosts.Host) -> str:
    if host.kind == "a1111":
        return "Start the webui: it sets up the rest at its launch, beside its own packages."
    python = hosts.python_of(host)
    command = [str(python) if python else "PYTHON", str(host.folder / links.NAME / "install.py")]
    which = "" if python else " with the PYTHON that runs ComfyUI"
    return f"Then run once{which}, and start ComfyUI again:\n  {as_typed(command)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="install.py",
        description="Sets up zit_ext, shows what it does, tests it, and puts it into ComfyUI or A1111.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="set everything up in .venv and show the main job",
        description="Sets everything up in .venv, and runs the main job in separate processes.",
        epilog="Other options go to the demo: --model FOLDER_OR_ID, --json FILE, --out DIR, --side PIXELS.",
        allow_abbrev=False,
    )
    test = commands.add_parser(
        "test",
        help="run the tests, and name what they could not run",
        description="Installs what the tests need, runs what this machine can run, and names the rest.",
        epilog="Groups: "
        + "; ".join(f"{each.name}: {each.what}" for each in groups.GROUPS)
        + ". Other arguments go to pytest.",
        allow_abbrev=False,
    )
    for each in (demo, test):
        each.add_argument("--torch-index", metavar="URL", help="take torch from this package index")
        each.add_argument("--verbose", action="store_true", help="show all that pip says")
    test.add_argument(
        "--group", action="append", default=[], choices=groups.NAMES, help="only this group (repeatable)"
    )
    test.add_argument("--all", action="store_true", help="fail if a group that could be had is missing")
    test.add_argument("--lint", action="store_true", help="ruff, mypy --strict and the import contracts too")

    for kind, name in hosts.NAMES.items():
        link = commands.add_parser(kind, help=f"put zit_ext into {name}", allow_abbrev=False)
        link.add_argument("path", type=Path, metavar="PATH", help=f"the folder of {name}")
        link.add_argument("--copy", action="store_true", help="copy the files instead of linking the folder")
    undo = commands.add_parser("uninstall", help="take it out of a host again", allow_abbrev=False)
    undo.add_argument("path", type=Path, nargs="?", metavar="PATH", help="the host; all, if none is named")
    doctor = commands.add_parser(
        "doctor", help="say what is wrong with an installation and how to mend it", allow_abbrev=False
    )
    doctor.add_argument("path", type=Path, nargs="?", metavar="PATH", help="a host to examine too")
    return parser


def _say(words: str) -> None:
    print(words, flush=True)
