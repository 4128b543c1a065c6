"""A version is not one code where a package comes from Git or a folder: two codes are two environments."""

from __future__ import annotations

import json
import os
from importlib import metadata

import pytest

from zit_ext.models import installation, torch_environment
from zit_ext.models.package_sources import read_beside, source_of

from .conftest import write


def installed(folder, *, record="", **origin):
    """A package of one version in this folder, from somewhere else than an index."""
    info = folder / "diffusers-0.39.0.dev0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: diffusers\nVersion: 0.39.0.dev0\n")
    write(info / "RECORD", record)
    if origin:
        write(info / "direct_url.json", json.dumps(origin))
    os.utime(info / "RECORD", (1, 1))
    return info


def commit(digits):
    return {"url": "https://example.org/d.git", "vcs_info": {"vcs": "git", "commit_id": digits * 40}}


def source(info):
    return source_of(read_beside(str(info)))


def test_a_package_of_an_index_is_told_by_its_version(tmp_path):
    assert source(installed(tmp_path)) is None


def test_two_commits_of_one_version_are_two(tmp_path):
    one, other = (source(installed(tmp_path / each, **commit(each))) for each in "ab")
    assert (one, other) == (f"commit {'a' * 40}", f"commit {'b' * 40}")


def test_what_was_built_from_a_folder_is_told_by_what_was_installed(tmp_path):
    one = source(installed(tmp_path / "1", record="a.py,sha256=1,1", url="file:///d", dir_info={}))
    other = source(installed(tmp_path / "2", record="a.py,sha256=2,1", url="file:///d", dir_info={}))
    assert None not in (one, other)
    assert one != other


def test_a_folder_that_is_imported_in_place_is_looked_at(tmp_path):
    code = write(tmp_path / "my code" / "src" / "diffusers" / "a.py", "x = 1")
    write(tmp_path / "my code" / "tests" / "test_a.py", "")
    folder = tmp_path / "my code"
    info = installed(tmp_path / "site", url=folder.as_uri(), dir_info={"editable": True})
    before, named = source(info), list(installation.packages([str(info.parent)]))
    write(folder / "tests" / "test_a.py", "what is not imported")
    assert source(info) == before
    write(code, "x = 22")
    assert source(info) != before
    assert list(installation.packages([str(info.parent)])) != named


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "5", "[" * 200_000, '{"dir_info": {"editable": 1}}'], ids=range(6)
)
def test_an_origin_that_cannot_be_read_is_no_index_and_no_error(tmp_path, damage):
    info = installed(tmp_path)
    write(info / "direct_url.json", damage)
    assert source(info) is not None


def test_the_environment_tells_two_commits_apart(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    told = []
    for each in "ab":
        package = metadata.Distribution.at(installed(tmp_path / each, **commit(each)))
        monkeypatch.setattr(torch_environment.metadata, "distribution", lambda name, package=package: package)
        told.append(dict(torch_environment._versions.__wrapped__()))
    assert told[0]["diffusers"] == told[1]["diffusers"] == "0.39.0.dev0"
    assert told[0] != told[1]
