"""A checkout in miniature with the real install.py, and wheels made on the spot: real pip, no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from zit_ext.installing.places import Project

ROOT = Path(__file__).parents[2]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "zit_ext"
version = "0.1.0"
"""

# What setuptools would do, without fetching setuptools.
BACKEND = """\
import os, zipfile
EXTRAS = {"fast": [], "test": [], "zimage": ["torch>=2.5"], "impossible": ["nothing-such==1"]}

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "zit_ext-0.1.0-py3-none-any.whl"
    metadata = ["Metadata-Version: 2.1", "Name: zit_ext", "Version: 0.1.0"]
    for extra, lines in EXTRAS.items():
        metadata.append("Provides-Extra: " + extra)
        metadata += ["Requires-Dist: %s; extra == '%s'" % (line, extra) for line in lines]
    info = "zit_ext-0.1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("zit_ext.pth", os.getcwd() + "\\n")
        wheel.writestr(info + "METADATA", "\\n".join(metadata) + "\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        files = ["zit_ext.pth", info + "METADATA", info + "WHEEL", info + "RECORD"]
        wheel.writestr(info + "RECORD", "".join(file + ",,\\n" for file in files))
    return name
"""

DEMO = """\
import json, os, sys, time
try:
    print(json.dumps({"arguments": sys.argv[1:], "prefix": sys.prefix, "cwd": os.getcwd()}), flush=True)
    if "--wait" in sys.argv:
        time.sleep(120)
finally:
    if "--wait" in sys.argv:
        print("the demo tidied up", flush=True)
sys.exit(3 if "--fail" in sys.argv else 0)
"""


def make_wheel(folder: Path, name: str, version: str, body: str = "") -> Path:
    """Return a new wheel with one module."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n{body}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    rows = []
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
            digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{file},sha256={digest},{len(text.encode())}")
        wheel.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return path


@pytest.fixture(name="make_wheel")
def _make_wheel() -> Callable[..., Path]:
    """Make a wheel with one module."""
    return make_wheel


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip can see."""
    folder = tmp_path / "wheels"
    for version in ("2.9.1+cu126", "2.13.0", "2.14.0"):
        make_wheel(folder, "torch", version)
    for name, version in (("pluggy", "1.7.0"), ("tomli", "2.5.0")):
        make_wheel(folder, name, version)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


@pytest.fixture
def checkout(tmp_path: Path, wheels: Path) -> Project:
    """A small checkout; its path has what paths of real people have."""
    root = tmp_path / "Eigene Dateien & Bäume" / "zit_ext"
    package = root / "zit_ext"
    shutil.copytree(
        ROOT / "zit_ext" / "installing", package / "installing", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy2(ROOT / "install.py", root)
    (package / "__init__.py").write_text("")
    (package / "demo").mkdir()
    (package / "demo" / "__init__.py").write_text("")
    (package / "demo" / "__main__.py").write_text(DEMO)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    (root / "requirements.txt").write_text((ROOT / "requirements.txt").read_text())
    (root / "constraints").mkdir()
    (root / "constraints" / "verified.txt").write_text("torch==2.13.0\n")
    return Project(root)


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run an install.py to its end, as a person or a host does."""

    def run(
        script: Path,
        *arguments: str,
        cwd: Path = tmp_path,
        python: str | Path = sys.executable,
        environ: Mapping[str, str] = {},
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), str(script), *arguments],
            cwd=cwd,
            env={
                **os.environ,
                "ZIT_DATA_DIR": str(tmp_path / "data"),
                "PYTHONIOENCODING": "utf-8",
                **environ,
            },
            capture_output=True,
            encoding="utf-8",
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """The files by which ComfyUI is known."""
    return tree(
        tmp_path / "Comfy UI",
        "main.py",
        "nodes.py",
        "folder_paths.py",
        "comfy/__init__.py",
        "custom_nodes/example_node.py.example",
    )


@pytest.fixture
def webui(tmp_path: Path) -> Path:
    """The files by which A1111 is known."""
    return tree(
        tmp_path / "web ui",
        "webui.py",
        "launch.py",
        "modules/scripts.py",
        "extensions/put extensions here.txt",
    )


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(f"# {name}\n"))
    return root
