"""The memo without a host: what fails on the way costs a hit and not the value."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_nodes.graph import Described, NotKeyableError
from zit_ext.testing_engine import TrialEngine


@pytest.fixture
def memo_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`comfy_nodes.memo`, over a stand-in for what it asks of ComfyUI."""
    import comfy_nodes

    stand_in = SimpleNamespace(
        are_older=lambda files: True,
        folders=lambda: None,
        held_since_memory_ran_out=lambda classes, ran: None,
    )
    monkeypatch.setitem(sys.modules, "comfy_nodes.host", stand_in)
    monkeypatch.setattr(comfy_nodes, "host", stand_in, raising=False)
    monkeypatch.delitem(sys.modules, "comfy_nodes.memo", raising=False)
    yield importlib.import_module("comfy_nodes.memo")
    sys.modules.pop("comfy_nodes.memo", None)
    vars(comfy_nodes).pop("memo", None)


@pytest.fixture
def memo(memo_module: Any, tmp_path: Any) -> Any:
    with TrialEngine(tmp_path, installed=False) as engine:
        yield memo_module.Memo(engine.runtime)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error"), OSError("disk")], ids=repr)
def test_a_value_that_cannot_be_copied_is_handed_on(memo, memo_module, monkeypatch, error):
    def fails(value: Any) -> bytes:
        raise error

    monkeypatch.setattr(memo_module, "encode_value", fails)
    described = Described(nodes=[], start=[], files=[], packs=[], classes=[], texts=[], signatures={})
    question = memo_module.Question({"namespace": "default"}, (), described)
    status = memo.keep(question, question, [None], cost=1.0, ran={}, options=memo_module.Options())
    assert status.detail.startswith(f"not kept: {type(error).__name__}")
    assert not status.stored


async def test_a_graph_that_cannot_be_described_passes_through(memo, memo_module):
    class Torn:
        def get_node(self, node_id: str) -> Any:
            raise OSError("a disk that fails")

    with pytest.raises(NotKeyableError, match="a disk that fails"):
        await memo.ask(Torn(), ["1", 0], memo_module.Options())
