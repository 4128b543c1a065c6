"""`/metrics` for Prometheus: what one process counted, holds and waits for. Needs prometheus_client."""

from __future__ import annotations

import asyncio
import contextlib
from importlib.util import find_spec

from ..errors import StoreError, ZitError
from ..models.driver_memory import Driver
from .auth import Scope
from .errors import HttpError
from .messages import Answer
from .prometheus import Scrape, exposition
from .service import Call, Route

PACKAGE = "prometheus_client"
DRIVER = Driver()


def routes() -> list[Route]:
    """Return the route under `/zit/`, which hosts mount too."""
    return [Route("GET", "/zit/v1/metrics", metrics, scope=Scope.READ)]


def program_routes() -> list[Route]:
    """Return the route where Prometheus looks if nobody tells it otherwise."""
    return [Route("GET", "/metrics", metrics, scope=Scope.READ)]


async def metrics(call: Call) -> Answer:
    """Answer with all metrics, as text. They are of all namespaces: a caller with one may not see them."""
    if not call.who.every_namespace:
        raise HttpError(403, "namespace", 'metrics are of all namespaces: the token needs namespace = "*"')
    if find_spec(PACKAGE) is None:
        raise HttpError(501, "no_prometheus_client", f"{PACKAGE} is needed: pip install 'zit_ext[metrics]'")
    scrape = await _scrape(call)
    accepts = call.asked.headers.get("accept", "")
    body, media_type = await asyncio.to_thread(exposition, scrape, accepts)
    return Answer(headers={"content-type": media_type, "cache-control": "no-store"}, body=body)


async def _scrape(call: Call) -> Scrape:
    service, runtime = call.service, call.runtime
    holdings = usage = None
    with contextlib.suppress(ZitError):  # the model server ends, or the engine does
        holdings = await runtime.holdings()
    with contextlib.suppress(StoreError):
        usage = await asyncio.to_thread(runtime.store.usage)
    return Scrape(
        counted=runtime.metrics.snapshot(),
        usage=usage,
        holdings=holdings,
        name_of=service.catalogue.name_of,
        plugins=tuple(dict(runtime.hooks.plugins.reports).values()),
        running=len(service.board.running()),
        streams=service.limits.open_streams,
        at_hand_bytes=service.shelf.held_bytes,
        devices=await asyncio.to_thread(DRIVER.memory),
    )
