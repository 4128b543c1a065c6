"""A damaged index is set aside, and an empty one takes its place: the entries are lost, and nothing else."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from zit_ext.results import database, schema
from zit_ext.results.index import totals as database_totals

from .making import asked, bytes_on_disk, files_in, index_file, is_true, keep, kept, there


def _empty(file):
    file.write_bytes(b"")


def _index_of_text(file):
    file.write_bytes(b"this is no database, and it is longer than a header of one hundred bytes" * 9)


def _index_cut(file):
    os.truncate(file, file.stat().st_size // 2 + 100)


def _index_holes(file):
    data = bytearray(file.read_bytes())
    generator = random.Random(5)
    for at in range(0, len(data), 4096):
        data[at + 1 : at + 200] = generator.randbytes(199)
    file.write_bytes(data)


def _index_zeroed(file):
    file.write_bytes(bytes(file.stat().st_size))


def _index_names(file):
    """Make names in the schema no text: Python cannot even decode what SQLite says of them."""
    data = file.read_bytes()
    for name in (b"blobs", b"entries", b"totals", b"details"):
        data = data.replace(b"table" + name, b"table\xba" + name[1:])
        data = data.replace(b"ON " + name, b"ON \xba" + name[1:])
    file.write_bytes(data)


def _index_columns(file):
    data = file.read_bytes()
    assert data.count(b"generation") > 1
    file.write_bytes(data.replace(b"generation", b"gen\xbaration"))


INDEX_DAMAGE = [
    _index_of_text,
    _index_cut,
    _index_holes,
    _index_zeroed,
    _index_names,
    _index_columns,
    _empty,
]


@pytest.mark.parametrize("damage", INDEX_DAMAGE, ids=lambda each: each.__name__.strip("_"))
def test_a_malformed_index_is_set_aside_at_open_and_nothing_is_left_over(make_store, folder, damage):
    store = make_store()
    kept(store, *range(30))
    store.close()
    damage(index_file(folder))
    store = make_store()
    found = there(store, *range(30))
    store.flush()
    kept(store, 1)
    assert there(store, 1) == [1]
    if not found:
        assert len(files_in(folder / "blobs")) == 1
    assert store.verify().problems == []
    store.prune()
    assert store.usage().bytes == bytes_on_disk(folder)


@pytest.mark.parametrize("damage", INDEX_DAMAGE, ids=lambda each: each.__name__.strip("_"))
def test_an_index_that_becomes_malformed_while_open_costs_hits_and_nothing_else(make_store, folder, damage):
    store = make_store()
    kept(store, *range(30))
    store._write(lambda desk: desk.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    damage(index_file(folder))
    for number in range(30, 40):
        keep(store, number)
        there(store, number, number - 30)
    store.flush()
    for number in range(40):
        answer = store.find(asked(number))
        assert answer is None or is_true(answer, number) is None
    store.flush()
    kept(store, 1)
    assert there(store, 1) == [1]
    store.close()
    again = make_store()
    assert there(again, 1) == [1]


def test_a_deleted_folder_costs_the_entries_and_not_the_store(make_store, folder):
    store, other = make_store(), make_store(memory_bytes=1_000_000)
    kept(store, 1, 2)
    assert there(other, 1) == [1]
    shutil.rmtree(folder)
    assert there(store, 1, 2) == []
    store.flush()
    assert other.peek(asked(1)) is None
    kept(store, 3)
    assert there(store, 1, 2, 3) == [3]
    assert there(other, 1, 2, 3) == [3]


@pytest.mark.parametrize("version", [*range(schema.VERSION), -1, 1 << 12, (1 << 31) - 1, -(1 << 31)])
def test_an_index_whose_version_is_damaged_is_set_aside(make_store, folder, counted, version):
    store = make_store()
    kept(store, 1)
    store.close()
    with sqlite3.connect(index_file(folder)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    store = make_store()
    assert there(store, 1) == []
    kept(store, 1)
    assert there(store, 1) == [1]
    assert counted["index_malformed"] == 1


@pytest.mark.parametrize("version", [schema.VERSION + 256 * 8, -2])
def test_a_version_that_is_damaged_under_an_open_store_is_noticed(make_store, folder, version):
    store = make_store()
    kept(store, 1)
    with sqlite3.connect(index_file(folder)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    kept(store, 2)
    assert there(store, 2) == [2]
    assert there(make_store(), 2) == [2]


def test_an_index_that_is_being_made_is_waited_for_and_not_taken_for_damaged(tmp_path):
    """Another process puts a new one in place of a damaged one, and its tables come a moment later."""
    path = tmp_path / "index.sqlite3"
    path.touch()
    started, made = threading.Event(), []

    def make():
        started.wait(30)
        time.sleep(0.05)
        with contextlib.closing(database.connect(path)) as db:
            schema.migrate(db)
        made.append(True)

    maker = threading.Thread(target=make)
    maker.start()
    pool = database.Pool(lambda: path, busy_seconds=60.0)
    started.set()
    with pool.lend() as db:
        assert made or schema.version_of(db) == schema.VERSION
        assert database_totals(db).entries == 0
    pool.close()
    maker.join()
    hasty = database.Pool(lambda: tmp_path / "another.sqlite3", busy_seconds=0.0)
    (tmp_path / "another.sqlite3").touch()
    with pytest.raises(database.IndexMalformedError, match="no tables"), hasty.lend():
        pass


def test_an_index_that_is_set_aside_as_it_is_opened_is_not_made_anew(make_store, folder, monkeypatch):
    """SQLite makes a file that is not there: an index without tables, which nobody would ever look behind."""
    store = make_store()
    kept(store, 1)
    old, new = index_file(folder), folder / "index-99999999999999999999.sqlite3"
    store._readers.close()
    store._readers = database.Pool(store._layout.find_index)
    stat = os.stat

    def set_aside_after(path, *rest, **more):
        found = stat(path, *rest, **more)
        if str(path) == str(old):
            monkeypatch.undo()
            store._write(lambda desk: desk.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
            shutil.copy(old, new)
            old.unlink()
        return found

    monkeypatch.setattr(database.os, "stat", set_aside_after)
    with store._readers.lend() as db:
        assert database_totals(db).entries == 1
    assert index_file(folder) == new


def test_another_store_follows_to_the_new_index(make_store, folder, counted):
    store, other = make_store(), make_store()
    kept(store, 1)
    assert there(other, 1) == [1]
    store._write(lambda desk: desk.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    _index_of_text(index_file(folder))
    kept(store, 2)
    kept(other, 3)
    assert there(store, 2, 3) == there(other, 2, 3)
    kept(store, 4)
    kept(other, 5)
    assert there(store, 4, 5) == there(other, 4, 5) == [4, 5]
    assert counted["index_malformed"] >= 1


@pytest.mark.parametrize("place", ["cache", "100% of #1?", "Bäume"])
def test_a_folder_may_be_named_from_where_one_stands_and_as_one_likes(
    make_store, tmp_path, monkeypatch, place
):
    monkeypatch.chdir(tmp_path)
    store = make_store(cache_dir=Path(place))
    kept(store, 1)
    assert there(store, 1) == [1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    kept(store, 2)
    assert there(store, 1, 2) == [1, 2]
    store.close()
    assert there(make_store(cache_dir=tmp_path / place), 1, 2) == [1, 2]
    assert list(elsewhere.iterdir()) == []
