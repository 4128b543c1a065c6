"""The caps are exact, what is worth least goes first, and pins and namespaces are respected."""

from __future__ import annotations

import logging
import shutil
import sqlite3

import pytest

from zit_ext.errors import PluginError
from zit_ext.records import Encoded
from zit_ext.results.disk import Disk

from .making import asked, blob_file, bytes_on_disk, files_in, index_file, keep, kept, lru, picture, there


def scored(policy, entry, floor):
    """A policy by the number in the prompt: what is asked for least goes first."""
    return floor + float(entry.cost)


class WatchfulDisk(Disk):
    """Looks at the bytes on disk after each step that changes them."""

    def __init__(self, folder):
        self.folder = folder
        self.most = 0

    def write_new(self, path, data, *, sync):
        super().write_new(path, data, sync=sync)
        self.most = max(self.most, bytes_on_disk(self.folder))

    def rename(self, source, target):
        super().rename(source, target)
        self.most = max(self.most, bytes_on_disk(self.folder))


def test_entries_never_exceed_their_cap_and_the_oldest_go(make_store, counted):
    store = make_store(max_entries=5)
    for number in range(12):
        kept(store, number)
        assert store.usage().entries == min(number + 1, 5)
    assert there(store, *range(12)) == [7, 8, 9, 10, 11]
    assert counted["evicted_by_entries"] == 7


def test_bytes_on_disk_never_exceed_their_cap(make_store, folder, counted):
    disk = WatchfulDisk(folder)
    store = make_store(max_bytes=3_000, disk=disk)
    for number in range(40):
        kept(store, number, side=4 + number % 9)
        usage = store.usage()
        assert usage.bytes == bytes_on_disk(folder) <= 3_000
    assert 2_000 < disk.most <= 3_000
    assert counted["evicted_by_bytes"] > 20
    assert there(store, 39) == [39]


def test_a_use_saves_an_entry_from_going(make_store):
    store = make_store(max_entries=3)
    kept(store, 1, 2, 3)
    assert store.find(asked(1)) is not None
    kept(store, 4)
    store.flush()
    kept(store, 5)
    assert there(store, 1, 2, 3, 4, 5) == [1, 4, 5]


def test_the_lowest_score_goes_first_and_raises_the_floor(make_store, index):
    store = make_store(max_entries=3, score=scored)
    for number, cost in ((1, 5.0), (2, 1.0), (3, 9.0), (4, 3.0)):
        kept(store, number, cost=cost)
    assert there(store, 1, 2, 3, 4) == [1, 3, 4]
    assert index("SELECT floor FROM totals") == [(1.0,)]
    kept(store, 5, cost=4.0)
    assert there(store, 1, 2, 3, 4, 5) == [1, 3, 5]
    assert index("SELECT floor FROM totals") == [(4.0,)]


def test_only_the_caps_move_the_floor(make_store, index, clock):
    store = make_store(max_entries=3, score=scored)
    kept(store, 1, cost=7.0, ttl_seconds=10)
    kept(store, 2, cost=8.0)
    store.remove([asked(2).key])
    clock.advance(11)
    store.prune()
    assert index("SELECT floor, entries FROM totals") == [(0.0, 0)]


def test_a_change_of_policy_scores_everything_anew(make_store, index):
    store = make_store(max_entries=3, eviction="lru")
    for number, cost in ((1, 9.0), (2, 1.0), (3, 5.0)):
        kept(store, number, cost=cost)
    store.close()
    store = make_store(max_entries=3, eviction="cost", score=lambda policy, entry, floor: entry.cost)
    while index("SELECT rescored IS NOT NULL FROM totals") == [(1,)]:
        store._write(lambda desk: desk.upkeep.rescore())
    assert index("SELECT policy, floor FROM totals") == [("cost", 0.0)]
    kept(store, 4, cost=7.0)
    assert there(store, 1, 2, 3, 4) == [1, 3, 4]


def test_a_policy_that_fails_at_one_entry_leaves_its_score(make_store, index, counted):
    kept(make_store(), 1, 2)
    before = index("SELECT key, score FROM entries ORDER BY id")

    def half(policy, entry, floor):
        if entry.key == asked(1).key:
            raise PluginError("half", "not this one")
        return 77.0

    store = make_store(eviction="half", score=half)
    while store._write(lambda desk: desk.upkeep.rescore()):
        pass
    after = index("SELECT key, score FROM entries ORDER BY id")
    assert after[0] == before[0]
    assert after[1][1] == 77.0
    assert counted["not_rescored"] == 1


def test_pinned_entries_stay_and_a_cap_full_of_pins_says_so(make_store, counted, caplog):
    store = make_store(max_entries=2)
    kept(store, 1, 2)
    assert store.pin([asked(1).key, asked(2).key, asked(9).key]) == 2
    with caplog.at_level(logging.WARNING, "zit_ext"):
        kept(store, 3)
    assert "2 pinned entries fill the store" in caplog.text
    assert there(store, 1, 2, 3) == [1, 2]
    assert counted["full"] == 1
    assert (store.usage().pinned, store.usage().entries) == (2, 2)
    store.unpin([asked(1).key])
    kept(store, 3)
    assert there(store, 1, 2, 3) == [2, 3]


def test_a_cap_of_bytes_full_of_pins_says_so_and_leaves_nothing_behind(make_store, folder, counted):
    store = make_store(max_bytes=600)
    kept(store, 1, 2, pinned=True)
    kept(store, 3)
    assert there(store, 1, 2, 3) == [1, 2]
    assert counted["full"] == 1
    assert store.usage().bytes == bytes_on_disk(folder)
    assert len(files_in(folder / "blobs")) == 2


def test_a_pin_takes_the_time_away_and_unpinning_starts_it_anew(make_store, clock):
    store = make_store()
    kept(store, 1, ttl_seconds=100)
    store.pin([asked(1).key])
    clock.advance(10_000)
    store.prune()
    assert there(store, 1) == [1]
    store.unpin([asked(1).key])
    clock.advance(99)
    assert there(store, 1) == [1]
    clock.advance(2)
    assert there(store, 1) == []


def test_a_stale_entry_cannot_be_pinned_back_to_life(make_store, clock):
    store = make_store()
    kept(store, 1, ttl_seconds=100)
    clock.advance(101)
    assert store.pin([asked(1).key]) == 0
    assert there(store, 1) == []


def test_a_refresh_keeps_pin_and_uses(make_store):
    store = make_store()
    kept(store, 1)
    store.pin([asked(1).key])
    store.find(asked(1))
    store.flush()
    kept(store, 1)
    entry = store.entry(asked(1).key).entry
    assert (entry.pinned, entry.uses, entry.expires_at) == (True, 1, None)


def test_stale_entries_go_before_fresh_ones(make_store, clock):
    store = make_store(max_bytes=700)
    kept(store, 1, ttl_seconds=10_000)
    kept(store, 2, ttl_seconds=100)
    clock.advance(101)
    kept(store, 3)
    assert there(store, 1, 2, 3) == [1, 3]


def test_quarantine_is_counted_and_goes_before_any_entry(make_store, folder, counted):
    store = make_store(max_bytes=1_000)
    kept(store, 1, 2, 3)
    blob_file(folder, store, 1).write_bytes(bytes(200))
    assert store.find(asked(1)) is None
    store.flush()
    assert store.usage().quarantined_bytes == 200
    assert store.usage().bytes == bytes_on_disk(folder)
    kept(store, 4, 5)
    assert there(store, 2, 3, 4, 5)[-2:] == [4, 5]
    assert counted["quarantine_emptied"] == 1
    assert store.usage().bytes == bytes_on_disk(folder) <= 1_000


def test_lowered_caps_are_reached(make_store):
    kept(make_store(), *range(60))
    store = make_store(max_entries=7)
    store.prune()
    assert there(store, *range(60)) == list(range(53, 60))
    small = make_store(max_bytes=500)
    small.prune()
    assert small.usage().bytes <= 500
    assert there(small, 59) == [59]


def test_a_cap_of_zero_is_no_limit(make_store):
    store = make_store(max_entries=0, max_bytes=0)
    kept(store, *range(30))
    assert store.usage().entries == 30


def test_the_automatic_cap_is_a_tenth_of_the_free_disk_at_most(make_store, tmp_path):
    usage = make_store(max_bytes=None).usage()
    free = shutil.disk_usage(tmp_path).free
    assert 0 < usage.max_bytes <= min(10_000_000_000, free // 10 + 100_000_000)


def test_namespaces_have_lists_counts_and_caps_of_their_own(make_store):
    store = make_store()
    for number in range(6):
        kept(store, number, namespace="ann")
        kept(store, number, namespace="bob")
    store.limit_namespace("ann", max_entries=2)
    assert store.usage("ann").entries == 2
    assert (store.usage("bob").entries, store.usage().entries) == (6, 8)
    assert there(store, *range(6), namespace="ann") == [4, 5]
    assert there(store, *range(6), namespace="bob") == list(range(6))
    kept(store, 9, namespace="ann")
    assert there(store, 4, 5, 9, namespace="ann") == [5, 9]
    assert [(each.name, each.entries) for each in store.namespaces()] == [("ann", 2), ("bob", 6)]


def test_a_namespace_has_a_cap_of_bytes(make_store, counted):
    store = make_store()
    store.limit_namespace("ann", max_bytes=700)
    for number in range(5):
        kept(store, number, namespace="ann")
        kept(store, number, namespace="bob")
        assert store.usage("ann").bytes <= 700
    assert there(store, *range(5), namespace="ann") == [3, 4]
    assert there(store, *range(5), namespace="bob") == list(range(5))
    keep(store, 8, namespace="ann", content=Encoded("text/plain", bytes(701)))
    store.flush()
    assert counted["larger_than_cap"] == 1


def test_clearing_a_namespace_leaves_the_others_alone(make_store):
    store = make_store()
    same = picture(5)
    kept(store, 5, namespace="ann", content=same)
    kept(store, 5, namespace="bob", content=same)
    assert store.clear("ann") == 1
    assert there(store, 5, namespace="ann") == []
    assert there(store, 5, namespace="bob") == [5]
    assert store.clear("nobody") == 0
    assert store.clear() == 1
    assert (store.usage().entries, store.usage().bytes) == (0, 0)


def test_eviction_asks_the_index_and_not_every_entry(make_store, folder):
    make_store().close()
    db = sqlite3.connect(index_file(folder))
    try:
        for question in (
            "SELECT id FROM entries WHERE NOT pinned AND id IS NOT 5 ORDER BY score LIMIT 1",
            "SELECT id FROM entries WHERE NOT pinned AND id IS NOT 5 AND namespace = 1 ORDER BY score",
            "SELECT id FROM entries WHERE expires_at IS NOT NULL AND expires_at <= 5 ORDER BY expires_at",
            "SELECT 1 FROM blobs WHERE doomed LIMIT 1",
        ):
            plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {question}"))
            assert "INDEX" in plan, question
            assert "TEMP B-TREE" not in plan, question
    finally:
        db.close()


@pytest.mark.parametrize("score", [lru, scored])
def test_sums_are_right_after_many_changes(make_store, folder, clock, score):
    store = make_store(max_entries=9, max_bytes=2_500, score=score)
    for number in range(120):
        keep(store, number % 17, side=3 + number % 7, ttl_seconds=50 if number % 3 else None)
        if number % 5 == 0:
            store.remove([asked(number % 13).key])
        if number % 11 == 0:
            store.pin([asked(number % 4).key])
            store.unpin([asked((number + 1) % 4).key])
        clock.advance(7)
    store.flush()
    assert store.verify().problems == []
    assert store.usage().bytes == bytes_on_disk(folder) <= 2_500
    assert store.usage().entries <= 9


def test_what_cannot_fit_beside_the_pins_costs_nobody_else(make_store, counted, folder):
    store = make_store(max_bytes=10_000)
    kept(store, 1, side=48)
    store.pin([asked(1).key])
    kept(store, 2, 3, side=16)
    before = there(store, 2, 3)
    kept(store, 4, side=40)
    assert (counted["full"], counted["evicted_by_bytes"]) == (1, 0)
    assert there(store, 1, 2, 3, 4) == [1, *before]
    assert store.usage().bytes == bytes_on_disk(folder)


def test_two_programs_with_different_caps_both_keep_to_the_smaller_one_when_it_has_its_turn(make_store):
    wide, narrow = make_store(max_entries=50), make_store(max_entries=5)
    kept(wide, *range(20))
    assert wide.usage().entries == 20
    kept(narrow, 20)
    while narrow._write(lambda desk: desk.room.trim()):
        pass
    assert narrow.usage().entries == wide.usage().entries == 5
    assert there(wide, *range(21)) == there(narrow, *range(21)) == [16, 17, 18, 19, 20]
