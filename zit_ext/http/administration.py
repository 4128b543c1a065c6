"""Weights, plugins and the live queue, for dashboards and hosts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..errors import RequestError, ZitError
from ..models.holdings import HeldModel, Holdings
from ..records import ModelRef
from .auth import Scope
from .board import Running
from .errors import HttpError
from .messages import Answer, json_answer
from .service import Call, Route

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often we look whether weights that are to be loaded have to wait."""


def routes() -> list[Route]:
    read, admin = Scope.READ, Scope.ADMIN
    return [
        Route("GET", "/zit/v1/models", models, scope=read),
        Route("POST", "/zit/v1/models/preload", preload, scope=admin),
        Route("POST", "/zit/v1/models/unload", unload, scope=admin),
        Route("GET", "/zit/v1/plugins", plugins, scope=admin),
        Route("GET", "/zit/v1/queue", queue, scope=read),
        Route("POST", "/zit/v1/queue/{number}/stop", stop, scope=Scope.GENERATE),
    ]


async def models(call: Call) -> Answer:
    """Answer with the weights that can be named, and what is held where."""
    return json_answer(await models_of(call))


async def models_of(call: Call) -> dict[str, Any]:
    """Return the names of weights, and what is held where."""
    holdings = await call.runtime.holdings()
    names = await _names(call, holdings)
    told: dict[str, Any] = {"names": names, "device": None, "held": []}
    if holdings is not None:
        name_of = call.service.catalogue.name_of
        told |= {
            "device": holdings.device,
            "held": [_held(call, each) for each in holdings.models],
            "vram_bytes": holdings.vram_bytes,
            "ram_bytes": holdings.ram_bytes,
            "loads": holdings.loads,
            "load_seconds": holdings.load_seconds,
            "renders": holdings.renders,
            "queued": holdings.queued,
            "running": None if holdings.running is None else name_of(holdings.running),
            "loading": None if holdings.loading is None else name_of(holdings.loading),
            "waiting": [name_of(each) for each in holdings.waiting],
        }
    return told


async def names_of(call: Call) -> list[str]:
    """Return the names of all weights that can be asked for: of the settings, held or found."""
    try:
        holdings = await call.runtime.holdings()
    except ZitError:
        holdings = None  # what is held elsewhere is not known just now
    return await _names(call, holdings)


async def _names(call: Call, holdings: Holdings | None) -> list[str]:
    catalogue = call.service.catalogue
    held = [] if holdings is None else [each.source for each in holdings.models]
    await asyncio.to_thread(catalogue.look, held)
    return list(catalogue.names)


def _held(call: Call, model: HeldModel) -> dict[str, Any]:
    return {
        "name": call.service.catalogue.name_of(model.source),
        "rendering": model.rendering,
        "used_at": model.used_at,
        "keep_alive": model.keep_alive,
        "load_seconds": model.load_seconds,
        "parts": [
            {
                "name": part.name,
                "bytes": part.bytes,
                "tier": part.tier.value,
                "leases": part.leases,
                "shared": part.shared,
            }
            for part in model.parts
        ],
    }


async def preload(call: Call) -> Answer:
    """Have weights near the device; answered when they are there. Where they have to wait, at once."""
    model = _named(call, await call.json())
    if model is None:
        raise RequestError("model", None, "name the weights")
    behind = call.service.queue_is_busy()
    coming = asyncio.ensure_future(call.service.preload(model))
    try:
        state = await _waits(call, model, coming, behind)
        if state is None:
            await coming
            return json_answer({"loaded": True, "state": "loaded"})
    except BaseException:
        coming.cancel()  # whoever asked has left
        raise
    _keep(coming, "weights were not loaded when their turn had come")
    return json_answer({"loaded": False, "state": state}, status=202)


async def _waits(call: Call, model: ModelRef, coming: asyncio.Future[None], behind: bool) -> str | None:
    """Return in words what the weights have to wait for; None once they are there, or could not come.

    `behind`: something was in the host's queue before them.
    """
    while not (await asyncio.wait({coming}, timeout=LOOK_SECONDS))[0]:
        holdings = await call.runtime.holdings()
        if holdings is not None and model.source in holdings.waiting:
            return "loading when the render is done" if holdings.running else "loading when its turn has come"
        if behind:
            return "loading when its turn has come"
    return None


async def unload(call: Call) -> Answer:
    """Let go of weights; without a name, of all. Where a render uses them the answer says so, at once."""
    model = _named(call, await call.json())
    holdings = await call.runtime.holdings()
    held = () if holdings is None else holdings.models
    if any(each.rendering and (model is None or each.source == model.source) for each in held):
        going = asyncio.ensure_future(call.runtime.unload(model))
        _keep(going, "weights were not let go of after their render")
        return json_answer({"unloaded": 0, "state": "unloading when the render is done"}, status=202)
    return json_answer({"unloaded": await call.runtime.unload(model), "state": "unloaded"})


_waiting: set[asyncio.Future[Any]] = set()
"""What was answered before it was done. A loop forgets tasks that nobody holds."""


def _keep(task: asyncio.Future[Any], if_it_fails: str) -> None:
    def done(task: asyncio.Future[Any]) -> None:
        _waiting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("%s: %s", if_it_fails, error)

    _waiting.add(task)
    task.add_done_callback(done)


def _named(call: Call, values: Mapping[str, Any]) -> ModelRef | None:
    for other in values.keys() - {"model"}:
        raise RequestError(other, values[other], "there is no such field")
    name = values.get("model")
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise RequestError("model", name, "give a name, as /zit/v1/models lists them")
    return ModelRef(source=call.service.catalogue.source_of("model", name))


async def plugins(call: Call) -> Answer:
    """Answer with every plugin, and what went wrong with it."""
    known = call.runtime.hooks.plugins
    troubles = known.troubles.all()
    return json_answer(
        {
            "plugins": [
                {
                    "name": report.name,
                    "origin": report.origin,
                    "hooks": list(report.hooks),
                    "fields_version": report.fields_version,
                    "touches": list(report.touches),
                    "state": report.state,
                    "broken": report.broken,
                }
                for report in dict(known.reports).values()
            ],
            "troubles": [asdict(each) for each in troubles],
        }
    )


async def queue(call: Call) -> Answer:
    """Answer with what is being made for the caller's namespace, the oldest first."""
    return json_answer(queue_of(call, call.who.seen_namespace(None)))


def queue_of(call: Call, namespace: str | None) -> dict[str, Any]:
    """Return what is being made for a namespace (None: for all), the oldest first."""
    return {"running": [_running(call, each) for each in call.service.board.running(namespace)]}


def _running(call: Call, running: Running) -> dict[str, Any]:
    request = running.request
    return {
        "number": running.number,
        "request_id": running.id,
        "namespace": running.namespace,
        "prompt": request.prompt,
        "model": call.service.catalogue.name_of(request.model.source),
        "seed": request.seed,
        "width": request.width,
        "height": request.height,
        "started_at": running.started_at,
        "done": running.done,
        "total": running.total,
        "stopped": running.stopped,
    }


async def stop(call: Call) -> Answer:
    """Stop one picture, unless somebody else waits for it too."""
    text = call.names["number"]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
    if not call.service.board.stop(call.who.seen_namespace(None), number=number):
        raise HttpError(404, "not_running", "nothing of this number is being made")
    return json_answer({"stopped": True})
