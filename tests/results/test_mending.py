"""What the index says about itself may be wrong for a moment: it costs hits, and is set right."""

from __future__ import annotations

import sqlite3

import pytest

from zit_ext.results import mending

from .making import asked, bytes_on_disk, index_file, keep, kept, search, there

HUGE = 1 << 62

WRONG = [
    ("totals", "entries", "'rubbish'"),
    ("totals", "entries", HUGE),
    ("totals", "bytes", "x'00ff'"),
    ("totals", "bytes", -1),
    ("totals", "bytes", HUGE),
    ("totals", "bytes", 1_000_000_000),
    ("totals", "aside_bytes", "'rubbish'"),
    ("totals", "aside_bytes", 1_000_000_000),
    ("totals", "generation", "'rubbish'"),
    ("totals", "sequence", 1e300),
    ("totals", "policy", "x'00'"),
    ("totals", "floor", "-9e999"),
    ("totals", "rescored", "'rubbish'"),
    ("totals", "hits", "'rubbish'"),
    ("totals", "saved_seconds", "9e999"),
    ("totals", "swept_at", "'rubbish'"),
    ("totals", "wall", 1e300),
    ("totals", "steady", "'rubbish'"),
    ("totals", "drift", "-9e999"),
    ("totals", "boot", "x'00'"),
    ("totals", None, None),
    ("namespaces", "name", "x'00'"),
    ("namespaces", "id", 77),
    ("namespaces", "entries", "'rubbish'"),
    ("namespaces", "entries", 1_000_000_000),
    ("namespaces", "bytes", "9e999"),
    ("namespaces", "ttl_seconds", "'rubbish'"),
    ("namespaces", "ttl_seconds", -5),
    ("namespaces", "max_bytes", "'rubbish'"),
    ("namespaces", "max_entries", "x'00'"),
    ("namespaces", None, None),
    ("blobs", "refs", 0),
    ("blobs", "refs", 7),
    ("blobs", "size", "-9e999"),
    ("blobs", "doomed", "'rubbish'"),
    ("blobs", None, None),
    ("entries", "blob", 77),
    ("entries", "namespace", 77),
    ("details", None, None),
    ("dictionaries", "id", 0),
    ("dictionaries", "id", "'rubbish'"),
    ("dictionaries", "data", "'rubbish'"),
    ("dictionaries", "data", "x'00'"),
    ("reservations", "digest", "'rubbish'"),
    ("reservations", "size", "'rubbish'"),
    ("reservations", "owner", "x'00'"),
    ("aside", "size", "'rubbish'"),
    ("aside", "size", 1_000_000_000),
    ("aside", "at", "'rubbish'"),
    ("claims", "owner", "x'00'"),
    ("claims", "beat_at", "'rubbish'"),
]


@pytest.fixture
def furnished(make_store, folder):
    """A store with something in every table."""
    store = make_store(max_entries=6, max_bytes=5_000, durability="off")
    kept(store, 1, 2, 3)
    store.limit_namespace("default", max_entries=50)
    store.try_claim(asked(99))

    def furnish(desk):
        desk.db.execute("INSERT INTO reservations (digest, size, owner) VALUES (zeroblob(32), 5, 'x')")
        (folder / "quarantine" / "bad").write_bytes(b"12345")
        desk.db.execute("INSERT INTO aside VALUES ('bad', 5, 'bad', 1.0)")

    store._write(furnish)
    return store


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
@pytest.mark.parametrize(("table", "column", "value"), WRONG)
def test_no_wrong_value_beside_the_entries_is_believed_or_stays(
    furnished, make_store, folder, table, column, value, is_open
):
    store = furnished
    if not is_open:
        store.close()
    db = sqlite3.connect(index_file(folder), timeout=10)
    try:
        db.execute("PRAGMA ignore_check_constraints = ON")
        with db:
            db.execute(f"DELETE FROM {table}" if column is None else f"UPDATE {table} SET {column} = {value}")
    finally:
        db.close()
    if not is_open:
        store = make_store(max_entries=6, max_bytes=5_000, durability="off")
    there(store, 1, 2, 3)
    store.try_claim(asked(98))
    for number in (4, 5):
        keep(store, number)
        store.flush()
    store.usage()
    store.entries()
    store.nearest(asked(1).fields)
    search(store)
    store.verify(set_aside=True)
    store.prune()
    kept(store, 6, 7)
    assert there(store, 6, 7) == [6, 7]
    assert store.usage().entries <= 6
    assert store.usage().bytes == bytes_on_disk(folder) <= 5_000
    assert store.verify().problems == []


def test_a_sum_that_is_wrong_and_possible_is_set_right_by_the_next_search(make_store, index, counted):
    store = make_store()
    kept(store, 1, 2)
    index("UPDATE totals SET bytes = bytes + 5, swept_at = 0")
    index("UPDATE blobs SET refs = 9 WHERE id = 1")
    assert [each.what for each in store.verify().problems] == ["bytes", "references", "blobs.refs"]
    search(store)
    assert counted["mended"] == 1
    assert store.verify().problems == []
    assert there(store, 1, 2) == [1, 2]


def test_mending_what_is_right_changes_nothing(make_store):
    store = make_store()
    kept(store, 1, 2, namespace="ann")
    kept(store, 3)
    store.pin([asked(3).key])
    store.remove([asked(1, namespace="ann").key])
    assert store._write(lambda desk: mending.broken(desk.db)) == []
    assert store._write(lambda desk: desk.mend()) is False


def test_verify_lets_sqlite_look_at_its_pages(make_store, index, counted):
    store = make_store()
    kept(store, 1, 2)
    index("PRAGMA writable_schema = ON")
    root = index("SELECT rootpage FROM sqlite_schema WHERE name = 'entries_by_score'")[0][0]
    store._write(lambda desk: desk.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    path = store._desk.opened.path
    size = store._write(lambda desk: desk.db.execute("PRAGMA page_size").fetchone()[0])
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        page = file.read(size)
        file.seek((root - 1) * size)
        file.write(page[:3] + bytes(2) + page[5:])  # an index that lists no entry
    store.close()
    store = make_store()
    assert {each.name for each in store.verify().problems} == {"index_damaged"}
    store.verify(set_aside=True)
    assert store.verify().problems == []
    assert counted["index_malformed"] == 1
    kept(store, 1)
    assert there(store, 1) == [1]


def test_one_bad_row_met_while_opening_does_not_cost_the_whole_index(make_store, folder, counted):
    store = make_store()
    kept(store, 1, 2)
    store.close()
    db = sqlite3.connect(index_file(folder))
    try:
        db.execute("PRAGMA ignore_check_constraints = ON")
        with db:
            db.execute("UPDATE blobs SET digest = -1, doomed = 1 WHERE id = 1")
    finally:
        db.close()
    store = make_store()
    assert there(store, 1, 2) == [2]
    assert (counted["index_malformed"], counted["mended"]) == (0, 1)
    store.prune()
    assert store.verify().problems == []
    assert store.usage().bytes == bytes_on_disk(folder)
