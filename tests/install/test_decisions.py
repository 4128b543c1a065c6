"""The decisions of setting up, as tables: torch, pip's failures, versions, the groups of tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zit_ext.installing import groups
from zit_ext.installing.graphics import torch_advice
from zit_ext.installing.pip import explained
from zit_ext.installing.pythons import found, notice
from zit_ext.installing.torch_choice import TorchStep, choose
from zit_ext.installing.versions import Requirement


@pytest.mark.parametrize(
    ("installed", "facts", "step"),
    [
        (None, {}, TorchStep.FOLLOW),
        ("2.13.0", {}, TorchStep.KEEP),
        ("2.13.0+cpu", {}, TorchStep.KEEP),
        ("2.9.1+cu126", {}, TorchStep.KEEP),
        ("2.14.0", {"verified_before": "2.13.0"}, TorchStep.KEEP),
        ("2.12.0", {"verified_before": "2.12.0"}, TorchStep.FOLLOW),
        ("2.4.1", {}, TorchStep.FOLLOW),
        ("2.13.0", {"imports": False}, TorchStep.REPLACE),
        ("2.13.0", {"index": "file:///other"}, TorchStep.REPLACE),
        ("2.13.0", {"index": "file:///same", "index_before": "file:///same"}, TorchStep.KEEP),
        ("2.13.0", {"index_before": "file:///same"}, TorchStep.KEEP),
    ],
)
def test_a_torch_that_works_is_left_alone_unless_there_is_a_reason(installed, facts, step):
    usual = {"imports": True, "verified_before": None, "index": None, "index_before": None}

    assert choose(installed, verified="2.13.0", least="2.5", **{**usual, **facts}) is step


@pytest.mark.parametrize(
    ("errors", "code", "what", "remedy"),
    [
        ("OSError: [Errno 28] No space left on device", 1, "disk is full", "TMPDIR"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n"
            "ERROR: No matching distribution found for x",
            1,
            "could not be reached",
            "PIP_INDEX_URL",
        ),
        ("ProxyError('Cannot connect to proxy.', OSError('407'))", 1, "proxy refused", "HTTPS_PROXY"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", 1, "certificate", "PIP_CERT"),
        (
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 "
            "(from versions: 2.0.0, 2.1.0)\nERROR: No matching distribution found for torch==2.13.0",
            1,
            "no torch==2.13.0 for Python",
            "another Python",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)\n"
            "ERROR: No matching distribution found for x==1",
            1,
            "offers no x==1",
            "PIP_INDEX_URL",
        ),
        ("PermissionError: [Errno 13] Permission denied: '/x'", 1, "could not be written", "writable"),
        ("ERROR: ResolutionImpossible: for help visit", 1, "do not go together", "PIP_CONSTRAINT"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", 1, "damaged", "cache purge"),
        ("/usr/bin/python3: No module named pip", 1, "no pip", "ensurepip"),
        ("", 137, "memory", "Close"),
        ("something else", 1, "stands above", "repeatable"),
    ],
)
def test_a_failed_pip_is_explained_with_what_to_do(errors, code, what, remedy):
    said, mend = explained(errors, code)

    assert what in said
    assert remedy in mend


@pytest.mark.parametrize(
    ("gpu", "index", "platform", "words"),
    [
        (None, None, "linux", "runs on the CPU too"),
        ("RTX 4070", None, "linux", "CUDA build of torch for it"),
        ("RTX 4070", None, "win32", "--torch-index"),
        ("RTX 4070", "file:///index", "win32", "index that was named"),
        (None, None, "darwin", "from the package index"),
    ],
)
def test_a_newcomer_learns_which_torch_will_come(gpu, index, platform, words):
    assert words in torch_advice(gpu, index, platform)


@pytest.mark.parametrize(
    ("line", "version", "met"),
    [
        ("pluggy>=1.5", "1.7.0", True),
        ("pluggy>=1.5", "1.4.9", False),
        ("pluggy>=1.5", None, False),
        ("torch==2.13.0", "2.13.0+cpu", True),
        ("torch==2.13.0", "2.13", True),
        ("torch==2.13.0", "2.13.1", False),
        ("torch>=2.5", "2.10.0", True),
    ],
)
def test_versions_are_compared_by_number(line, version, met):
    assert Requirement(line).met_by(version) is met


def test_a_line_that_cannot_be_read_is_an_error_and_not_ignored():
    with pytest.raises(ValueError, match="torch~=2"):
        Requirement("torch~=2.0")


def test_a_python_that_nobody_tried_is_named_and_not_refused():
    assert "3.14" in (notice((3, 14), "cpython") or "")
    assert "pypy" in (notice((3, 11), "pypy") or "")
    assert notice((3, 10), "cpython") is None


def test_interpreters_are_asked_and_not_guessed():
    for version, python in found().items():
        said = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert said.stdout.strip() == version


SUITE = """\
import pytest
def test_plain(): pass
@pytest.mark.pipeline
def test_pipeline(): pass
@pytest.mark.packaging
def test_packaging(): pass
@pytest.mark.demo
def test_demo(): pass
@pytest.mark.gpu
@pytest.mark.pipeline
def test_pipeline_on_gpu(): pass
@pytest.mark.host
def test_host(): pass
"""


@pytest.mark.parametrize(
    ("chosen", "ran"),
    [
        (["core"], {"plain"}),
        (["pipeline"], {"pipeline"}),
        (["core", "pipeline", "packaging", "demo"], {"plain", "pipeline", "packaging", "demo"}),
        (["gpu", "pipeline"], {"pipeline", "pipeline_on_gpu"}),
        (list(groups.NAMES), {"plain", "pipeline", "packaging", "demo", "pipeline_on_gpu", "host"}),
    ],
)
def test_a_test_runs_if_all_its_groups_were_chosen(chosen, ran, tmp_path):
    (tmp_path / "test_marks.py").write_text(SUITE)
    names = "\n  ".join(name for name in groups.NAMES if name != "core")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers =\n  {names}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--strict-markers", "-m", groups.selection(chosen)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert {
        line.split("::test_")[1].split()[0] for line in done.stdout.splitlines() if " PASSED" in line
    } == ran


def test_the_core_group_needs_no_torch():
    assert "zimage" not in groups.extras_for(["core"])
    assert "zimage" in groups.extras_for([])


def test_a_group_that_cannot_run_says_what_it_would_need(checkout):
    choice = groups.choose(["core", "host"], checkout, {})

    assert [group.name for group in choice.chosen] == ["core"]
    assert [(group.name, "ZIT_COMFYUI_PATH" in need) for group, need in choice.left_out] == [("host", True)]
    assert choice.lacking == ()  # nobody has to have a host, not even with --all


def test_a_host_that_is_named_is_tested(checkout, comfyui):
    choice = groups.choose(["host"], checkout, {"ZIT_COMFYUI_PATH": str(comfyui)})

    assert [group.name for group in choice.chosen] == ["host"]
