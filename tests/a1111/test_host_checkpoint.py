"""One device, two owners: the webui's own checkpoint and the weights of Z-Image are on it in turn."""

from __future__ import annotations

import importlib
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any

import pytest

from zit_ext.errors import ServerError


@pytest.fixture
def told(webui: Any, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The checkpoint, and all moves in their order."""
    checkpoint = importlib.import_module("a1111_extension.host_checkpoint")
    moves: list[str] = []
    model = type("Model", (), {})()
    models = SimpleNamespace(
        model_data=SimpleNamespace(sd_model=model),
        send_model_to_cpu=lambda moved: moves.append("the webui's leaves"),
        send_model_to_device=lambda moved: moves.append("the webui's returns"),
        unload_model_weights=lambda: moves.append("the webui's is unloaded"),
    )
    engine = SimpleNamespace(park_blocking=lambda: moves.append("ours leave"))
    monkeypatch.setattr(checkpoint, "sd_models", models)
    monkeypatch.setattr(checkpoint.host, "engine", lambda: engine)
    return SimpleNamespace(checkpoint=checkpoint, moves=moves, models=models, engine=engine)


def test_the_checkpoint_leaves_once_and_returns_after_our_weights_have_left(told):
    assert [told.checkpoint.free(), told.checkpoint.free()] == [True, False]
    assert [told.checkpoint.bring_back(), told.checkpoint.bring_back()] == [True, False]
    assert told.moves == ["the webui's leaves", "ours leave", "the webui's returns"]


def test_a_webui_that_never_used_the_tab_is_left_alone(webui, told):
    webui.script.before_process(webui.job())

    assert told.moves == []


def test_its_next_job_gives_the_webui_its_device_back(webui, told):
    told.checkpoint.free()
    webui.script.before_process(webui.job())

    assert told.moves[1:] == ["ours leave", "the webui's returns"]


def test_without_room_for_it_the_next_job_tries_again(webui, told, monkeypatch):
    def full(moved: Any) -> None:
        raise RuntimeError("out of memory")

    told.checkpoint.free()
    with monkeypatch.context() as patch:
        patch.setattr(told.models, "send_model_to_device", full)
        with pytest.raises(RuntimeError):
            webui.script.before_process(webui.job())
    webui.script.before_process(webui.job())

    assert told.moves[-1] == "the webui's returns"


def test_without_a_checkpoint_nothing_is_loaded_only_to_be_moved(told):
    told.models.model_data.sd_model = None
    assert not told.checkpoint.free()
    told.checkpoint.bring_back()

    assert told.moves == ["ours leave"]


def test_a_checkpoint_that_was_replaced_meanwhile_is_not_moved(told):
    told.checkpoint.free()
    told.models.model_data.sd_model = object()
    told.checkpoint.bring_back()

    assert "the webui's returns" not in told.moves


def test_a_webui_that_moves_its_models_by_itself_is_asked_to(told):
    del told.models.send_model_to_cpu
    told.checkpoint.free()
    told.checkpoint.bring_back()

    assert told.moves == ["the webui's is unloaded", "ours leave"]


@pytest.mark.parametrize(
    "error",
    [ServerError("the model server was lost", "see its log"), CancelledError(), ValueError("x")],
    ids=repr,
)
def test_a_model_server_that_is_lost_does_not_keep_the_checkpoint_away(told, monkeypatch, error):
    def lost() -> None:
        raise error

    told.checkpoint.free()
    monkeypatch.setattr(told.engine, "park_blocking", lost)
    told.checkpoint.bring_back()

    assert told.moves[-1] == "the webui's returns"
