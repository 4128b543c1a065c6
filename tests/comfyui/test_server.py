"""`renderer = server` in the real host: the model server holds the weights and renders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import getting
from .host import ROOT, Host, python_for
from .test_generate import outcomes, render


@pytest.fixture
def served(checkout: Path, tmp_path: Path) -> Iterator[Host]:
    python, paths = python_for(checkout, getting.get)
    host = Host(checkout, python, paths, tmp_path)
    host.environ["ZIT_RENDERER"] = "server"
    host.start()
    yield host
    host.stop()
    places = {"ZIT_CONFIG": "config.toml", "ZIT_CACHE_DIR": "cache", "ZIT_DATA_DIR": "data"}
    environ = {**os.environ, **{name: str(tmp_path / place) for name, place in places.items()}}
    stop = [sys.executable, "-m", "zit_ext.cli", "server", "stop"]
    subprocess.run(stop, cwd=ROOT, env=environ, check=True, timeout=60)


def test_the_model_server_renders_and_its_picture_is_a_hit_later(served, tiny_model):
    first = render(served, tiny_model, prompt="by the server")
    assert outcomes(first) == ["miss"]
    told = served.run({"1": {"class_type": "ZitStatistics", "inputs": {}}})
    assert "weights are held by the model server" in told.texts("1")[0]
    served.wait_for_entries(0)
    served.restart()
    again = render(served, tiny_model, prompt="by the server")
    assert outcomes(again) == ["hit"], again.texts("1")
    assert again.texts("3") == first.texts("3")
