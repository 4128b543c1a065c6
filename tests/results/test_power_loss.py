"""Power cuts, replayed: after each step the machine stops, and what was not synced may be lost.

A `Recorder` stands in the place of the disk and writes down every change of a file; the commits of the
index are written down beside them. For each instant the folder is built as a power cut would leave it,
a store is opened on it, and everything must be true.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from zit_ext.results import schema
from zit_ext.results.disk import Disk
from zit_ext.results.layout import Layout
from zit_ext.results.store import ResultStore
from zit_ext.settings import Settings
from zit_ext.testing import FakeClock

from .making import asked, bytes_on_disk, index_file, is_true, keep, lru


@dataclass
class Recorder(Disk):
    """The real disk, and a list of everything that happened to it and to the index, in order."""

    root: Path
    events: list[tuple[Any, ...]] = field(default_factory=list)

    def make_folder(self, path):
        super().make_folder(path)
        self.events.append(("folder", self._name(path)))

    def write_new(self, path, data, *, sync):
        super().write_new(path, data, sync=sync)
        self.events.append(("write", self._name(path), data, sync))

    def rename(self, source, target):
        super().rename(source, target)
        self.events.append(("rename", self._name(source), self._name(target)))

    def sync_folder(self, path):
        super().sync_folder(path)
        self.events.append(("sync", self._name(path)))

    def remove(self, path):
        super().remove(path)
        self.events.append(("remove", self._name(path)))

    def commits(self, store: ResultStore) -> None:
        """Write down the index as it is before each transaction from now on."""

        def watch(desk):
            desk.db.set_trace_callback(lambda statement: statement.startswith("BEGIN") and self.look())

        store._write(watch)

    def look(self) -> None:
        """Write down what is committed."""
        reader, copy = sqlite3.connect(index_file(self.root)), sqlite3.connect(":memory:")
        try:
            reader.backup(copy)
            state = tuple(copy.iterdump())
        finally:
            reader.close()
            copy.close()
        if state != next((event[1] for event in reversed(self.events) if event[0] == "index"), None):
            self.events.append(("index", state))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else ".."


class Survivors:
    """What is on the disk after the power came back."""

    def __init__(self, *, names_survive: bool, data_survives: bool) -> None:
        self.names_survive = names_survive
        self.data_survives = data_survives
        self.now: dict[str, bytes] = {}
        """As running programs see the files."""
        self.lasting: dict[str, bytes] = {}
        """As they are after a cut."""

    def happen(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == "write":
            _, name, data, synced = event
            self.now[name] = data if synced or self.data_survives else bytes(len(data))
        elif kind == "rename" and event[1] in self.now:
            self.now[event[2]] = self.now.pop(event[1])
        elif kind == "remove":
            self.now.pop(event[1], None)
        elif kind == "sync":
            folder = event[1]
            inside = {name for name in self.lasting | self.now if name.rpartition("/")[0] == folder}
            for name in inside:
                self.lasting.pop(name, None)
                if name in self.now:
                    self.lasting[name] = self.now[name]
        if self.names_survive:
            self.lasting = dict(self.now)


def build(folder: Path, files: dict[str, bytes], index: tuple[str, ...] | None) -> None:
    """Make the folder as the cut left it."""
    layout = Layout(folder)
    for each in layout.folders:
        each.mkdir(parents=True, exist_ok=True)
    if index is not None:
        db = sqlite3.connect(layout.new_index(1))
        try:
            db.executescript("\n".join(index))
            db.execute(f"PRAGMA user_version = {schema.VERSION}")
            db.execute("UPDATE totals SET boot = 'before the cut'")
            db.commit()
        finally:
            db.close()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def settings_for(folder: Path, durability: str) -> Settings:
    return Settings(
        cache_dir=folder, max_entries=3, max_bytes=900, memory_bytes=0, durability=durability, ttl_seconds=0
    )


def record(folder: Path, durability: str) -> list[tuple[Any, ...]]:
    """Let a store do everything that changes files, and return what happened."""
    recorder = Recorder(folder / "results")
    store = ResultStore(settings_for(folder, durability), score=lru, clock=FakeClock(), disk=recorder)
    store.open()
    recorder.commits(store)

    def acknowledge(kind, number):
        store.flush()
        recorder.look()
        recorder.events.append((kind, number))

    for number in (1, 2, 3, 4, 5, 4):  # evicts 1 and 2, and keeps 4 twice
        keep(store, number)
        acknowledge("kept", number)
    store.remove([asked(3).key])
    acknowledge("removed", 3)
    for number in (6, 7):
        keep(store, number)
        acknowledge("kept", number)
    store._write(lambda desk: desk.db.set_trace_callback(None))
    store.close()
    return recorder.events


def check(folder: Path, durability: str, must_be_there: set[int]) -> None:
    """Open the store that the cut left, and see that everything is true."""
    counted: Counter[str] = Counter()
    store = ResultStore(
        settings_for(folder, durability), score=lru, clock=FakeClock(), count=lambda n: counted.update([n])
    )
    store.open()
    try:
        assert bytes_on_disk(folder / "results") <= store.usage().bytes <= 900
        found = set()
        for number in range(1, 8):
            answer = store.find(asked(number))
            if answer is not None:
                is_true(answer, number)
                found.add(number)
        assert found >= must_be_there, f"{must_be_there - found} were promised to last"
        store.flush()
        store.prune()
        assert store.verify().problems == []
        assert store.usage().bytes == bytes_on_disk(folder / "results") <= 900
        keep(store, 9)
        store.flush()
        answer = store.find(asked(9))
        assert answer is not None
        is_true(answer, 9)
    finally:
        store.close()


CUTS = [
    pytest.param("full", {"names_survive": False, "data_survives": False}, False, id="full, nothing"),
    pytest.param("full", {"names_survive": True, "data_survives": False}, False, id="full, names"),
    pytest.param("normal", {"names_survive": False, "data_survives": False}, True, id="normal, nothing"),
    pytest.param("normal", {"names_survive": True, "data_survives": True}, True, id="normal, old index"),
    pytest.param("normal", {"names_survive": True, "data_survives": True}, False, id="normal, all"),
    pytest.param("off", {"names_survive": True, "data_survives": False}, False, id="off, torn files"),
    pytest.param("off", {"names_survive": True, "data_survives": False}, True, id="off, all torn"),
    pytest.param("off", {"names_survive": False, "data_survives": False}, False, id="off, lost files"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("durability", "survival", "index_is_old"), CUTS)
def test_a_power_cut_at_any_step_leaves_a_store_that_tells_the_truth(
    tmp_path, durability, survival, index_is_old
):
    events = record(tmp_path / "recorded", durability)
    kinds = Counter(event[0] for event in events)
    assert min(kinds[kind] for kind in ("write", "rename", "remove", "index")) >= 4
    assert (kinds["sync"] > 0) == (durability == "full")
    survivors = Survivors(**survival)
    indexes: list[tuple[str, ...] | None] = [None]
    promised: set[int] = set()
    order: list[int] = []
    seen: list[tuple[Any, ...]] = []
    for event in events:
        survivors.happen(event)
        if event[0] == "index":
            indexes.append(event[1])
        elif event[0] == "kept":
            order = [*(number for number in order if number != event[1]), event[1]][-3:]
        elif event[0] == "removed":
            order.remove(event[1])
        # The oldest of three may be on its way out just now: that one is promised to nobody.
        promised = set(order if event[0] in ("kept", "removed") else order[-2:])
        index = indexes[max(0, len(indexes) - 3)] if index_is_old else indexes[-1]
        lasts = durability == "full" and not index_is_old
        state = (dict(survivors.lasting), index, promised if lasts else set())
        if state in seen:
            continue
        seen.append(state)
        cut = tmp_path / "cut"
        build(cut / "results", state[0], index)
        check(cut, durability, state[2])
        shutil.rmtree(cut)
    assert len(seen) > 15
