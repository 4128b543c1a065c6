"""The cache of Hugging Face's tools is read where they keep it."""

from __future__ import annotations

from pathlib import Path

import pytest

from zit_ext.models import hub_cache

from .conftest import write

COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_same_variables_count_as_for_the_tools(variables, expected):
    assert hub_cache.cache_folder(variables) == Path(expected).absolute()


def test_without_any_variable_it_is_below_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert hub_cache.cache_folder({}) == tmp_path / ".cache" / "huggingface" / "hub"


def test_the_folder_is_the_one_that_the_tools_use(hub_home):
    tools = pytest.importorskip("huggingface_hub.file_download")
    assert hub_cache.repository("a/b").name == tools.repo_folder_name(repo_id="a/b", repo_type="model")
    assert hub_cache.cache_folder() == hub_home / "hub"


@pytest.mark.parametrize(
    "source", ["a/b/c", "ae", "a/b.safetensors", "/a/b", "a/..", "a--b/c", "a/b c", "ä/b", ""]
)
def test_what_is_no_id(source):
    assert not hub_cache.is_repo_id(source)


def test_a_snapshot_is_that_of_the_newest_download(hub_home):
    folder = hub_home / "hub" / "models--a--b"
    assert hub_cache.snapshot("a/b") is None
    write(folder / "refs" / "main", f"{COMMIT}\n")
    assert hub_cache.snapshot("a/b") is None
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    assert hub_cache.snapshot("a/b") == folder / "snapshots" / COMMIT


@pytest.mark.parametrize("ref", [b"", b"../../../etc", b"\xff\xfe", b"main", b"0123"])
def test_a_ref_that_names_no_commit_leads_nowhere(hub_home, ref):
    folder = hub_home / "hub" / "models--a--b"
    write(folder / "refs" / "main", ref)
    (folder / "snapshots").mkdir()
    assert hub_cache.snapshot("a/b") is None


@pytest.mark.parametrize(
    ("said", "meant"), [("1", True), ("ON", True), ("yes", True), ("0", False), ("", False)]
)
def test_offline_is_said_as_the_tools_understand_it(said, meant):
    assert hub_cache.is_offline({"HF_HUB_OFFLINE": said}) is meant
    assert hub_cache.is_offline({"TRANSFORMERS_OFFLINE": said}) is meant
