"""What the processes of the tests do: `python -m results.program COMMAND FOLDER ...` prints one JSON line."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from zit_ext.errors import StoreError
from zit_ext.records import Encoded
from zit_ext.results.store import Claim, Found, ResultStore
from zit_ext.settings import Settings

from .making import asked, is_true, keep, lru, picture

COUNTED: Counter[str] = Counter()


def open_store(folder: str, **changes: object) -> ResultStore:
    settings = Settings(cache_dir=Path(folder), memory_bytes=100_000, write_queue=1000, **changes)  # type: ignore[arg-type]
    store = ResultStore(settings, score=lru, count=lambda name: COUNTED.update([name]))
    store.open()
    return store


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def write(folder: str, first: str, count: str, max_entries: str, max_bytes: str) -> None:
    """Keep so many results, and find some of them now and then."""
    store = open_store(folder, max_entries=int(max_entries), max_bytes=int(max_bytes))
    for number in range(int(first), int(first) + int(count)):
        keep(store, number, side=6 + number % 5)
        found = store.find(asked(number - 3))
        if found is not None:
            is_true(found, number - 3)
        store.flush()
    store.close()
    say(counted=COUNTED)


def hammer(folder: str, first: str) -> None:
    """Keep, find and remove until somebody kills this process."""
    store = open_store(folder, max_entries=15, max_bytes=6_000)
    say(ready=True)
    number = int(first)
    while True:
        keep(store, number % 40, side=6 + number % 40 % 5)
        found = store.find(asked((number - 7) % 40))
        if found is not None:
            is_true(found, (number - 7) % 40)
        if number % 5 == 0:
            store.remove([asked((number - 2) % 40).key])
        if number % 3 == 0:
            store.flush()
        number += 1


def ask(folder: str, callers: str, number: str, seconds: str) -> None:
    """Let so many threads want one picture, as engines do; say how many rendered it."""
    store = open_store(folder, claim_seconds=30.0)
    say(ready=True)
    sys.stdin.readline()
    rendered: list[int] = []

    def want() -> None:
        known = asked(int(number))
        if store.find(known) is not None:
            return
        while True:
            taken = store.try_claim(known)
            if isinstance(taken, Found):
                is_true(taken, int(number))
                return
            if isinstance(taken, Claim):
                break
            time.sleep(0.02)
        time.sleep(float(seconds))
        rendered.append(1)
        keep(store, int(number))
        store.release(taken)

    threads = [threading.Thread(target=want) for _ in range(int(callers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    say(rendered=len(rendered), counted=COUNTED)


def hold(folder: str, number: str) -> None:
    """Take the claim, half-write the blob, and never come back."""
    store = open_store(folder)
    claim = store.try_claim(asked(int(number)))
    store._write(lambda desk: desk.room.reserve("ab" * 32, 1000, "default"))
    (Path(folder) / "results" / "incoming" / f"{store._owner.token}-77").write_bytes(bytes(500))
    say(ready=isinstance(claim, Claim))
    sys.stdin.readline()


def contend(folder: str, rounds: str) -> None:
    """Render something that is never kept, so many times, in turn with the others."""
    store = open_store(folder)
    say(ready=True)
    sys.stdin.readline()
    started = time.monotonic()
    waits = []
    for _ in range(int(rounds)):
        asked_at = time.monotonic()
        while not isinstance(taken := store.try_claim(asked(1)), Claim):
            time.sleep(0.005)
        waits.append(time.monotonic() - asked_at)
        time.sleep(0.005)
        store.release(taken)
        store.flush()
    store.close()
    say(seconds=time.monotonic() - started, longest=max(waits))


def fork(folder: str) -> None:
    """Fork off the open store, see what the child is told at each door, and that it holds no lock of ours."""
    store = open_store(folder)
    keep(store, 1)
    store.flush()
    child = os.fork()
    if child == 0:
        told = []
        for ask in (
            lambda: store.find(asked(2)),
            lambda: keep(store, 2),
            store.flush,
            store.usage,
            lambda: store.try_claim(asked(2)),
        ):
            try:
                ask()
            except StoreError as error:
                told.append("forked" in str(error))
        store.close()
        own = open_store(folder)
        found = own.find(asked(1)) is not None
        own.close()
        os._exit(7 if told == [True] * 5 and found else 8)
    _, status = os.waitpid(child, 0)
    found = store.find(asked(1)) is not None
    keep(store, 3)
    store.close()
    say(child=os.waitstatus_to_exitcode(status), found=found)


def orphan(folder: str) -> None:
    """Take a claim, fork a child that lives on, and die."""
    store = open_store(folder)
    claim = store.try_claim(asked(7))
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    say(ready=isinstance(claim, Claim), child=child)
    os.kill(os.getpid(), 9)


def large(folder: str, count: str) -> None:
    """Keep large results without a pause, so that a kill falls into the middle of a write."""
    store = open_store(folder, max_bytes=30_000_000, max_entries=0)
    say(ready=True)
    for number in range(int(count)):
        data = picture(number, 16).data * 400
        store.keep(
            asked(number), Encoded("text/plain", data), namespace="default", cost=1.0, ttl_seconds=None
        )
        store.flush()
    say(done=True)


if __name__ == "__main__":
    {each.__name__: each for each in (write, hammer, ask, hold, contend, fork, orphan, large)}[sys.argv[1]](
        *sys.argv[2:]
    )
