"""`zit-ext models`: the weights that are found, the one that the settings name, and those that are held."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict
from typing import Any

from .. import human
from ..errors import ModelError, ModelMissingError, RequestError
from ..found_weights import FoundWeights, found_weights
from ..models import hub_cache
from ..models.ledger import Ledger
from ..models.naming import model_named
from ..renderers.model_server import ServerRenderer
from ..settings import Settings
from .context import Context
from .held_weights import held_rows, show_held
from .parser import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "models",
        models,
        help="list the weights that are found and where, and those that are held",
        description="Lists the weights in the model folders of the settings and in the Hugging Face cache, "
        "those that the model server holds, and how much our programs have on each GPU.",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def models(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings()
    found = found_weights(settings, context.environ)
    chosen = _chosen(settings)
    held = asyncio.run(ServerRenderer(settings).holdings())
    devices = Ledger(settings.data_dir / "ledger").rows()
    if options.json:
        rows = [_row(each) for each in found]
        places = {
            "model_dirs": [str(each) for each in settings.model_dirs],
            "hugging_face_cache": str(hub_cache.cache_folder(context.environ)),
        }
        holds = None if held is None else held_rows(held)
        context.console.json(
            {
                "model": chosen,
                "found": rows,
                "places": places,
                "held": holds,
                "devices": [asdict(each) for each in devices],
            }
        )
        return 0
    say = context.console.say
    where = chosen["path"] or f"not found: {chosen['problem']}"
    say(f"model of the settings: {chosen['source']}" + (f" ({where})" if where != chosen["source"] else ""))
    if found:
        say()
        table = [
            (each.kind.value, each.name, human.size(each.bytes), each.pipeline or "single file", each.place)
            for each in found
        ]
        context.console.table(("kind", "name", "size", "layout", "found in"), table, right=("size",))
    else:
        say("no other weights were found")
    say()
    folders = [f"{each}{'' if each.is_dir() else ' (not there)'}" for each in settings.model_dirs]
    say(f"model folders: {', '.join(folders) or 'none (set model_dirs)'}")
    say(f"Hugging Face cache: {hub_cache.cache_folder(context.environ)}")
    say()
    if held is None:
        say("no model server runs that could hold weights")
    else:
        show_held(held, context.console)
    if devices:
        say()
        lines = [(each.device, each.label, str(each.pid), human.size(each.bytes)) for each in devices]
        context.console.table(("device", "program", "process", "weights"), lines, right=("weights",))
    return 0


def _chosen(settings: Settings) -> dict[str, Any]:
    """Return the model that requests get if they name none, and whether it is there."""
    try:
        model = model_named("", settings)
    except (ModelError, RequestError) as error:
        problem = error.remedy if isinstance(error, ModelMissingError) else str(error)
        return {"source": settings.model, "path": None, "hashed": False, "problem": problem}
    path = None if model.path is None else str(model.path)
    hashed = model.digest is not None and not model.believed
    return {"source": settings.model, "path": path, "hashed": hashed, "problem": None}


def _row(each: FoundWeights) -> dict[str, Any]:
    return {
        "kind": each.kind.value,
        "name": each.name,
        "path": str(each.path),
        "bytes": each.bytes,
        "pipeline": each.pipeline or None,
        "place": each.place,
    }
