"""What ComfyUI's registry gets: all but what may not be there, and it works without that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
