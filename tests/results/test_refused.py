"""What a store does not keep, and that it costs nobody else."""

from __future__ import annotations

import sqlite3

import pytest

from zit_ext.codecs import SAFETENSORS
from zit_ext.errors import PluginError, StoreFullError
from zit_ext.records import Encoded, Outcome
from zit_ext.results.database import transaction
from zit_ext.results.disk import Disk
from zit_ext.testing import make_request

from .making import asked, bytes_on_disk, files_in, index_file, keep, kept, there


@pytest.mark.parametrize(
    "content",
    [
        Encoded("image/png", b"\x89PNG\r\n\x1a\nnot really"),
        Encoded("image/png", b""),
        Encoded(SAFETENSORS, b"\x02\0\0\0\0\0\0\0{}tail"),
        Encoded("audio/wav", b""),
    ],
)
def test_what_cannot_be_decoded_is_not_kept(store, counted, content):
    kept(store, 1, content=content)
    assert store.find(asked(1)) is None
    assert (counted["undecodable"], counted["dropped"], store.usage().bytes) == (1, 1, 0)


def test_a_picture_larger_than_the_cap_is_not_kept_and_costs_nobody_else(make_store, counted):
    store = make_store(max_bytes=5_000)
    kept(store, 1)
    with pytest.raises(StoreFullError):
        keep(store, 2, content=Encoded("text/plain", bytes(5_001)))
    kept(store, 3, side=64)
    assert counted["larger_than_cap"] == 2
    assert there(store, 1, 3) == [1]


def test_a_plugin_that_cannot_score_costs_the_entry_and_not_the_store(make_store, counted):
    def score(policy, entry, floor):
        if entry.namespace == "odd":
            raise PluginError("odd", "no idea")
        return float("nan") if entry.namespace == "nan" else float(entry.sequence)

    store = make_store(score=score)
    kept(store, 1)
    kept(store, 2, namespace="odd")
    kept(store, 3, namespace="nan")
    assert counted["not_scored"] == 2
    assert store.usage().entries == 1
    assert store.usage().bytes == store.entry(asked(1).key).entry.blob.size


def test_a_disk_that_is_full_costs_the_entry_and_leaves_nothing_behind(make_store, counted, folder):
    class FullDisk(Disk):
        full = False

        def write_new(self, path, data, *, sync):
            super().write_new(path, data[:10], sync=sync)
            if self.full:
                raise OSError(28, "No space left on device")
            path.unlink()
            super().write_new(path, data, sync=sync)

    disk = FullDisk()
    store = make_store(disk=disk)
    kept(store, 1)
    disk.full = True
    kept(store, 2)
    disk.full = False
    kept(store, 3)
    assert counted["disk_full"] == 1
    assert there(store, 1, 2, 3) == [1, 3]
    assert files_in(folder / "incoming") == []
    assert store.usage().bytes == bytes_on_disk(folder)


def test_an_index_that_is_full_costs_the_entry_and_leaves_nothing_behind(make_store, counted, folder):
    store = make_store()
    kept(store, 1)
    pages = store._write(lambda desk: desk.db.execute("PRAGMA page_count").fetchone()[0])
    store._write(lambda desk: desk.db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    for number in range(2, 200):
        keep(store, number, prompt="long " * 1000)
        store.flush()
        if counted["disk_full"]:
            break
    assert counted["disk_full"] == 1
    store._write(lambda desk: desk.db.execute("PRAGMA max_page_count = 1000000").fetchone())
    kept(store, 1000)
    assert there(store, 1, 1000) == [1, 1000]
    assert store.usage().bytes == bytes_on_disk(folder)
    assert store.verify().problems == []


def test_another_programs_long_write_delays_a_hit_by_nothing_and_a_write_unseen(make_store, folder):
    store = make_store()
    kept(store, 1)
    other = sqlite3.connect(index_file(folder), isolation_level=None)
    try:
        with transaction(other):
            other.execute("UPDATE totals SET floor = floor")
            assert there(store, 1) == [1]
            keep(store, 2)
            assert not store.flush(timeout=0.2)
            assert there(store, 2) == [2]
        assert store.flush(timeout=30)
    finally:
        other.close()
    assert store.usage().entries == 2


async def test_what_finds_no_room_in_the_queue_is_answered_with_one_line_in_the_log(in_engine, caplog):
    answered = await in_engine(lambda engine: engine.generate(make_request()), write_queue=0)

    assert (answered.status.outcome, answered.status.stored) == (Outcome.MISS, False)
    (line,) = [each for each in caplog.records if "results wait to be written" in each.getMessage()]
    assert line.exc_info is None
