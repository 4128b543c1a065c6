"""Whatever is done to the files behind the store's back costs a hit, never a wrong answer."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from zit_ext.codecs import encode_png
from zit_ext.errors import BlobCorruptError
from zit_ext.results import checksums
from zit_ext.results import index as statements
from zit_ext.results.scribe import Scribe

from .making import (
    asked,
    blob_file,
    bytes_on_disk,
    files_in,
    is_true,
    kept,
    picture,
    search,
    there,
)


@pytest.fixture(params=[0, 1], ids=["no_memory", "rows_remembered"])
def memory_bytes(request):
    """One byte holds no picture, and lets rows be remembered."""
    return request.param


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-7])


def _lengthen(file):
    file.write_bytes(file.read_bytes() + b"\0")


def _flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def _zero(file):
    file.write_bytes(bytes(file.stat().st_size))


def _empty(file):
    file.write_bytes(b"")


def _folder(file):
    file.unlink()
    file.mkdir()
    (file / "inside").write_bytes(b"x")


def _link(file):
    target = file.with_name("elsewhere")
    os.replace(file, target)
    file.symlink_to(target)


DAMAGE = [_truncate, _lengthen, _flip, _zero, _empty, _folder, _link]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda each: each.__name__.strip("_"))
def test_a_damaged_blob_is_a_miss_goes_into_quarantine_and_heals(store, folder, counted, damage):
    kept(store, 1, 2)
    damage(blob_file(folder, store, 1))
    assert store.find(asked(1)) is None
    store.flush()
    assert (counted["corrupt"], counted["healed"]) == (1, 1)
    assert (store.usage().entries, store.usage().quarantined) == (1, 1)
    kept(store, 1)
    assert there(store, 1, 2) == [1, 2]
    assert store.usage().quarantined == 1
    assert store.usage().bytes == store.usage().quarantined_bytes + sum(
        entry.blob.size for entry in store.entries()
    )
    store.prune()
    assert store.usage().bytes == bytes_on_disk(folder)
    assert store.usage().quarantined == 0


def test_swapped_blobs_are_two_misses(store, folder, counted):
    kept(store, 1, 2)
    one, two = blob_file(folder, store, 1), blob_file(folder, store, 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert there(store, 1, 2) == []
    assert counted["corrupt"] == 2


def test_a_missing_blob_is_a_miss_and_heals(store, folder, counted):
    kept(store, 1)
    blob_file(folder, store, 1).unlink()
    assert store.find(asked(1)) is None
    store.flush()
    assert (counted["blob_missing"], store.usage().entries, store.usage().bytes) == (1, 0, 0)
    kept(store, 1)
    assert there(store, 1) == [1]


def test_damage_is_met_by_every_entry_that_shares_the_blob(store, folder):
    same = picture(7)
    kept(store, 1, content=same)
    kept(store, 2, content=same)
    _flip(blob_file(folder, store, 1))
    assert store.find(asked(1)) is None
    store.flush()
    assert store.find(asked(2)) is None
    assert store.usage().entries == 0


def test_a_blob_that_was_written_anew_meanwhile_is_not_set_aside(store, folder, counted):
    kept(store, 1)
    file = blob_file(folder, store, 1)
    whole = file.read_bytes()
    _flip(file)

    def mend_before_the_healer_looks(desk):
        assert store.find(asked(1)) is None
        file.write_bytes(whole)

    store._write(mend_before_the_healer_looks)
    store.flush()
    assert there(store, 1) == [1]
    assert (counted["corrupt"], counted["healed"]) == (1, 0)


def test_a_file_that_no_row_knows_is_swept_and_its_bytes_with_it(store, folder, counted):
    kept(store, 1)
    (folder / "blobs" / "ab").mkdir(exist_ok=True)
    (folder / "blobs" / "ab" / ("ab" * 32)).write_bytes(b"stranger")
    (folder / "blobs" / "ab" / "notes.txt").write_bytes(b"no blob at all")
    problems = store.verify().problems
    assert sorted((each.name, each.what) for each in problems) == [
        ("orphan", "ab" * 32),
        ("orphan", "notes.txt"),
    ]
    report = store.prune()
    assert (report.orphans, counted["orphan"]) == (2, 2)
    assert there(store, 1) == [1]
    assert store.verify().problems == []
    assert store.usage().bytes == bytes_on_disk(folder)


COLUMNS = [
    ("entries", "key", "zeroblob(32)"),
    ("entries", "blob", "(SELECT max(id) FROM blobs)"),
    ("entries", "seal", "seal + 1"),
    ("blobs", "digest", "zeroblob(32)"),
    ("blobs", "size", "size + 1"),
    ("entries", "media_type", "'image/jpeg'"),
    ("entries", "content_digest", "zeroblob(32)"),
    ("blobs", "checksum", "zeroblob(16)"),
    ("blobs", "checksum_kind", "'crc99'"),
    ("details", "fields", "zeroblob(20)"),
    ("details", "fields", "substr(fields, 1, 5)"),
    ("details", "dictionary", "dictionary + 77"),
    ("details", "redacted", "1"),
]


@pytest.mark.parametrize(("table", "column", "value"), COLUMNS)
def test_no_changed_column_of_a_row_makes_another_answer(make_store, index, table, column, value):
    make_store().close()
    store = make_store()
    kept(store, 1, 2)
    index(f"UPDATE {table} SET {column} = {value} WHERE id = 1")
    found = store.find(asked(1))
    if found is not None:
        is_true(found, 1)
        assert found.content.media_type == "image/png"
    assert there(store, 2) == [2]
    store.flush()
    kept(store, 1)
    assert there(store, 1, 2) == [1, 2]


def test_a_row_whose_details_are_gone_is_a_miss_and_heals(make_store, index, memory_bytes):
    store = make_store()
    kept(store, 1)
    index("DELETE FROM details")
    assert there(store, 1) == ([1] if memory_bytes else []), "a row that is remembered is known to be whole"
    store = make_store(memory_bytes=0)
    assert store.find(asked(1)) is None
    kept(store, 1)
    assert there(store, 1) == [1]


def test_reading_a_blob_by_its_digest_is_checked_fully(store, folder):
    kept(store, 1)
    digest = store.entry(asked(1).key).entry.blob.digest
    assert store.read_blob(digest) == store.find(asked(1)).content.data
    _flip(blob_file(folder, store, 1))
    with pytest.raises(BlobCorruptError):
        store.read_blob(digest)
    with pytest.raises(BlobCorruptError):
        store.read_blob("0" * 64)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda each: each.__name__.strip("_"))
def test_verify_reports_damage_and_blesses_none(store, folder, damage):
    kept(store, 1, 2)
    damage(blob_file(folder, store, 1))
    for _ in range(2):
        report = store.verify()
        assert [(each.name, each.what) for each in report.problems if each.name != "orphan"] == [
            ("corrupt", asked(1).key)
        ]
    assert store.verify(set_aside=True).set_aside == 1
    store.prune()
    assert store.verify().problems == []
    assert there(store, 1, 2) == [2]


def test_verify_sees_what_the_fast_checksum_cannot(store, folder, index):
    kept(store, 1)
    other = encode_png(picture(2))
    blob_file(folder, store, 1).write_bytes(other)
    index("UPDATE blobs SET checksum = ?, size = ?", checksums.checksum(other), len(other))
    assert [each.name for each in store.verify().problems] == ["corrupt"]


def test_verify_finds_sums_that_are_wrong(store, index):
    kept(store, 1)
    index("UPDATE totals SET bytes = bytes + 5")
    assert [(each.name, each.what) for each in store.verify().problems] == [("miscounted", "bytes")]


def test_what_could_not_be_taken_back_on_a_full_disk_is_taken_back_later(make_store, folder, monkeypatch):
    store = make_store(max_bytes=3_000)
    kept(store, 1)

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Scribe, "_write_rows", full)
        patched.setattr(Scribe, "take_back", full)
        kept(store, 2)
    assert store.usage().reserved_bytes > 0
    search(store)
    assert store.usage().reserved_bytes == 0
    assert store.usage().bytes == bytes_on_disk(folder)
    assert store.verify().problems == []
    kept(store, 2)
    assert there(store, 1, 2) == [1, 2]


@pytest.mark.skipif(os.name == "nt", reason="on Windows, a file that is in use looks the same")
@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO])
def test_a_blob_that_may_not_be_read_is_a_miss_and_heals(make_store, counted, folder, monkeypatch, code):
    store = make_store()
    kept(store, 1)
    forbidden = blob_file(folder, store, 1)
    really = os.open

    def opening(path, *args, **more):
        if str(path) == str(forbidden):
            raise OSError(code, os.strerror(code))
        return really(path, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", opening)
        assert store.find(asked(1)) is None
        store.flush()
    assert (counted["corrupt"], counted["healed"]) == (1, 1)
    kept(store, 1)
    assert there(store, 1) == [1]


@pytest.mark.parametrize("how", ["clear", "remove"])
def test_a_full_disk_can_be_emptied(make_store, folder, monkeypatch, how):
    """Where not even a removal can be written down, the files go before the rows."""
    store = make_store()
    kept(store, 1, 2)
    kept(store, 3, namespace="ann")
    other = blob_file(folder, store, 1).parent.parent
    really = statements.remove_entries

    def full(db, ids):
        if len(files_in(other)) == 3:
            raise sqlite3.OperationalError("database or disk is full")
        really(db, ids)

    monkeypatch.setattr(statements, "remove_entries", full)
    if how == "clear":
        assert store.clear("default") == 2
    else:
        assert store.remove([asked(1).key, asked(2).key]) == 2
    assert there(store, 3, namespace="ann") == [3]
    assert store.verify().problems == []
    assert store.usage().bytes == bytes_on_disk(folder)
