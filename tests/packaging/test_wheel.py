"""The wheel, as a stranger gets it: built from the source archive, put into an empty environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from zit_ext.installing.children import clean_environ
from zit_ext.installing.places import venv_python
from zit_ext.installing.pythons import VERIFIED, found
from zit_ext.installing.stamp import installed

pytestmark = [pytest.mark.packaging, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(each) for each in arguments],
        cwd=cwd,
        env=clean_environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def pythons() -> dict[str, str]:
    return found()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, since building writes beside it."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy)
    shutil.copytree(ROOT / "zit_ext", copy / "zit_ext", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    return copy


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    before = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert before
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    (built,) = out.glob("*.whl")
    return built


def test_every_file_of_the_package_is_in_the_wheel_and_nothing_else(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}

    files = {
        path.relative_to(source).as_posix() for path in (source / "zit_ext").rglob("*") if path.is_file()
    }
    assert names == files
    assert "zit_ext/py.typed" in names


CORE = """
import importlib, pkgutil, sys
import zit_ext, zit_ext.runtime
heavy = {"torch", "numpy", "PIL", "diffusers", "transformers", "pydantic"} & set(sys.modules)
assert not heavy, heavy
# None asks for the extras at its top, but what extends pytest and the two that are aiohttp applications.
extras = {"zit_ext.testing_pytest", "zit_ext.http.aiohttp_app", "zit_ext.http.serving"}
for module in pkgutil.walk_packages(zit_ext.__path__, "zit_ext."):
    if not module.name.endswith("__main__") and module.name not in extras:
        importlib.import_module(module.name)
print("fine")
"""


@pytest.mark.parametrize("version", VERIFIED)
def test_an_empty_environment_needs_only_the_wheel(version, wheel, pythons, tmp_path):
    if version not in pythons:
        pytest.skip(f"no Python {version} on this machine")
    venv = tmp_path / "venv"
    run(pythons[version], "-m", "venv", venv, cwd=tmp_path)
    python = venv_python(venv)
    before = set(installed(venv))

    run(python, "-m", "pip", "install", "--disable-pip-version-check", wheel, cwd=tmp_path)

    wanted = {"zit-ext", "pluggy"} | ({"tomli"} if version == "3.10" else set())
    assert set(installed(venv)) - before == wanted
    assert run(python, "-I", "-W", "error", "-c", CORE, cwd=tmp_path).strip().endswith("fine")
    program = python.parent / ("zit-ext.exe" if os.name == "nt" else "zit-ext")
    for arguments in (["--help"], ["config"]):
        assert run(program, *arguments, cwd=tmp_path)
    assert "usage" in run(program, "--help", cwd=tmp_path)
