"""Who renders in the real host: itself or the model server; and what it says where neither can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zit_ext.model_server.home import ServerHome

from . import getting
from .host import ROOT, Host, Ran, python_for
from .test_cache_any import cached, run, run_again, slow, status
from .test_generate import outcomes, picture, render

Starting = Callable[..., Host]


@pytest.fixture
def started(checkout: Path, tmp_path: Path) -> Iterator[Starting]:
    """Start a host with these variables. At the end it and its model server are stopped."""
    hosts: list[Host] = []

    def start(**environ: str) -> Host:
        python, paths = python_for(checkout, getting.get)
        stand_ins = Path(__file__).parent / "stand_ins"
        host = Host(checkout, python, [*paths, *({stand_ins} - set(paths))], tmp_path)
        host.environ |= environ
        hosts.append(host)
        host.start()
        return host

    yield start
    for host in hosts:
        host.stop()
        stop_server(host)


def stop_server(host: Host) -> None:
    places = {"ZIT_CONFIG": "config.toml", "ZIT_CACHE_DIR": "cache", "ZIT_DATA_DIR": "data"}
    environ = {**os.environ, **{name: str(host.base / place) for name, place in places.items()}}
    stop = [sys.executable, "-m", "zit_ext.cli", "server", "stop"]
    subprocess.run(stop, cwd=ROOT, env=environ, check=True, timeout=60)


def server_runs(host: Host) -> bool:
    return any(ServerHome(place).is_locked("lock") for place in (host.base / "data" / "server").glob("*"))


def render_without_server(host: Host, tiny_model: str, prompt: str) -> Ran:
    """Ask again for what is kept, after a restart of the host and the end of the server: a hit."""
    host.wait_for_entries(0)
    host.stop()
    stop_server(host)
    host.start()
    again = render(host, tiny_model, prompt=prompt)
    assert outcomes(again) == ["hit"], again.texts("1")
    assert not server_runs(host)
    return again


def test_the_model_server_renders_and_its_picture_is_a_hit_later_that_needs_none(started, tiny_model):
    host = started(ZIT_RENDERER="server")
    first = render(host, tiny_model, prompt="by the server")
    assert outcomes(first) == ["miss"]
    told = host.run({"1": {"class_type": "ZitStatistics", "inputs": {}}})
    assert "weights are held by the model server" in told.texts("1")[0]
    again = render_without_server(host, tiny_model, prompt="by the server")
    assert again.texts("3") == first.texts("3")


def test_auto_is_the_model_server_where_comfyuis_python_cannot_render(started, tiny_model):
    host = started(ZIT_RENDERER="auto", ZIT_TEST_WITHOUT="diffusers", ZIT_SERVER_PYTHON=sys.executable)
    first = render(host, tiny_model, prompt="by another Python")
    assert outcomes(first) == ["miss"]
    assert server_runs(host)
    render_without_server(host, tiny_model, prompt="by another Python")


def test_auto_is_comfyui_itself_where_its_python_can_render(started, tiny_model):
    host = started(ZIT_RENDERER="auto")
    assert outcomes(render(host, tiny_model, prompt="by itself")) == ["miss"]
    assert not server_runs(host)


def test_without_diffusers_the_node_says_what_to_do_and_the_cache_works(started, tiny_model, tmp_path):
    (tmp_path / "wheels").mkdir()
    host = started(
        ZIT_RENDERER="auto",
        ZIT_TEST_WITHOUT="diffusers",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(tmp_path / "wheels"),
        PIP_CONFIG_FILE=os.devnull,
    )
    ran = host.run(picture(tiny_model))
    assert ran.ending == "execution_error"
    assert "needs diffusers, which ComfyUI's Python lacks" in ran.error
    assert "Whether it can be added there is not known: The package index offers no diffusers" in ran.error
    assert "-m zit_ext.cli server provision" in ran.error

    graph = cached(slow(0.625))
    run(host, graph)
    assert status(run_again(host, graph)).startswith("hit")
