"""`zit-ext plugins`: who takes part, what went wrong with whom, and a new plugin to begin with."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..default_plugins.counting import Counting
from ..default_plugins.zimage import ZImage
from ..errors import ModelError, RequestError
from ..human import age
from ..pipeline import Pipeline
from ..plugin_trouble import Trouble, forget_troubles, read_troubles
from ..plugins import PluginReport
from ..records import ModelRef
from ..runtime import plugins_for, troubles_path
from ..settings import Settings
from .context import Context
from .parser import Commands
from .plugin_template import module_of, write_plugin


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "plugins",
        plugins,
        help="list the plugins and what went wrong with them, or begin a new one",
        description="list (the default): every plugin that is installed, and what went wrong with plugins in "
        "any program of yours. new NAME: write a package with a plugin of that name, its tests and a README. "
        "forget [NAME]: take the troubles of one plugin, or of all, from the list.",
    )
    parser.add_argument("what", nargs="?", choices=("list", "new", "forget"), default="list")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the plugin's name, such as watermark")
    parser.add_argument(
        "--into", metavar="FOLDER", default=".", help="where `new` makes the package's folder"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def plugins(options: argparse.Namespace, context: Context) -> int:
    if options.what == "new":
        return _new(options, context)
    settings = context.settings()
    if options.what == "forget":
        forgotten = forget_troubles(troubles_path(settings), options.name)
        context.console.say(f"{forgotten} forgotten")
        return 0
    listing = listed(settings)
    if options.json:
        context.console.json(listing.plain())
    else:
        _show(listing, context)
    return 0


@dataclass(frozen=True, slots=True)
class Listing:
    """What is known of plugins in this installation."""

    reports: Mapping[str, PluginReport]
    troubles: list[Trouble]
    disabled: tuple[str, ...] = ()
    """What the settings leave out, whether or not it is there."""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        rows = [asdict(report) | {"state": state(report)} for report in self.reports.values()]
        return {"plugins": rows, "troubles": [asdict(trouble) for trouble in self.troubles]}


def listed(settings: Settings) -> Listing:
    """Return the plugins as a program of this installation finds them, and the troubles of all programs."""
    known = {(each.plugin, each.hook, each.kind): each for each in read_troubles(troubles_path(settings))}
    found = plugins_for(settings, label="zit-ext")
    # A runtime brings these two; here is none.
    found.register(Counting(lambda result: None), "metrics", "built in")
    found.register(ZImage(_opens_nothing), "zimage", "built in")
    # What is broken here and now stands in its own row.
    ours = set(found.reports)
    past = [each for each in known.values() if each.kind != "left_out" or each.plugin not in ours]
    return Listing(found.reports, past, tuple(settings.disabled_plugins))


def state(report: PluginReport) -> str:
    """Return what becomes of a plugin, in a word or with the reason.

    >>> state(PluginReport("a", "host", broken="no such hook"))
    'left out: no such hook'
    """
    if report.broken:
        return f"left out: {report.broken}"
    return "disabled" if report.disabled else "on"


def _show(listing: Listing, context: Context) -> None:
    rows = [
        [
            report.name,
            report.origin,
            ", ".join(hook.removeprefix("zit_") for hook in report.hooks) or "-",
            str(report.fields_version) if "zit_fingerprint_fields" in report.hooks else "-",
            ", ".join(report.touches) or "everything",
            state(report),
        ]
        for report in listing.reports.values()
    ]
    console = context.console
    console.table(("plugin", "from", "hooks", "fields", "touches", "state"), rows)
    if broken := [report.name for report in listing.reports.values() if report.broken]:
        names = ", ".join(broken)
        disabled = ",".join([*listing.disabled, *broken])
        console.say()
        console.say(
            f"left out: {names}. What they touch bypasses the cache until they are mended, or disabled"
        )
        console.say(f"on purpose: ZIT_DISABLED_PLUGINS={shlex.quote(disabled)}")
    if unknown := [name for name in listing.disabled if name not in listing.reports]:
        console.say()
        console.say(f"disabled, but nothing here is called that: {', '.join(unknown)}")
    if listing.troubles:
        console.say()
        now = time.time()
        troubles = [
            [
                age(now - each.at),
                each.where,
                each.plugin,
                each.kind,
                str(each.times),
                _on_one_line(each.words),
            ]
            for each in listing.troubles
        ]
        console.table(("seen", "in", "plugin", "trouble", "times", "what"), troubles, right=("times",))


def _on_one_line(words: str) -> str:
    """Return what went wrong, and of a stack only where it stands.

    >>> _on_one_line("it hangs here:\\n  File 'a.py', line 1\\n    b()\\n  File 'b.py', line 2\\n    c()")
    "it hangs here: File 'b.py', line 2: c()"
    """
    first, *stack = [line.strip() for line in words.strip().split("\n")]
    places = [number for number, line in enumerate(stack) if line.startswith("File ")]
    return f"{first} {': '.join(stack[places[-1] :][:2])}" if places else first


def _new(options: argparse.Namespace, context: Context) -> int:
    if options.name is None:
        raise RequestError("name", None, "name the plugin: zit-ext plugins new NAME")
    folder = write_plugin(options.name, Path(options.into))
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if options.json:
        context.console.json({"folder": str(folder), "files": written, "module": module_of(options.name)})
        return 0
    console = context.console
    console.say(f"{folder}: {', '.join(written)}")
    console.say(f"install it beside zit_ext:  cd {folder} && python -m pip install -e '.[test]'")
    console.say("and test it:                python -m pytest")
    return 0


def _opens_nothing(model: ModelRef) -> Pipeline:
    raise ModelError(f"{model.source} is only listed here")
