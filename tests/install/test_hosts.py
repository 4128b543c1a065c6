"""Hosts are recognised by their files; links and copies come and go without a trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zit_ext.installing import hosts, links
from zit_ext.installing.trouble import SetupError


def listing(folder: Path) -> dict[str, str]:
    """Everything below a folder, with what it holds; links are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        goal = links.link_goal(path)
        if goal is not None:
            found[path.relative_to(folder).as_posix()] = f"-> {goal}"
        elif path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_text(encoding="utf-8", errors="replace")
    return found


@pytest.fixture(params=["comfyui", "a1111"])
def host(request, comfyui, webui) -> hosts.Host:
    return hosts.recognise(request.param, comfyui if request.param == "comfyui" else webui)


def test_the_folder_around_a_portable_host_is_good_enough(comfyui, tmp_path):
    portable = tmp_path / "portable"
    portable.mkdir()
    comfyui.rename(portable / "ComfyUI")

    assert hosts.recognise("comfyui", portable).root == portable / "ComfyUI"


def test_what_is_no_host_is_refused_with_what_was_looked_for(tmp_path):
    with pytest.raises(SetupError, match=r"main\.py, nodes\.py"):
        hosts.recognise("comfyui", tmp_path)
    with pytest.raises(SetupError, match="is no folder"):
        hosts.recognise("a1111", tmp_path / "missing")


def test_the_wrong_command_for_a_host_names_the_right_one(webui):
    with pytest.raises(SetupError, match=r"install\.py a1111"):
        hosts.recognise("comfyui", webui)


@pytest.mark.parametrize("copy", [[], ["--copy"]], ids=["link", "copy"])
def test_uninstall_leaves_the_host_as_it_was(checkout, host, install, copy):
    before = listing(host.root)
    script = checkout.root / "install.py"

    put = install(script, host.kind, str(host.root), *copy)
    assert put.returncode == 0, put.stderr
    assert (host.folder / "zit_ext" / "install.py").is_file()
    again = install(script, host.kind, str(host.root), *copy)
    assert again.returncode == 0, again.stderr

    undone = install(script, "uninstall")  # which host that was is remembered
    assert undone.returncode == 0, undone.stderr
    assert listing(host.root) == before
    assert (checkout.root / "install.py").is_file()
    assert install(script, "uninstall", str(host.root)).returncode == 0


def test_a_copy_has_no_environment_history_or_tests_in_it(checkout, comfyui):
    for name in (
        ".git/HEAD",
        ".venv/pyvenv.cfg",
        "tests/test_x.py",
        "zit_ext/__pycache__/x.pyc",
        "demo-output/a.png",
    ):
        (checkout.root / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout.root / name).write_text("x")
    host = hosts.recognise("comfyui", comfyui)

    links.put(checkout, host, copy=True)

    names = {path.name for path in (host.folder / "zit_ext").iterdir()}
    assert names == {
        "backend.py",
        "constraints",
        "install.py",
        "pyproject.toml",
        "requirements.txt",
        "zit_ext",
        links.MANIFEST,
    }
    assert not list((host.folder / "zit_ext").rglob("__pycache__"))


def test_a_copy_is_renewed_and_what_you_added_to_it_is_yours(checkout, comfyui):
    host = hosts.recognise("comfyui", comfyui)
    target = host.folder / "zit_ext"
    links.put(checkout, host, copy=True)
    (checkout.root / "zit_ext" / "new.py").write_text("new")
    (checkout.root / "backend.py").unlink()
    assert not links.copy_is_current(checkout, target)

    links.put(checkout, host, copy=True)
    assert links.copy_is_current(checkout, target)
    assert not (target / "backend.py").exists()

    (target / "zit_ext" / "mine.py").write_text("mine")
    (target / "install.py").write_text("changed by me")
    said = links.take_away(checkout, host)
    assert (target / "zit_ext" / "mine.py").read_text() == "mine"
    assert (target / "install.py").read_text() == "changed by me"
    assert str(target / "zit_ext" / "mine.py") in said
    assert not (target / "zit_ext" / "new.py").exists()


@pytest.mark.parametrize("what", ["file", "folder", "clone", "link", "dangling"])
def test_what_is_not_ours_is_neither_overwritten_nor_removed(checkout, comfyui, tmp_path, what):
    host = hosts.recognise("comfyui", comfyui)
    target = host.folder / "zit_ext"
    if what == "file":
        target.write_text("a note")
    elif what == "folder":
        target.mkdir()
        (target / "a.txt").write_text("a")
    elif what == "clone":
        shutil.copytree(checkout.root, target)
    else:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        links.make_link(elsewhere, target)
        if what == "dangling":
            elsewhere.rmdir()
    before = listing(host.root)

    for attempt in (
        lambda: links.put(checkout, host, copy=False),
        lambda: links.put(checkout, host, copy=True),
        lambda: links.take_away(checkout, host),
    ):
        with pytest.raises(SetupError, match="left as it is"):
            attempt()
    assert listing(host.root) == before


def test_a_second_zit_ext_under_another_name_is_not_joined_by_ours(checkout, comfyui):
    host = hosts.recognise("comfyui", comfyui)
    shutil.copytree(checkout.root, host.folder / "zit-ext-main")

    with pytest.raises(SetupError, match="zit-ext-main"):
        links.put(checkout, host, copy=False)

    (host.folder / "zit-ext-main").rename(host.folder / "zit-ext-main.disabled")
    links.put(checkout, host, copy=False)


def test_a_manifest_that_points_outside_removes_nothing_there(checkout, comfyui):
    host = hosts.recognise("comfyui", comfyui)
    links.put(checkout, host, copy=True)
    manifest = host.folder / "zit_ext" / links.MANIFEST
    victim = comfyui / "main.py"
    digest = links._digest(victim)
    outside = ('"files": {', f'"files": {{"../../main.py": "{digest}", "{victim.as_posix()}": "{digest}",')
    manifest.write_text(manifest.read_text().replace(*outside))

    links.take_away(checkout, host)

    assert victim.is_file()


def test_a_host_that_is_gone_is_forgotten_without_complaint(checkout, comfyui, install):
    script = checkout.root / "install.py"
    assert install(script, "comfyui", str(comfyui)).returncode == 0
    shutil.rmtree(comfyui)

    assert "is gone" in install(script, "doctor").stdout
    assert install(script, "uninstall").returncode == 0
    assert "is gone" not in install(script, "doctor").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a junction cannot lead to a network drive there")
def test_a_link_that_cannot_be_made_leads_to_the_copy(checkout, comfyui):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    host = hosts.recognise("comfyui", comfyui)
    host.folder.chmod(0o500)
    try:
        with pytest.raises(SetupError, match="--copy"):
            links.put(checkout, host, copy=False)
    finally:
        host.folder.chmod(0o700)


@pytest.mark.host
def test_the_real_comfyui_is_recognised_and_left_as_it_was(checkout, install):
    path = os.environ.get("ZIT_COMFYUI_PATH")
    if not path:
        pytest.skip("ZIT_COMFYUI_PATH is not set")
    host = hosts.recognise("comfyui", Path(path))
    if (host.folder / "zit_ext").exists():
        pytest.skip("zit_ext is in this host already")
    before = sorted(host.folder.iterdir())
    script = checkout.root / "install.py"

    assert install(script, "comfyui", path).returncode == 0
    try:
        done = subprocess.run(
            [sys.executable, "install.py", "--help"], cwd=host.folder / "zit_ext", timeout=60, check=False
        )
        assert done.returncode == 0
    finally:
        assert install(script, "uninstall", path).returncode == 0
    assert sorted(host.folder.iterdir()) == before
