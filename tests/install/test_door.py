"""What install.py says before anything is set up."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "install.py"


def old_python(version: str) -> str | None:
    homes = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*"))
    candidates = [str(home / "bin" / "python") for home in homes]
    python = candidates[-1] if candidates else shutil.which(f"python{version}")
    if python is None:
        return None
    # A version manager's placeholder on PATH may lead nowhere.
    asked = subprocess.run([python, "--version"], capture_output=True, timeout=60, check=False)
    return python if asked.returncode == 0 else None


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.9"])
def test_an_old_python_gets_one_line_that_says_what_to_do(version):
    python = old_python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    done = subprocess.run(
        [python, str(SCRIPT), "demo"], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"this is Python {version}" in line
    assert "python3.12 install.py" in line


def test_the_door_is_written_so_that_old_pythons_can_read_it():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 4))

    new = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Await, ast.Match)
    assert not [node for node in ast.walk(tree) if isinstance(node, new)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [each.name for each in functions if each.returns or each.args.kwonlyargs]


def test_the_standard_library_is_all_it_needs():
    # -S: no installed package can be imported; -I: nor anything from around.
    code = (
        "import importlib.util, pathlib, sys\n"
        f"spec = importlib.util.spec_from_file_location('door', {str(SCRIPT)!r})\n"
        "door = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(door)\n"
        f"for path in sorted(pathlib.Path({str(ROOT / 'zit_ext' / 'installing')!r}).glob('*.py')):\n"
        "    if path.stem != '__init__': door.room(path.stem)\n"
        "print('zit_ext' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "False", "")


def test_without_arguments_outside_a_host_it_explains_itself(install):
    done = install(SCRIPT)

    assert done.returncode == 0
    for command in ("demo", "test", "comfyui", "a1111", "uninstall", "doctor"):
        assert command in done.stdout


def test_a_misspelt_command_changes_nothing_and_names_the_right_ones(install):
    done = install(SCRIPT, "demmo")

    assert done.returncode == 2
    assert "demo" in done.stderr


def test_an_option_that_a_command_does_not_know_is_refused(install, comfyui):
    done = install(SCRIPT, "comfyui", str(comfyui), "--force")

    assert done.returncode == 2
    assert "--force" in done.stderr
    assert not (comfyui / "custom_nodes" / "zit_ext").exists()
