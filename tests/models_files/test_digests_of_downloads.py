"""Digests of files in the cache of Hugging Face, whose names tell them."""

from __future__ import annotations

import hashlib
import sqlite3

import pytest

from zit_ext.models.digest_memo import FILE_NAME
from zit_ext.models.digests import Digests
from zit_ext.models.weight_files import look

from .conftest import later, write
from .test_digests import WEIGHTS, digest, edited_in_place_with_its_time_restored, links


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "hub" / "models--someone--tiny"
    (folder / "snapshots" / "c0de").mkdir(parents=True)
    (folder / "blobs").mkdir()
    return folder


def linked(repository, blob, content=b"weights", name="ae.safetensors"):
    write(repository / "blobs" / blob, content)
    link = repository / "snapshots" / "c0de" / name
    link.symlink_to(f"../../blobs/{blob}")
    return link


@links
def test_a_large_file_carries_its_digest_as_its_name(digests, repository, nobody_reads):
    link = linked(repository, WEIGHTS)
    nobody_reads()
    for place in (link, link.parent):
        (seen,) = look(place)
        assert digests.named([seen]) == {seen: WEIGHTS}
        assert digests.known([seen]) == {}


@links
def test_a_small_files_name_is_another_hash_and_says_nothing(digests, repository):
    link = linked(repository, "0" * 40)
    assert digests.named(look(link)) == {}
    assert digest(digests, link) == WEIGHTS


@links
@pytest.mark.parametrize("name", ["f" * 63, "F" * 64, "f" * 64 + ".incomplete", "g" * 64])
def test_what_is_no_sha256_says_nothing(digests, repository, name):
    assert digests.named(look(linked(repository, name))) == {}


@links
def test_a_link_from_elsewhere_says_nothing(digests, repository, tmp_path):
    write(repository / "blobs" / WEIGHTS, b"weights")
    link = tmp_path / "ae.safetensors"
    link.symlink_to(repository / "blobs" / WEIGHTS)
    assert digests.named(look(link)) == {}


@links
def test_a_file_that_is_no_link_says_nothing_by_its_name(digests, repository):
    # So it is on Windows, where files lie in the snapshot themselves.
    file = write(repository / "snapshots" / "c0de" / WEIGHTS, b"other")
    assert digests.named(look(file)) == {}
    assert digests.named(look(write(repository / "blobs" / WEIGHTS, b"other"))) == {}


@links
@pytest.mark.parametrize("again", ["same object", "another program"])
def test_a_blob_that_was_edited_is_not_believed_by_its_name(digests, repository, tmp_path, again):
    link = linked(repository, WEIGHTS)
    digests.named(look(link))
    edited_in_place_with_its_time_restored(repository / "blobs" / WEIGHTS)
    looking = digests if again == "same object" else Digests(tmp_path / "cache", clock=later())
    assert looking.named(look(link)) == looking.known(look(link)) == {}
    assert digest(looking, link) == hashlib.sha256(b"Weights").hexdigest()
    # Another snapshot of the same repository links to the same blob.
    other = repository / "snapshots" / "beef"
    other.mkdir()
    (other / "ae.safetensors").symlink_to(f"../../blobs/{WEIGHTS}")
    assert looking.named(look(other)) == {}
    assert list(looking.known(look(other)).values()) == [hashlib.sha256(b"Weights").hexdigest()]


@links
def test_a_blob_that_was_read_is_known_by_all_its_links_and_to_other_programs(
    digests, repository, tmp_path, nobody_reads
):
    link = linked(repository, WEIGHTS)
    digests.named(look(link))
    assert digest(digests, link) == WEIGHTS
    nobody_reads()
    other = repository / "snapshots" / "beef"
    other.mkdir()
    (other / "ae.safetensors").symlink_to(f"../../blobs/{WEIGHTS}")
    for looking in (digests, Digests(tmp_path / "cache")):
        assert list(looking.known(look(other)).values()) == [WEIGHTS]


@links
def test_a_program_that_believed_a_name_learns_what_another_read(digests, repository, tmp_path):
    link = linked(repository, WEIGHTS, b"damaged")
    assert list(digests.named(look(link)).values()) == [WEIGHTS]
    digest(Digests(tmp_path / "cache", clock=later()), link)
    assert list(digests.known(look(link)).values()) == [hashlib.sha256(b"damaged").hexdigest()]


@links
def test_a_blob_that_is_not_what_its_name_promises_is_named_in_the_log(digests, repository, caplog):
    link = linked(repository, WEIGHTS, b"damaged")
    assert digest(digests, link) == hashlib.sha256(b"damaged").hexdigest()
    assert str(repository / "blobs" / WEIGHTS) in caplog.text
    assert "download the model again" in caplog.text


@links
def test_where_nothing_can_be_remembered_for_sure_no_name_is_believed(digests, repository, tmp_path):
    link = linked(repository, WEIGHTS)
    digests.named(look(link))
    held = sqlite3.connect(tmp_path / "cache" / FILE_NAME, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    try:
        assert Digests(tmp_path / "cache").named(look(link)) == {}
    finally:
        held.close()
