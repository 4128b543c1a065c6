"""What people do with a store: list, search, explain, remove, check."""

from __future__ import annotations

import itertools

import pytest

from zit_ext.errors import RequestError
from zit_ext.results.store import Selection

from .making import asked, keep, kept, picture, there


def numbers(entries):
    return [int(entry.prompt.rsplit(" ", 1)[1]) for entry in entries]


@pytest.fixture
def filled(make_store, clock):
    store = make_store()
    for number in range(6):
        kept(
            store,
            number,
            side=4 + number,
            cost=float(number % 3),
            model="turbo" if number % 2 else "base",
            namespace="ann" if number < 4 else "bob",
            ttl_seconds=1000 if number == 5 else 0,
        )
        clock.advance(10)
    return store


def select(store, **wanted):
    return numbers(store.entries(Selection(**wanted)))


def test_lists_show_the_newest_first_page_by_page(filled):
    assert numbers(filled.entries()) == [5, 4, 3, 2, 1, 0]
    assert select(filled, limit=2) == [5, 4]
    assert select(filled, limit=2, offset=4) == [1, 0]
    assert select(filled, limit=0) == [5, 4, 3, 2, 1, 0]


def test_lists_can_be_narrowed_in_every_way(filled, clock):
    assert select(filled, prompt="NUMBER 3") == [3]
    assert select(filled, prompt="%") == []
    assert select(filled, model="tur") == [5, 3, 1]
    assert select(filled, namespace="ann") == [3, 2, 1, 0]
    assert select(filled, created_after=clock.now - 30) == [5, 4, 3]
    assert select(filled, created_before=clock.now - 30) == [2, 1, 0]
    sizes = [entry.blob.size for entry in filled.entries(Selection(order="smallest"))]
    assert select(filled, min_bytes=sizes[4]) == [5, 4]
    assert select(filled, max_bytes=sizes[1]) == [1, 0]
    filled.pin([asked(2, namespace="ann").key])
    assert select(filled, pinned=True) == [2]
    clock.advance(2000)
    assert select(filled, stale=True) == [5]
    assert select(filled, stale=False, namespace="bob") == [4]
    assert select(filled, model="base", namespace="ann", prompt="lighthouse", limit=1) == [2]


def test_pages_of_a_search_say_how_many_there_are_and_see_every_change(filled, clock):
    def page(**wanted):
        entries, total = filled.page(Selection(prompt="number", limit=2, **wanted))
        return numbers(entries), total

    assert page() == ([5, 4], 6)
    assert page(offset=4) == ([1, 0], 6)
    assert page(offset=6) == ([], 6)
    assert page(order="oldest") == ([0, 1], 6)
    assert page(namespace="ann", offset=2) == ([1, 0], 4)
    kept(filled, 6, namespace="bob")
    assert page() == ([6, 5], 7)
    filled.remove([asked(4, namespace="bob").key])
    assert page(offset=2) == ([3, 2], 6)
    assert page(pinned=True) == ([], 0)
    filled.pin([asked(2, namespace="ann").key])
    assert page(pinned=True) == ([2], 1)
    filled.find(asked(0, namespace="ann"))
    filled.flush()
    assert page(order="used")[0][0] == 0
    assert page(stale=True) == ([], 0)
    clock.advance(2000)
    assert page(stale=True) == ([5], 1)
    whole = Selection(limit=2, offset=1)
    assert filled.page(whole) == (filled.entries(whole), 6)
    with pytest.raises(RequestError, match="newest"):
        filled.page(Selection(prompt="a", order="e.id; DROP TABLE entries"))


def test_a_page_of_a_search_that_was_made_already_looks_at_no_prompt_again(filled):
    looked = []

    def page(offset):
        with filled._readers.lend() as db:
            db.set_trace_callback(lambda statement: looked.append("LIKE" in statement))
        assert len(filled.page(Selection(prompt="number", limit=2, offset=offset))[0]) == 2
        assert looked
        return any(looked)

    assert page(0)
    looked.clear()
    assert not page(2)


@pytest.mark.parametrize(
    ("order", "first"),
    [("newest", 5), ("oldest", 0), ("largest", 5), ("smallest", 0), ("cost", 5), ("used", 1), ("uses", 1)],
)
def test_lists_come_in_many_orders(filled, order, first):
    filled.find(asked(1, namespace="ann"))
    filled.flush()
    assert select(filled, order=order)[0] == first


def test_an_unknown_order_is_the_callers_mistake(filled):
    with pytest.raises(RequestError, match="newest"):
        filled.entries(Selection(order="e.id; DROP TABLE entries"))


def test_an_entry_is_found_by_any_beginning_that_is_unique(filled):
    key = asked(3, namespace="ann").key
    details = filled.entry(key)
    assert details.entry.key == key
    assert details.fields == asked(3, namespace="ann").fields
    assert filled.entry(key[:20]).entry.key == key
    assert filled.entry(key[:21].upper()).entry.key == key
    assert filled.entry("0" * 64) is None
    assert filled.keys_like(key[:20]) == [key]


def test_a_beginning_that_is_not_unique_or_no_key_is_the_callers_mistake(make_store):
    store = make_store()
    kept(store, *range(20))
    keys = sorted(asked(number).key for number in range(20))
    shared = next(one[0] for one, other in itertools.pairwise(keys) if one[0] == other[0])
    with pytest.raises(RequestError, match="several begin so"):
        store.entry(shared)
    for nonsense in ("", "xyz", "a" * 65, "../../etc", "%"):
        with pytest.raises(RequestError):
            store.entry(nonsense)


def test_the_nearest_entry_differs_in_the_fewest_fields(make_store):
    store = make_store()
    for number, more in ((1, {}), (2, {"steps": 4}), (3, {"steps": 4, "width": 128})):
        kept(store, number, fingerprint=asked(1, **more) if more else asked(1))
    wanted = {**asked(1).fields, "steps": 4, "width": 512}
    nearest = store.nearest(wanted, limit=2)
    assert [each.fields["steps"] for each in nearest] == [4, 4]
    assert nearest[0].fields["width"] in (64, 128)
    assert store.nearest({**wanted, "namespace": "nobody"}) == []


def test_the_nearest_entry_is_found_among_silent_ones_too(make_store):
    store = make_store(store_prompts=False)
    kept(store, 1, 2)
    nearest = store.nearest({**asked(1).fields, "steps": 9}, limit=1)
    assert nearest[0].entry.key == asked(1).key


def test_removing_counts_what_was_there(filled):
    key = asked(1, namespace="ann").key
    assert filled.remove([key, "0" * 64]) == 1
    assert filled.remove([key]) == 0
    assert there(filled, 0, 1, namespace="ann") == [0]


def test_removing_comes_after_what_was_kept_before(make_store):
    store = make_store()
    keep(store, 1)
    store.remove([asked(1).key])
    assert there(store, 1) == []


def test_pruning_says_what_went(make_store, clock):
    store = make_store()
    kept(store, 1, 2, ttl_seconds=10)
    kept(store, 3)
    clock.advance(11)
    report = store.prune()
    assert (report.stale, report.evicted, report.orphans) == (2, 0, 0)
    assert report.bytes > 0
    assert there(store, 1, 2, 3) == [3]


def test_usage_tells_everything(make_store, clock):
    store = make_store(max_entries=10, max_bytes=50_000)
    same = picture(9)
    kept(store, 1, content=same, ttl_seconds=10)
    kept(store, 2, content=same, pinned=True)
    clock.advance(11)
    usage = store.usage()
    assert (usage.entries, usage.pinned, usage.stale) == (2, 1, 1)
    assert (usage.max_entries, usage.max_bytes) == (10, 50_000)
    assert usage.logical_bytes == 2 * usage.bytes == 2 * usage.pinned_bytes
    assert (usage.waiting, usage.quarantined, usage.orphan_bytes, usage.reserved_bytes) == (0, 0, 0, 0)
    assert store.usage("nobody").entries == 0


def test_verify_reports_its_progress(filled):
    seen = []
    report = filled.verify(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]
    assert (report.entries, report.blobs, report.is_whole) == (6, 6, True)
