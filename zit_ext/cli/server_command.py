"""`zit-ext server`: the process that keeps weights while programs come and go."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import human
from ..errors import ServerError
from ..model_server.home import ServerHome, State
from ..model_server.provisioned import Provisioned
from ..model_server.starting import ServerPython, server_for, stop
from ..models.holdings import Holdings
from ..renderers.model_server import ServerRenderer
from ..settings import Settings
from .context import Context
from .held_weights import held_rows, show_held
from .parser import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "server",
        server,
        help="say whether a model server runs, start it, stop it, read its log",
        description="status (the default): the model server of the settings' device, and what it holds. "
        "start: have one. stop: end it; programs that wait for a picture of it start a new one. "
        "logs: the end of its log. provision: see that there is a Python that it can run on.",
    )
    parser.add_argument("what", nargs="?", choices=tuple(_ACTIONS), default="status")
    parser.add_argument("--lines", type=int, default=20, metavar="N", help="how many lines of the log")
    parser.add_argument(
        "--python", type=Path, metavar="FILE", help="provision: the Python to begin with, if not this one"
    )
    parser.add_argument("--torch-index", metavar="URL", help="provision: take torch from this package index")
    parser.add_argument("--json", action="store_true", help="for programs")


def server(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings()
    return _ACTIONS[options.what](ServerHome.of(settings), settings, context)


def _start(home: ServerHome, settings: Settings, context: Context) -> int:
    async def start() -> None:
        (await server_for(home, settings, ServerPython.of(settings))).close()

    asyncio.run(start())
    return _status(home, settings, context)


def _stop(home: ServerHome, settings: Settings, context: Context) -> int:
    was_there = asyncio.run(stop(home))
    if context.options.json:
        context.console.json({"stopped": was_there})
    else:
        context.console.say("the model server has ended" if was_there else _none_runs(settings))
    return 0


def _status(home: ServerHome, settings: Settings, context: Context) -> int:
    state = home.state()
    held = asyncio.run(ServerRenderer(settings).holdings())
    if context.options.json:
        context.console.json(_row(home, settings, state, held))
        return 0
    say = context.console.say
    if state is None:
        say(_none_runs(settings))
        return 0
    say(f"a model server runs: process {state.pid}, port {state.port}, version {state.version}")
    say(f"started {human.ago(time.time() - state.started_at)}")
    say(f"device  {state.device if held is None else held.device}")
    say(f"python  {state.python}")
    say(f"log     {home.log}")
    if held is None:
        say("it does not say what it holds: it is of another version, or does not answer")
        return 0
    say(f"since its start: {human.count(held.loads, 'load')}, {human.count(held.renders, 'render')}")
    if held.running or held.loading or held.queued:
        doing = [f"renders with {held.running}" if held.running else ""]
        doing += [f"reads {held.loading}" if held.loading else ""]
        doing += [f"{human.count(held.queued, 'request')} wait" if held.queued else ""]
        say(f"now: {', '.join(filter(None, doing))}")
    say()
    show_held(held, context.console)
    return 0


def _logs(home: ServerHome, settings: Settings, context: Context) -> int:
    lines: list[str] = []
    if home.log.exists():
        with home.log.open(encoding="utf-8", errors="replace") as log:
            lines = [line.rstrip("\n") for line in deque(log, maxlen=max(0, context.options.lines))]
    if context.options.json:
        context.console.json({"log": str(home.log), "output": str(home.output), "lines": lines})
        return 0
    if not lines:
        context.console.note(f"nothing is in {home.log}")
    for line in lines:
        context.console.say(line)
    return 0


def _provision(home: ServerHome, settings: Settings, context: Context) -> int:
    try:
        from ..model_server.provisioning import provision
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("zit_ext."):
            raise
        raise ServerError(
            "this copy of zit_ext cannot install anything",
            "use one from another place, or name a Python that renders with server_python",
        ) from None
    console, options = context.console, context.options
    torch_index = options.torch_index or context.environ.get("ZIT_TORCH_INDEX") or None
    made: Provisioned | None = None
    shows = console.shows_progress()
    with contextlib.closing(provision(settings, python=options.python, torch_index=torch_index)) as steps:
        for step in steps:
            if step.words:
                if shows:
                    console.progress("")
                console.note(f"{step.phase:<12}{step.words}")
            if shows and step.done_bytes:
                console.progress(f"{human.size(step.done_bytes)} downloaded")
            made = step.made or made
    if made is None:
        return 1
    if options.json:
        context.console.json({**asdict(made), "server_python": settings.server_python})
        return 0
    context.console.say(f"model servers run on {made.executable} from now on")
    if settings.server_python != "auto":
        context.console.say(f"but not with these settings: server_python is {settings.server_python}")
    elif home.state() is not None:
        context.console.say("the one that runs stays as it is: `zit-ext server stop` lets the next one be it")
    return 0


def _none_runs(settings: Settings) -> str:
    return f"no model server runs (device {settings.device})"


def _row(home: ServerHome, settings: Settings, state: State | None, held: Holdings | None) -> dict[str, Any]:
    # The token stays where it is.
    said = {} if state is None else {name: getattr(state, name) for name in _TOLD}
    return {
        "running": state is not None,
        "device": settings.device,
        **said,
        "log": str(home.log),
        "held": None if held is None else held_rows(held),
        "loads": None if held is None else held.loads,
        "renders": None if held is None else held.renders,
        "queued": None if held is None else held.queued,
    }


_TOLD = ("pid", "port", "version", "device", "python", "started_at")

_ACTIONS: Mapping[str, Callable[[ServerHome, Settings, Context], int]] = {
    "status": _status,
    "start": _start,
    "stop": _stop,
    "logs": _logs,
    "provision": _provision,
}
