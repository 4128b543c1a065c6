"""Any sequence of keeping, finding, removing, pinning, crashing and clock-setting against a simple model."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zit_ext.results.store import ResultStore
from zit_ext.settings import Settings
from zit_ext.testing import FakeClock

from .crashing import crash
from .making import asked, bytes_on_disk, is_true, keep, lru, picture, search

NUMBERS = st.integers(0, 7)
NAMESPACES = st.sampled_from(("ann", "bob"))
MAX_ENTRIES = 6
MAX_BYTES = 2_600


@dataclass(frozen=True)
class Known:
    """What the model knows of an entry that should be there."""

    version: int
    """Number of the picture it holds."""
    expires_at: float | None
    """By real time, which nobody can set."""
    ttl: float | None
    pinned: bool


class StoreMachine(RuleBasedStateMachine):
    """The store may forget what the caps take, and nothing else; it never lies."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="zit-machine-"))
        self.wall = FakeClock()
        self.steady = FakeClock(1000.0)
        self.counted: Counter[str] = Counter()
        self.known: dict[tuple[str, int], Known] = {}
        self.order: list[tuple[str, int]] = []
        """From the one that was used longest ago to the newest."""
        self.store: ResultStore | None = None

    @initialize(durability=st.sampled_from(("off", "normal", "full")), memory=st.sampled_from((0, 1, 20_000)))
    def start(self, durability, memory):
        self.settings = Settings(
            cache_dir=self.folder / "cache",
            max_entries=MAX_ENTRIES,
            max_bytes=MAX_BYTES,
            memory_bytes=memory,
            durability=durability,
            ttl_seconds=1000.0,
        )
        self.open()

    def open(self) -> None:
        self.store = ResultStore(
            self.settings,
            score=lru,
            clock=self.wall,
            steady=self.steady,
            count=lambda name: self.counted.update([name]),
        )
        self.store.open()

    # What is done to it

    @rule(
        number=NUMBERS,
        namespace=NAMESPACES,
        version=st.integers(100, 103),
        side=st.integers(4, 9),
        ttl=st.sampled_from((None, 0, 300, 5000)),
    )
    def keep(self, number, namespace, version, side, ttl):
        before = Counter(self.counted)
        keep(self.store, number, namespace=namespace, content=picture(version, side), ttl_seconds=ttl)
        self.store.flush()
        self.sync_order()
        key = (namespace, number)
        old = self.known.get(key)
        if (self.counted - before)["full"]:
            return  # nothing but pins
        lives = 1000.0 if ttl is None else (ttl or None)
        pinned = old is not None and old.pinned
        expires = None if lives is None or pinned else self.steady.now + lives
        self.known[key] = Known(version, expires, lives, pinned)
        self.use(key)
        self.forget_evicted(before, key)

    @rule(number=NUMBERS, namespace=NAMESPACES)
    def find(self, number, namespace):
        key = (namespace, number)
        found = self.store.find(asked(number, namespace=namespace))
        known = self.known.get(key)
        if found is None:
            assert known is None or self.is_stale(known), "a fresh entry was lost"
        else:
            assert known is not None, "what was removed came back"
            assert not self.is_stale(known), "a stale entry was served"
            is_true(found, known.version)
            self.use(key)

    @rule(number=NUMBERS, namespace=NAMESPACES)
    def remove(self, number, namespace):
        key = (namespace, number)
        removed = self.store.remove([asked(number, namespace=namespace).key])
        known = self.known.pop(key, None)
        if known is not None and not self.is_stale(known):
            assert removed == 1

    @rule(number=NUMBERS, namespace=NAMESPACES)
    def pin(self, number, namespace):
        key = (namespace, number)
        pinned = self.store.pin([asked(number, namespace=namespace).key])
        known = self.known.get(key)
        assert pinned == int(known is not None and not self.is_stale(known))
        if pinned:
            self.known[key] = replace(known, pinned=True, expires_at=None)

    @rule(number=NUMBERS, namespace=NAMESPACES)
    def unpin(self, number, namespace):
        key = (namespace, number)
        unpinned = self.store.unpin([asked(number, namespace=namespace).key])
        known = self.known.get(key)
        assert unpinned == int(known is not None and known.pinned)
        if unpinned:
            expires = None if known.ttl is None else self.steady.now + known.ttl
            self.known[key] = replace(known, pinned=False, expires_at=expires)

    @rule(namespace=st.sampled_from(("ann", "bob", None)))
    def clear(self, namespace):
        self.store.clear(namespace)
        self.known = {key: known for key, known in self.known.items() if namespace not in (None, key[0])}

    @rule()
    def prune(self):
        self.store.prune()
        self.forget_stale()

    @rule()
    def sweep(self):
        search(self.store)

    @rule(seconds=st.sampled_from((1, 250, 999, 1000, 6000)))
    def time_passes(self, seconds):
        self.wall.advance(seconds)
        self.steady.advance(seconds)
        if seconds >= 3600:
            self.store.prune()
            self.forget_stale()

    @rule(seconds=st.sampled_from((-100_000, -500)))
    def the_clock_is_set_back(self, seconds):
        self.wall.advance(seconds)

    @rule()
    def the_clock_leaps_and_comes_back(self):
        self.store.usage()
        self.wall.advance(100_000)
        for key, known in self.known.items():
            if self.store.find(asked(key[1], namespace=key[0])) is not None:
                assert not self.is_stale(known), "a stale entry was served"
                self.use(key)
        self.sweep()
        self.wall.advance(-100_000)

    @rule()
    def reopen(self):
        self.store.close()
        self.open()

    @rule()
    def crash_and_reopen(self):
        self.store.flush()
        self.sync_order()
        crash(self.store)
        self.open()

    @precondition(lambda self: self.known)
    @rule(data=st.data(), how=st.sampled_from(("flip", "cut", "zero", "gone", "swap")))
    def damage(self, data, how):
        self.store.flush()
        there = [key for key in self.known if self.entry(key) is not None]
        if not there:
            return
        namespace, number = data.draw(st.sampled_from(sorted(there)))
        digest = self.entry((namespace, number)).blob.digest
        file = self.folder / "cache" / "results" / "blobs" / digest[:2] / digest
        whole = file.read_bytes()
        if how == "flip":
            file.write_bytes(whole[:20] + bytes([whole[20] ^ 4]) + whole[21:])
        elif how == "cut":
            file.write_bytes(whole[:-3])
        elif how == "zero":
            file.write_bytes(bytes(len(whole)))
        elif how == "swap":
            file.write_bytes(b"another picture"[: len(whole)])
        else:
            file.unlink()
        sharing = [key for key in there if self.entry(key).blob.digest == digest]
        for key in sharing:
            found = self.store.find(asked(key[1], namespace=key[0]))
            if found is not None:  # memory had it, verified when it came in
                is_true(found, self.known[key].version)
        self.store.verify(set_aside=True)
        for key in sharing:
            self.known.pop(key)
        assert all(self.entry(key) is None for key in sharing)

    # What is always true

    @invariant()
    def caps_and_sums_are_exact(self):
        if self.store is None:
            return
        self.store.flush()
        usage = self.store.usage()
        assert usage.bytes == bytes_on_disk(self.folder / "cache" / "results") <= MAX_BYTES
        assert usage.entries <= MAX_ENTRIES
        assert self.store.usage("ann").entries + self.store.usage("bob").entries == usage.entries
        report = self.store.verify()
        assert report.problems == []

    def teardown(self):
        if self.store is not None:
            self.store.close()
        shutil.rmtree(self.folder)

    # The model

    def entry(self, key):
        details = self.store.entry(asked(key[1], namespace=key[0]).key)
        return None if details is None else details.entry

    def is_stale(self, known):
        return known.expires_at is not None and self.steady.now >= known.expires_at

    def use(self, key):
        if key in self.order:
            self.order.remove(key)
        self.order.append(key)

    def sync_order(self):
        self.order = [key for key in self.order if key in self.known]

    def forget_stale(self):
        self.known = {key: known for key, known in self.known.items() if not self.is_stale(known)}

    def forget_evicted(self, before, newest):
        """Take out of the model what the caps took, and see that it was right to take just that."""
        evicted = self.counted - before
        gone = [key for key in self.known if self.entry(key) is None]
        assert newest not in gone
        assert not any(self.known[key].pinned for key in gone), "a pinned entry was evicted"
        by_caps = [key for key in gone if not self.is_stale(self.known[key])]
        if by_caps:
            assert evicted["evicted_by_entries"] + evicted["evicted_by_bytes"] >= len(by_caps)
            free = [key for key in self.order if key in self.known and not self.known[key].pinned]
            first = [key for key in free if not self.is_stale(self.known[key])][: len(by_caps)]
            assert set(by_caps) == set(first), "others went than those that were unused longest"
        for key in gone:
            del self.known[key]


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
