"""What ComfyUI's registry gets: all but what may not be there, and it works without that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IGNORED = [
    line
    for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
IMPORTS = """
import importlib, pkgutil, zit_ext
for module in pkgutil.walk_packages(zit_ext.__path__, "zit_ext."):
    if not module.name.endswith(("__main__", "testing_pytest", "aiohttp_app", "http.serving")):
        importlib.import_module(module.name)
"""


def test_the_archive_goes_without_provisioning_and_says_so(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "zit_ext", tmp_path / "zit_ext", ignore=shutil.ignore_patterns("__pycache__"))
    for line in IGNORED:
        assert line.startswith("/")
        assert (ROOT / line[1:]).exists(), f"{line} names nothing"
        if line.startswith("/zit_ext/"):
            (tmp_path / line[1:]).unlink()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ZIT_")}
    environ |= {
        "PYTHONPATH": str(tmp_path),
        "ZIT_CONFIG": str(tmp_path / "c"),
        "ZIT_DATA_DIR": str(tmp_path / "d"),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert run("-c", IMPORTS).stderr == ""
    asked = run("-m", "zit_ext.cli", "server", "provision")

    assert asked.returncode == 1
    assert asked.stderr.startswith("zit-ext: this copy of zit_ext cannot install anything")
    assert run("-m", "zit_ext.cli", "server").returncode == 0


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with what `comfy node pack` puts into the archive: what git knows, without what is ignored."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a checkout with its history")
    folder = tmp_path / "archive"
    for name in filter(None, listed.stdout.split("\0")):
        ignored = any(
            f"/{name}" == line or (line.endswith("/") and f"/{name}".startswith(line)) for line in IGNORED
        )
        if not ignored and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def test_the_archive_holds_what_comfyui_needs_and_nothing_of_other_hosts_or_of_tests(archive: Path) -> None:
    assert {each.name for each in archive.iterdir()} == {
        "CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "comfy_nodes", "constraints", "docs",
        "examples", "example_workflows", "install.py", "locales", "pyproject.toml", "requirements.txt",
        "zit_ext",
    }  # fmt: skip
    workflows = {each.stem for each in (archive / "example_workflows").glob("*.json")}
    assert workflows == {each.stem for each in (archive / "example_workflows").glob("*.jpg")}
    assert (archive / "comfy_nodes" / "web" / "zit_ext.js").exists()
    assert sum(each.stat().st_size for each in archive.rglob("*") if each.is_file()) < 8_000_000


def test_the_archive_passes_the_registrys_security_check(archive: Path) -> None:
    check = ["ruff", "check", ".", "--isolated", "--quiet", "--select", "S102,S307,E702"]
    done = subprocess.run(
        [sys.executable, "-m", *check], cwd=archive, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
