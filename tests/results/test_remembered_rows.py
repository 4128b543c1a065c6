"""Rows that were read once are remembered without their bytes, and count no more than the index says."""

from __future__ import annotations

import pytest

from zit_ext.records import ResultTier
from zit_ext.results import lookup, memory, rows

from .making import asked, blob_file, is_true, kept, picture, there


@pytest.fixture
def rows_read(monkeypatch):
    """How often a hit's row was read from the index."""
    read = []

    def find_hit(db, key):
        read.append(key)
        return rows.find_hit(db, key)

    monkeypatch.setattr(lookup, "find_hit", find_hit)
    return read


def test_a_row_is_read_once_and_the_bytes_each_time(make_store, folder, counted, rows_read):
    make_store(memory_bytes=0).close()
    first = make_store(memory_bytes=0)
    kept(first, 1, 2)
    store = make_store(memory_bytes=1)
    for _ in range(3):
        assert there(store, 1, 2) == [1, 2]
        assert store.find(asked(1)).tier is ResultTier.DISK
    assert len(rows_read) == 2
    damaged = blob_file(folder, store, 1)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert there(store, 1, 2) == [2]
    store.flush()
    assert (counted["corrupt"], counted["healed"]) == (1, 1)


def test_without_memory_every_row_is_read_anew(make_store, rows_read):
    store = make_store(memory_bytes=0)
    kept(store, 1)
    assert there(store, 1) == there(store, 1) == [1]
    assert len(rows_read) == 2


def test_a_remembered_row_counts_no_more_than_the_index_says(make_store, rows_read, clock):
    store, other = make_store(memory_bytes=1), make_store(memory_bytes=0)
    kept(store, 1, 2, 3, 4)
    kept(store, 5, namespace="b")
    assert there(store, 1, 2, 3, 4) == [1, 2, 3, 4]
    assert rows_read == []
    assert other.remove([asked(1).key]) == 1
    kept(other, 2, content=picture(99))
    other.clear("b")
    assert there(store, 1) == there(store, 5, namespace="b") == []
    is_true(store.find(asked(2)), 99)
    assert there(store, 3, 4) == [3, 4]
    other.pin([asked(3).key])
    clock.advance(1000 * 86_400)
    assert there(store, 3, 4) == [3]
    assert store.was_stale(asked(4))
    assert not store.was_stale(asked(3))


def test_few_rows_are_remembered(make_store, rows_read, monkeypatch):
    monkeypatch.setattr(memory, "MAX_ROWS", 3)
    store = make_store(memory_bytes=1)
    kept(store, 1, 2, 3, 4, 5)
    assert there(store, 5, 4, 3) == [5, 4, 3]
    assert rows_read == []
    assert there(store, 1, 2) == [1, 2]
    assert len(rows_read) == 2


def test_a_picture_that_memory_has_no_room_for_leaves_its_row(make_store, rows_read):
    store = make_store(memory_bytes=3_000)  # one of them
    kept(store, 1, 2)
    for _ in range(3):
        assert [store.find(asked(number)).tier for number in (1, 2)] == [ResultTier.DISK] * 2
    assert rows_read == []


def test_the_fields_asked_for_are_compared_with_a_remembered_row(make_store, counted):
    store = make_store(memory_bytes=1, store_prompts=False)
    kept(store, 1)
    assert there(store, 1) == there(store, 1) == [1]
    forged = asked(2)
    assert store.find(type(forged)(asked(1).key, forged.fields, forged.canonical)) is None
    assert counted["fields_differ"] == 1
