"""Work that came over HTTP and needs the device, on the host's own thread, when its queue comes to it.

The host's queue holds graphs and nothing else. So a graph of one node goes in, which names the work; the
work itself waits here. A ticket is a secret of this process: a graph that somebody else made names none.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from zit_ext.errors import GenerationStoppedError, QueueFullError

from . import host

io = host.io
T = TypeVar("T")

MOST = 64
"""Works that wait at once."""

LOOK_SECONDS = 0.5
"""How often we look whether the user has taken the work out of the queue."""

_waiting: dict[str, tuple[Callable[[], Any], Future[Any]]] = {}


async def in_hosts_queue(work: Callable[[], T]) -> T:
    """Return what the work comes to. Cancelled, it leaves the queue, or stops at its next step.

    Raises what the work raises, GenerationStoppedError if the user takes it out of the queue or interrupts
    it, and QueueFullError.
    """
    if len(_waiting) >= MOST:
        raise QueueFullError(limit=MOST, retry_after=10.0)
    ticket = secrets.token_hex(16)
    future: Future[T] = Future()
    _waiting[ticket] = (work, future)
    place = host.enqueue({"1": {"class_type": "ZitQueued", "inputs": {"ticket": ticket}}}, ["1"])
    answer = asyncio.wrap_future(future)
    try:
        while not answer.done():
            await asyncio.wait({answer}, timeout=LOOK_SECONDS)
            # Asked in this order: the host lets go of it only after its result is there.
            if not host.is_queued(place) and not future.done():
                raise GenerationStoppedError("it was taken out of ComfyUI's queue")
        return answer.result()
    finally:
        _waiting.pop(ticket, None)
        future.cancel()
        host.dequeue(place)


class Queued(io.ComfyNode):
    """What was asked over HTTP. Nobody puts it into a graph by hand."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitQueued",
            display_name="Z-Image, asked over HTTP",
            category="zit_ext",
            description="Stands in the queue for a request that came over HTTP. It is of no use in a graph.",
            is_output_node=True,
            is_deprecated=True,  # the host's way to keep it out of its menus
            is_dev_only=True,
            inputs=[io.String.Input("ticket")],
            outputs=[],
        )

    @classmethod
    def execute(cls, ticket):
        work, future = _waiting.pop(ticket, (None, None))
        if work is None or not future.set_running_or_notify_cancel():
            return io.NodeOutput()  # whoever asked has left
        try:
            future.set_result(work())
        except CancelledError:
            future.set_exception(GenerationStoppedError("it was interrupted in ComfyUI"))
            host.raise_if_interrupted()
        except Exception as error:
            future.set_exception(error)
        return io.NodeOutput()
