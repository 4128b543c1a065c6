"""The real ComfyUI, started once for all tests of a checkout: that of the wheel, and one that is given."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import getting
from .host import ROOT, Host, python_for

collect_ignore = ["competing.py", "pack", "stand_ins"]  # they run inside the host


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "checkout" in metafunc.fixturenames:
        metafunc.parametrize(
            "checkout",
            [
                pytest.param("wheel", marks=[pytest.mark.comfyui, pytest.mark.slow]),
                pytest.param("given", marks=[pytest.mark.host, pytest.mark.slow]),
            ],
            indirect=True,
            scope="session",
        )


@pytest.fixture(scope="session")
def checkout(request: pytest.FixtureRequest) -> Path:
    """The folder of a ComfyUI."""
    if request.param == "wheel":
        return getting.get() / "ComfyUI"
    given = os.environ.get("ZIT_COMFYUI_PATH")
    if not given:
        pytest.skip("ZIT_COMFYUI_PATH is not set")
    return Path(given)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Z-Image model of three megabytes, built in a process of its own."""
    target = tmp_path_factory.mktemp("weights") / "tiny"
    command = [sys.executable, "-m", "zit_ext.models.tiny", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return str(target)


@pytest.fixture(scope="session")
def host(checkout: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that runs; its model is the tiny one. Tests that stop it start it again."""
    python, paths = python_for(checkout, getting.get)
    sys.path.append(str(getting.get() / "site"))  # aiohttp, if our own environment has none
    host = Host(checkout, python, paths, tmp_path_factory.mktemp("comfyui"))
    host.environ["ZIT_MODEL"] = tiny_model
    host.start()
    yield host
    host.stop()
