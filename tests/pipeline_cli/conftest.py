"""The tiny model, and an empty place to ask for pictures from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zit_ext.models.tiny import build

    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> Path:
    """A folder to work in, and settings that nobody has changed."""
    for name in os.environ:
        if name.startswith("ZIT_") or name == "DISABLE_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("ZIT_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("ZIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIT_MODEL", str(tiny))
    monkeypatch.setenv("ZIT_OFFLINE", "on")
    monkeypatch.setenv("ZIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place
