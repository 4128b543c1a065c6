"""What happens when a host runs install.py: next to nothing, and nothing to the host."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zit_ext.installing import links
from zit_ext.installing.hosts import around, recognise
from zit_ext.installing.places import site_packages, venv_python

pytestmark = pytest.mark.slow  # each makes a host's environment


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The Python of a host that has none of what we need."""
    venv = tmp_path / "host venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], timeout=240, check=True)
    return venv_python(venv)


def packages(python: Path) -> list[str]:
    folder = site_packages(python.parents[1])
    assert folder is not None
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts
    )


def test_a_webui_gets_a_folder_beside_its_packages_once(checkout, webui, install, bare, tmp_path, wheels):
    links.put(checkout, recognise("a1111", webui), copy=False)
    script = webui / "extensions" / "zit_ext" / "install.py"
    before = packages(bare)

    first = install(script, cwd=webui, python=bare)
    assert first.returncode == 0, first.stderr
    assert "untouched" in first.stdout
    (side,) = (tmp_path / "data" / "side").iterdir()
    assert (side / "pluggy" / "__init__.py").is_file()
    assert packages(bare) == before

    shutil.rmtree(wheels)  # now pip could only fail
    second = install(script, cwd=webui, python=bare)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


def test_a_webui_that_is_offline_starts_all_the_same_and_tries_again(checkout, webui, install, bare, wheels):
    links.put(checkout, recognise("a1111", webui), copy=True)
    script = webui / "extensions" / "zit_ext" / "install.py"
    aside = wheels.rename(wheels.with_name("unreachable"))

    failed = install(script, cwd=webui, python=bare)
    assert failed.returncode == 2
    assert "pluggy" in failed.stderr

    aside.rename(wheels)
    assert install(script, cwd=webui, python=bare).returncode == 0


def test_comfyui_gets_what_is_missing_and_nothing_else(checkout, comfyui, install, bare, make_wheel, wheels):
    links.put(checkout, recognise("comfyui", comfyui), copy=True)
    folder = comfyui / "custom_nodes" / "zit_ext"
    # The Manager stands in the pack's folder and names the script without one.
    first = install(Path("install.py"), cwd=folder, python=bare)
    assert first.returncode == 0, first.stderr
    assert "pluggy" in first.stdout

    make_wheel(wheels, "pluggy", "9.0")  # newer ones are no reason to touch what is there
    second = install(Path("install.py"), cwd=folder, python=bare)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert any("pluggy-1.7.0" in name for name in packages(bare))
    assert not any("torch" in name for name in packages(bare))


def test_the_host_is_known_by_the_way_it_calls(checkout, comfyui, webui, tmp_path):
    links.put(checkout, recognise("comfyui", comfyui), copy=False)
    links.put(checkout, recognise("a1111", webui), copy=False)
    own = checkout.root / "install.py"

    def kind(script: Path, cwd: Path, **environ: str) -> str | None:
        host = around(script, cwd, environ)
        return host and host.kind

    assert kind(webui / "extensions" / "zit_ext" / "install.py", webui) == "a1111"
    assert kind(comfyui / "custom_nodes" / "zit_ext" / "install.py", tmp_path) == "comfyui"
    assert kind(own, webui) == "a1111"
    # `--data-dir`: extensions lie there, and the webui stands in its own folder.
    assert kind(tmp_path / "elsewhere" / "extensions" / "zit_ext" / "install.py", webui) == "a1111"
    assert kind(own, checkout.root, COMFYUI_PATH=str(comfyui)) == "comfyui"
    assert kind(own, checkout.root) is None
    assert kind(own, tmp_path) is None
