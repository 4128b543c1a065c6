"""The environment is made once, mended when it is torn, and left alone otherwise."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zit_ext.installing import stamp
from zit_ext.installing.environment import prepare
from zit_ext.installing.locking import only_one
from zit_ext.installing.places import Project, site_packages
from zit_ext.installing.trouble import SetupError

pytestmark = pytest.mark.slow  # each makes real environments


def made(project: Project, *extras: str, index: str | None = None) -> list[str]:
    """Prepare the environment; return what was said."""
    said: list[str] = []
    assert prepare(project, extras, torch_index=index, say=said.append) == project.python
    return said


def versions(project: Project) -> dict[str, str]:
    return stamp.installed(project.venv)


def asked(project: Project, code: str) -> str:
    return subprocess.run(
        [str(project.python), "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_the_demo_runs_in_an_environment_of_its_own_and_the_second_time_nothing_is_installed(
    checkout, install, tmp_path, wheels
):
    first = install(checkout.root / "install.py", "demo", "--side", "64", "--json", "x y.json")
    assert first.returncode == 0, first.stderr
    assert '"--side", "64", "--json", "x y.json"' in first.stdout
    assert versions(checkout)["torch"] == "2.13.0"

    shutil.rmtree(wheels)  # now pip could only fail
    second = install(checkout.root / "install.py", "demo", "--fail")
    assert second.returncode == 3  # the demo's own
    assert second.stderr == ""
    assert len(second.stdout.splitlines()) == 1


def test_what_was_torn_is_mended_and_what_is_whole_is_kept(checkout):
    made(checkout, "zimage")
    packages = site_packages(checkout.venv)
    assert packages is not None
    # As a kill leaves it: files and METADATA are there, RECORD, which comes last, is not.
    (packages / "torch-2.13.0.dist-info" / "RECORD").unlink()
    (packages / "torch" / "__init__.py").unlink()
    (packages / "~orch").mkdir()
    stamp.write(checkout, {**stamp.read(checkout), "digest": None})
    python_made = (checkout.venv / "pyvenv.cfg").stat().st_mtime_ns

    said = made(checkout, "zimage")

    assert asked(checkout, "import torch; print(torch.__version__)") == "2.13.0"
    assert (packages / "torch-2.13.0.dist-info" / "RECORD").exists()
    assert not (packages / "~orch").exists()
    assert "not finished" in said[0]
    assert (checkout.venv / "pyvenv.cfg").stat().st_mtime_ns == python_made
    assert made(checkout, "zimage") == []


def test_a_package_that_was_removed_by_hand_is_noticed_and_comes_back(checkout):
    made(checkout, "zimage")
    packages = site_packages(checkout.venv)
    assert packages is not None
    shutil.rmtree(packages / "torch-2.13.0.dist-info")

    assert "torch" in made(checkout, "zimage")[0]
    assert versions(checkout)["torch"] == "2.13.0"


@pytest.mark.skipif(sys.platform == "win32", reason="an environment's Python is no link there")
def test_an_environment_whose_python_is_gone_is_made_anew(checkout):
    made(checkout)
    for name in ("python", "python3", f"python3.{sys.version_info[1]}"):
        (checkout.venv / "bin" / name).unlink(missing_ok=True)
    checkout.python.symlink_to("/nowhere/python")

    said = made(checkout)

    assert "its Python is gone" in said[0]
    assert asked(checkout, "import zit_ext; print('there')") == "there"


def test_a_checkout_that_was_moved_gets_an_environment_that_fits(checkout, tmp_path):
    made(checkout)
    moved = Project(checkout.root.rename(tmp_path / "moved"))

    said = made(moved)

    assert any("moved here" in line for line in said)
    assert Path(asked(moved, "import zit_ext; print(zit_ext.__file__)")).parents[1] == moved.root


def test_more_extras_are_added_to_what_is_there(checkout):
    made(checkout, "test")
    assert "torch" not in versions(checkout)

    made(checkout, "zimage")

    assert versions(checkout)["torch"] == "2.13.0"
    assert made(checkout, "test") == []


def test_a_torch_of_your_own_stays_and_ours_follows_the_verified_version(checkout):
    made(checkout, "zimage")
    checkout.constraints.write_text("torch==2.14.0\n")
    made(checkout, "zimage")
    assert versions(checkout)["torch"] == "2.14.0"

    pip = [str(checkout.python), "-m", "pip", "install", "-q", "torch==2.9.1+cu126"]
    subprocess.run(pip, timeout=120, check=True)
    said = made(checkout, "zimage")

    assert versions(checkout)["torch"] == "2.9.1+cu126"
    assert any("2.9.1+cu126 is there already and stays" in line for line in said)
    assert made(checkout, "zimage") == []


def test_a_torch_that_does_not_import_is_installed_again(checkout):
    made(checkout, "zimage")
    packages = site_packages(checkout.venv)
    assert packages is not None
    (packages / "torch" / "__init__.py").write_text("raise ImportError('torn')\n")
    stamp.write(checkout, {**stamp.read(checkout), "digest": None})

    made(checkout, "zimage")

    assert asked(checkout, "import torch; print(torch.__version__)") == "2.13.0"


def test_another_index_for_torch_is_obeyed_and_remembered(checkout, tmp_path, monkeypatch, make_wheel):
    made(checkout, "zimage")
    simple = tmp_path / "index"
    wheel = make_wheel(simple / "torch", "torch", "2.13.0+cu130")
    (simple / "torch" / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")

    made(checkout, "zimage", index=simple.as_uri())

    assert versions(checkout)["torch"] == "2.13.0+cu130"
    assert made(checkout, "zimage", index=simple.as_uri()) == []
    assert made(checkout, "zimage") == []


def test_a_folder_that_is_no_environment_is_not_removed(checkout):
    checkout.venv.mkdir()
    (checkout.venv / "letters.txt").write_text("dear")

    with pytest.raises(SetupError, match="no Python environment"):
        made(checkout)

    assert (checkout.venv / "letters.txt").read_text() == "dear"


def test_a_failed_installation_says_what_to_do_and_is_not_taken_for_done(checkout):
    with pytest.raises(SetupError, match="offers no nothing-such==1"):
        made(checkout, "impossible")

    assert stamp.why_not_ready(checkout, (), None) == "it was not finished"
    made(checkout, "test")  # what failed does not stand in the way of something else


HOLDER = """\
import sys, time
from pathlib import Path
from zit_ext.installing.locking import only_one
with only_one(Path(sys.argv[1]), print):
    print("holding", flush=True)
    time.sleep(120)
"""


def test_two_at_a_time_wait_for_each_other_and_a_crash_lets_go(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        said: list[str] = []

        def killing(words: str) -> None:
            said.append(words)
            holder.kill()

        with only_one(lock, killing):
            assert said == ["Another install.py is at work in this folder; waiting for it ..."]
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are not handed on there")
def test_a_pip_that_outlives_its_install_py_keeps_the_next_one_out(tmp_path):
    lock = tmp_path / "lock"
    code = (
        "import os, subprocess, sys\nfrom pathlib import Path\n"
        "from zit_ext.installing.children import run\nfrom zit_ext.installing.locking import only_one\n"
        "with only_one(Path(sys.argv[1]), print) as held:\n"
        "    run([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(120)'],"
        " environ=os.environ, hold=[held])\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(timeout=30)
        said: list[str] = []

        def ending(words: str) -> None:
            said.append(words)
            os.kill(child, signal.SIGKILL)

        with only_one(lock, ending):
            assert said
    finally:
        parent.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is not a signal to one program there")
@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, "all"), (signal.SIGINT, 130, "it alone"), (signal.SIGTERM, 143, "it alone")],
)
def test_stopping_it_stops_the_demo_too(checkout, number, code, told):
    made(checkout, "fast", "zimage")
    running = subprocess.Popen(
        [sys.executable, str(checkout.root / "install.py"), "demo", "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=checkout.root,
        start_new_session=True,
    )
    try:
        assert running.stdout is not None
        assert "--wait" in running.stdout.readline()
        if told == "all":
            os.killpg(running.pid, number)  # as a terminal does
        else:
            os.kill(running.pid, number)
        out, errors = running.communicate(timeout=60)
        assert running.returncode == code
        if number == signal.SIGINT:
            assert "the demo tidied up" in out
            assert "Stopped." in errors
        _assert_group_gone(running.pid)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()


def _assert_group_gone(group: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the demo still runs")
