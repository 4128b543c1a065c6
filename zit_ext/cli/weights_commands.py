"""`zit-ext preload` and `zit-ext unload`: weights in the model server, which outlives this command."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable

from .. import human
from ..errors import SettingError
from ..models.download import ensure_downloaded, ensure_tokenizer
from ..models.naming import model_named
from ..records import ModelRef
from ..renderers.model_server import ServerRenderer
from ..settings import Settings
from .context import Context
from .parser import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "preload",
        preload,
        help="have a model's weights ready in the model server",
        description="Reads the weights of a model into the model server, which is started if none runs. "
        "They stay for keep_alive seconds after their last use (-1: for ever).",
    )
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="default: the settings' model")
    parser.add_argument("--json", action="store_true", help="for programs")

    parser = commands.add(
        "unload",
        unload,
        help="let go of weights that the model server holds",
        description="Lets go of the weights of a model in the model server; if it renders, after its render. "
        "Starts no server.",
    )
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="default: the settings' model")
    parser.add_argument("--all", action="store_true", help="of all models")
    parser.add_argument("--json", action="store_true", help="for programs")


def preload(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings()
    if settings.renderer == "local":
        raise SettingError("renderer", "local", "weights stay only in a model server; choose auto or server")
    source = options.model or settings.model
    ensure_downloaded(source, settings)
    model = model_named(source, settings)
    ensure_tokenizer(model, settings)
    began = time.perf_counter()
    asyncio.run(_preload(settings, model, context.console.note))
    seconds = time.perf_counter() - began
    if options.json:
        context.console.json({"model": source, "seconds": seconds})
    else:
        context.console.say(f"{source} is ready in the model server, after {human.duration(seconds)}")
    return 0


def unload(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings()
    source = options.model or settings.model
    gone = asyncio.run(_unload(settings, None if options.all else source, context.console.note))
    if options.json:
        context.console.json({"unloaded": gone})
    elif gone:
        context.console.say(f"let go of {human.count(gone, 'model')}")
    else:
        context.console.say("nothing was held" if options.all else f"nothing of {source} was held")
    return 0


async def _preload(settings: Settings, model: ModelRef, note: Callable[[str], None]) -> None:
    renderer = ServerRenderer(settings)
    noting = asyncio.ensure_future(_note_if_it_waits(renderer, model.source, note))
    try:
        await renderer.preload(model)
    finally:
        noting.cancel()
        await asyncio.gather(noting, return_exceptions=True)
        await renderer.close()


async def _note_if_it_waits(renderer: ServerRenderer, source: str, note: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(0.25)
        held = await renderer.holdings()
        if held is not None and source in held.waiting:
            others = f"{held.running} renders" if held.running else f"{held.loading} is being read"
            note(f"{others}: {source} waits for its turn")
            return


async def _unload(settings: Settings, source: str | None, note: Callable[[str], None]) -> int:
    renderer = ServerRenderer(settings)
    held = await renderer.holdings()
    for each in () if held is None else held.models:
        if each.rendering and source in (None, each.source):
            note(f"{each.source} renders: its weights go when the render is done")
    if source is None:
        return await renderer.unload_all()
    # By its name: the files may be gone, and their weights held all the same.
    return int(await renderer.unload(ModelRef(source=source)))
