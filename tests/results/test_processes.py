"""One folder, many processes: exact caps, one render, and nobody's death is anybody else's trouble."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zit_ext.results.store import Claim

from .making import asked, bytes_on_disk, files_in, keep, search, there

ROOT = Path(__file__).parents[2]


class Started:
    """Programs that were started, none of which outlives its test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []

    def start(self, command: str, *options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "results.program", command, self._folder, *map(str, options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        self._running.append(process)
        return process

    def end(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def clock():
    """The programs look at the real clock, and so does this test's store."""
    return time.time


@pytest.fixture
def started(tmp_path) -> Iterator[Started]:
    programs = Started(tmp_path / "cache")
    yield programs
    programs.end()


def told(process: subprocess.Popen[str]) -> Any:
    """Return the next thing that the program says."""
    line = process.stdout.readline()
    assert line, f"the program ended with {process.wait()} and said nothing"
    return json.loads(line)


def go(processes) -> None:
    """Let programs that are ready begin at about the same moment."""
    for process in processes:
        assert told(process)["ready"]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def files_with_sizes(folder: Path) -> dict[str, int]:
    found = {}
    for part in ("blobs", "incoming", "quarantine"):
        for name in files_in(folder / part):
            with contextlib.suppress(FileNotFoundError):
                found[f"{part}/{name}"] = (folder / part / name).stat().st_size
    return found


@pytest.mark.slow
def test_eight_writers_keep_the_caps_exactly(make_store, started, folder):
    store = make_store(max_entries=12, max_bytes=3_000)
    writers = [started.start("write", first * 100, 40, 12, 3_000) for first in range(8)]
    most_entries = most_bytes = most_on_disk = looks = 0
    while any(writer.poll() is None for writer in writers):
        usage = store.usage()
        most_entries, most_bytes = max(most_entries, usage.entries), max(most_bytes, usage.bytes)
        there_now = files_with_sizes(folder)
        if there_now == files_with_sizes(folder):  # else something moved while we looked
            most_on_disk = max(most_on_disk, sum(there_now.values()))
            looks += 1
    reports = [finish(writer) for writer in writers]
    assert looks > 5
    assert most_entries <= 12
    assert most_bytes <= 3_000
    assert most_on_disk <= 3_000
    evicted = sum(report["counted"].get("evicted_by_entries", 0) for report in reports)
    evicted += sum(report["counted"].get("evicted_by_bytes", 0) for report in reports)
    assert evicted == 8 * 40 - store.usage().entries
    assert not any(report["counted"].get("dropped") for report in reports)
    assert store.verify().problems == []
    assert store.usage().bytes == bytes_on_disk(folder)
    assert files_in(folder / "incoming") == []


def test_of_64_callers_in_4_processes_one_renders(started):
    processes = [started.start("ask", 16, 7, 0.3) for _ in range(4)]
    go(processes)
    assert sum(finish(process)["rendered"] for process in processes) == 1


def test_a_killed_claimer_keeps_nobody_waiting_and_leaves_nothing_behind(make_store, started, folder):
    holder = started.start("hold", 7)
    assert told(holder)["ready"]
    store = make_store()
    assert not isinstance(store.try_claim(asked(7)), Claim)
    waiting = started.start("ask", 4, 7, 0.0)
    go([waiting])
    assert waiting.poll() is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert finish(waiting)["rendered"] == 1
    assert store.usage().reserved_bytes in (0, 1000)
    store.close()
    store = make_store()
    assert store.usage().reserved_bytes == 0
    assert files_in(folder / "incoming") == []
    assert files_in(folder / "owners") == [store._owner.token]
    assert store.verify().problems == []


def test_everybody_gets_a_turn(started):
    processes = [started.start("contend", 8) for _ in range(4)]
    go(processes)
    reports = [finish(process) for process in processes]
    assert all(report["longest"] < 30 for report in reports)


def test_a_fork_of_an_open_store_is_told_to_open_its_own(started):
    assert finish(started.start("fork")) == {"child": 7, "found": True}


def heal_and_check(store, folder) -> None:
    """See that a store is right after a crash: nothing wrong served, nothing uncounted."""
    there(store, *range(40))
    store.flush()
    store.prune()
    assert store.verify().problems == []
    assert store.usage().bytes == bytes_on_disk(folder)
    assert store.usage().reserved_bytes == 0
    assert files_in(folder / "incoming") == []


@pytest.mark.slow
def test_writers_killed_at_random_instants_leave_a_store_that_tells_the_truth(make_store, started, folder):
    generator = random.Random(11)
    for _ in range(6):
        writers = [started.start("hammer", generator.randrange(1000)) for _ in range(3)]
        for writer in writers:
            assert told(writer)["ready"]
        time.sleep(generator.uniform(0.05, 0.5))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.wait()
        store = make_store(max_entries=15, max_bytes=6_000)
        usage = store.usage()
        assert usage.entries <= 15
        assert usage.bytes <= 6_000
        heal_and_check(store, folder)
        store.close()


@pytest.mark.slow
def test_a_writer_killed_in_the_middle_of_large_files_leaves_no_byte_uncounted(make_store, started, folder):
    generator = random.Random(12)
    for _ in range(6):
        writer = started.start("large", 500)
        assert told(writer)["ready"]
        time.sleep(generator.uniform(0.02, 0.3))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        store = make_store(max_bytes=30_000_000)
        assert files_in(folder / "incoming") == []
        assert store.usage().bytes == bytes_on_disk(folder) <= 30_000_000
        assert store.verify().problems == []
        store.close()


def test_the_living_clean_up_after_the_dead(make_store, started, folder):
    store = make_store()
    keep(store, 1)
    holder = started.start("hold", 7)
    assert told(holder)["ready"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    search(store)
    assert store.usage().reserved_bytes == 0
    assert files_in(folder / "incoming") == []
    assert files_in(folder / "owners") == [store._owner.token]
    assert there(store, 1) == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_lives_on_does_not_hold_its_dead_parents_claims(make_store, started):
    parent = started.start("orphan")
    said = told(parent)
    try:
        parent.wait(30)
        assert isinstance(make_store().try_claim(asked(7)), Claim)
    finally:
        os.kill(said["child"], signal.SIGKILL)
