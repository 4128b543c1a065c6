"""Work that waits for the host's queue, at moments that the real host cannot be made to meet."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def queueing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module over a host whose queue comes to the work while we ask whether it is there still."""
    host = ModuleType("comfy_nodes.host")
    tickets: list[str] = []

    def enqueue(graph: Mapping[str, Any], outputs: Sequence[str]) -> str:
        tickets.append(graph["1"]["inputs"]["ticket"])
        return "place"

    def is_queued(place: str) -> bool:
        if tickets:
            module.Queued.execute(tickets.pop())
        return False

    vars(host).update(
        io=SimpleNamespace(ComfyNode=object, NodeOutput=object),
        enqueue=enqueue,
        is_queued=is_queued,
        dequeue=lambda place: None,
    )
    monkeypatch.setitem(sys.modules, "comfy_nodes.host", host)
    monkeypatch.setattr("comfy_nodes.host", host, raising=False)
    monkeypatch.delitem(sys.modules, "comfy_nodes.queueing", raising=False)
    module = importlib.import_module("comfy_nodes.queueing")
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    yield module
    sys.modules.pop("comfy_nodes.queueing", None)


def test_a_picture_that_is_ready_just_as_its_place_is_given_up_is_answered(queueing):
    assert asyncio.run(queueing.in_hosts_queue(lambda: "a picture")) == "a picture"
