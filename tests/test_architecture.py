"""Promises about the code itself."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    "torch",
    "numpy",
    "PIL",
    "pydantic",
    "diffusers",
    "transformers",
    "comfy",
    "folder_paths",
    "modules",
    "gradio",
    "aiohttp",
    "prometheus_client",
    "pynvml",
}
NEED_AIOHTTP = {"zit_ext.http.aiohttp_app", "zit_ext.http.serving"}
"""The two that stand between aiohttp and the handlers; the program imports them when it serves."""
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in (ROOT / "zit_ext").rglob("*.py")
    if path.stem != "__main__"
)
MODULES = [name for name in MODULES if name not in NEED_AIOHTTP]


def imported_by(code: str) -> set[str]:
    """Return the heavy packages that a fresh Python has imported after some code."""
    return HEAVY & {name.partition(".")[0] for name in modules_after(code)}


def modules_after(code: str) -> set[str]:
    """Return all modules that a fresh Python has imported after some code."""
    told = "print(','.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}\n{told}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.strip().splitlines()[-1].split(","))


def test_the_runtime_brings_neither_torch_nor_a_host():
    assert imported_by("import zit_ext.runtime") == set()


def test_the_runtime_imports_nothing_that_only_a_render_needs():
    rooms = ("zit_ext.renderers.local", "zit_ext.models.holder", "zit_ext.model_server.connection")

    assert not modules_after("import zit_ext.runtime") & {*rooms, "importlib.metadata"}


def test_no_module_of_ours_imports_torch_before_it_is_needed():
    # The torch room too: it imports what it needs in the functions that need it.
    assert imported_by("\n".join(f"import {name}" for name in MODULES)) == set()


def test_imports_point_down_only():
    name = "lint-imports.exe" if sys.platform == "win32" else "lint-imports"
    program = Path(sysconfig.get_path("scripts")) / name
    done = subprocess.run(
        [str(program), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["zit_ext", "comfy_nodes", "a1111_extension"])
def test_a_files_name_says_what_its_job_is(folder):
    empty_words = {"utils", "util", "helpers", "helper", "common", "core", "misc"}

    assert not [path for path in (ROOT / folder).rglob("*.py") if path.stem in empty_words]


def test_no_file_has_grown_into_two():
    files = [ROOT / "install.py", *(ROOT / "zit_ext").rglob("*.py")]
    long = {path.name: lines for path in files if (lines := len(path.read_bytes().splitlines())) > 400}

    assert long == {}
