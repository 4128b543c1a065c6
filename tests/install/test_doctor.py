"""The doctor names what is wrong and what mends it."""

from __future__ import annotations

import shutil
import sys

import pytest

from zit_ext.installing import doctor, links, registry, stamp
from zit_ext.installing.environment import prepare
from zit_ext.installing.hosts import recognise
from zit_ext.installing.places import site_packages

SILENT = [].append


def findings(project, data, level=None) -> dict[str, doctor.Finding]:
    return {each.subject: each for each in doctor.examine(project, data) if level in (None, each.level)}


def test_a_new_checkout_has_nothing_wrong(checkout, install):
    done = install(checkout.root / "install.py", "doctor")

    assert done.returncode == 0
    assert "there is no environment yet" in done.stdout
    assert "install.py demo" in done.stdout


@pytest.mark.slow
def test_each_fault_of_an_environment_is_named_with_its_remedy(checkout, tmp_path):
    prepare(checkout, ["zimage"], torch_index=None, say=SILENT)
    assert findings(checkout, tmp_path, doctor.WRONG).keys() <= {"torch"}  # the one of the tests is no torch

    packages = site_packages(checkout.venv)
    assert packages is not None
    checkout.constraints.write_text("torch==2.14.0\n")
    (packages / "zit_ext.pth").write_text(str(tmp_path / "other"))
    (tmp_path / "other" / "zit_ext").mkdir(parents=True)
    (tmp_path / "other" / "zit_ext" / "__init__.py").write_text("")
    found = findings(checkout, tmp_path)
    assert "2.14.0 was verified" in found["torch"].what or "cannot be imported" in found["torch"].what
    assert "changed" in found[".venv"].what
    assert "install.py demo" in found[".venv"].remedy
    assert found["zit_ext"].level == doctor.WRONG
    assert "another copy" in found["zit_ext"].what

    stamp.write(checkout, {**stamp.read(checkout), "digest": None})
    assert findings(checkout, tmp_path)[".venv"].what == "it was not finished"


def test_a_host_that_is_remembered_and_named_is_told_of_once(checkout, comfyui, tmp_path):
    host = recognise("comfyui", comfyui)
    links.put(checkout, host, copy=False)
    registry.remember(tmp_path, checkout.root, host)
    said: list[str] = []

    doctor.report(checkout, comfyui, tmp_path, say=said.append)

    assert len([line for line in said if "our link is in" in line]) == 1


def test_a_host_that_would_load_us_twice_is_reported(checkout, comfyui, install):
    links.put(checkout, recognise("comfyui", comfyui), copy=False)
    shutil.copytree(checkout.root, comfyui / "custom_nodes" / "zit-ext-main")

    done = install(checkout.root / "install.py", "doctor", str(comfyui))

    assert done.returncode == 1
    assert "2 times: zit-ext-main, zit_ext" in done.stdout


def test_a_copy_that_is_behind_is_reported(checkout, comfyui, tmp_path):
    host = recognise("comfyui", comfyui)
    links.put(checkout, host, copy=True)
    assert {each.level for each in doctor.examine_host(checkout, host, tmp_path)} <= {"ok", "warning"}
    (checkout.root / "install.py").write_text("newer")

    link = next(iter(doctor.examine_host(checkout, host, tmp_path)))

    assert link.level == doctor.WARNING
    assert "--copy" in link.remedy


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a copied python.exe does not start there")
def test_a_hosts_python_is_examined_without_touching_it(checkout, comfyui, webui, tmp_path):
    import subprocess

    for root in (comfyui, webui):
        subprocess.run([sys.executable, "-m", "venv", str(root / "venv")], timeout=240, check=True)

    comfy = {
        each.subject: each for each in doctor.examine_host(checkout, recognise("comfyui", comfyui), tmp_path)
    }
    assert "pluggy>=1.5" in comfy["packages"].what
    assert comfy["packages"].level == doctor.WRONG
    assert "process of its own" in comfy["rendering"].remedy

    web = {each.subject: each for each in doctor.examine_host(checkout, recognise("a1111", webui), tmp_path)}
    assert web["packages"].level == doctor.WARNING
    assert "next launch" in web["packages"].remedy


def test_what_is_no_host_is_refused(checkout, install, tmp_path):
    done = install(checkout.root / "install.py", "doctor", str(tmp_path))

    assert done.returncode == 2
    assert "Looked for" in done.stderr
