"""Hurts the result store on purpose, and counts wrong bytes and lost bytes.

`python -m benchmarks.torture [--kills N] [--faults N] [--json FILE]`

Three phases: writers killed at random instants; blobs, rows and index damaged at random; a full disk. After
each, all answers are compared with the truth, and bytes on disk with those counted. Exit code 1: not equal.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from zit_ext import Settings
from zit_ext.codecs import Pixels, decode_png
from zit_ext.default_plugins.eviction import POLICIES
from zit_ext.errors import StoreError
from zit_ext.fingerprint import fingerprint
from zit_ext.records import Entry, Fingerprint
from zit_ext.results.store import ResultStore
from zit_ext.sqlite_files import Connection

from .report import machine, versions

NUMBERS = 400
MAX_ENTRIES = 300
MAX_BYTES = 4_000_000
WRITERS = 3
LIVES = (0.03, 0.4)
"""Seconds that a writer lives after it has opened the store, on average."""
MEMORY = (0, 1, 100_000)
"""Bytes of the memory tier: nothing, rows alone, some pictures."""
ROUND = 20
"""Faults between two looks at everything."""
REFUSED = 60
"""Results that a full disk refuses before we believe that it is full."""


@dataclass(slots=True)
class Figures:
    """What was done to the store, and what became of it."""

    kills: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    answers_checked: int = 0
    wrong_answers: int = 0
    bytes_uncounted: int = 0
    over_the_cap: int = 0
    slowest_open_seconds: float = 0.0
    full_disk: str = "not run"
    seconds: float = 0.0
    machine: str = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=versions)

    @property
    def failed(self) -> bool:
        return bool(self.wrong_answers or self.bytes_uncounted or self.over_the_cap)


def settings_for(folder: Path, **changes: object) -> Settings:
    """Return the settings of the tortured store: small caps, so that eviction never rests."""
    told = {"cache_dir": folder, "max_entries": MAX_ENTRIES, "max_bytes": MAX_BYTES, "memory_bytes": 0}
    return Settings(**{**told, **changes})  # type: ignore[arg-type]


def open_store(folder: Path, **changes: object) -> ResultStore:
    """Return an open store that evicts the least recently used."""

    def score(policy: str, entry: Entry, floor: float) -> float:
        return POLICIES["lru"](entry, floor)

    store = ResultStore(settings_for(folder, **changes), score=score)
    store.open()
    return store


def picture(number: int) -> Pixels:
    """Return the number's picture; its size depends on the number, too."""
    side = 16 + number % 64
    return Pixels(side, side, 3, hashlib.shake_256(str(number).encode()).digest(side * side * 3))


def asked(number: int) -> Fingerprint:
    """Return the fingerprint of the number's request."""
    return fingerprint({"prompt": f"torture {number}", "seed": number, "namespace": "default"})


def keep(store: ResultStore, number: int) -> None:
    """Offer the number's picture."""
    store.keep(
        asked(number), picture(number), namespace="default", cost=1.0, ttl_seconds=None, prompt="torture"
    )


def is_wrong(store: ResultStore, number: int) -> bool | None:
    """Tell whether the answer to this number is not the truth; None where there is no answer."""
    try:
        found = store.find(asked(number))
    except StoreError:
        return None
    if found is None:
        return None
    return decode_png(found.content.data) != picture(number)


def _ask(store: ResultStore, numbers: int, figures: Figures) -> list[int]:
    """Hold every answer against the truth; return the numbers that have none."""
    unanswered = []
    for number in range(numbers):
        wrong = is_wrong(store, number)
        if wrong is None:
            unanswered.append(number)
        else:
            figures.answers_checked += 1
            figures.wrong_answers += wrong
    return unanswered


# Phase one: kills


def writer(folder: Path, seed: int) -> None:
    """Write and read without end, until somebody kills this process."""
    chance = random.Random(seed)
    store = open_store(folder, memory_bytes=chance.choice(MEMORY))
    print("ready", flush=True)
    while True:
        number = chance.randrange(NUMBERS)
        try:
            if chance.random() < 0.6:
                keep(store, number)
            elif is_wrong(store, number):
                print(f"wrong {number}", flush=True)
            if chance.random() < 0.05:
                store.remove([asked(number).key])
            if chance.random() < 0.2:
                store.flush()
        except StoreError:
            continue


def kill_writers(folder: Path, kills: int, figures: Figures, chance: random.Random) -> None:
    """Keep some writers busy in one folder, and kill one after the other at random instants."""
    children = [_start_writer(folder, chance) for _ in range(WRITERS)]
    try:
        for number in range(kills):
            victim = children[number % WRITERS]
            if victim.stdout is not None:
                victim.stdout.readline()
            # Some die while they open the store or begin to write, the others at their busiest.
            time.sleep(chance.expovariate(1 / chance.choice(LIVES)))
            victim.kill()
            output = victim.communicate()[0]
            figures.wrong_answers += output.count("wrong")
            figures.kills += 1
            children[number % WRITERS] = _start_writer(folder, chance)
            if number % 50 == 49:
                _check(folder, figures)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    _check(folder, figures)


def _start_writer(folder: Path, chance: random.Random) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.torture",
        "--writer",
        str(folder),
        str(chance.getrandbits(32)),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _check(folder: Path, figures: Figures) -> None:
    """Open the store as the next user would, and hold everything against the truth."""
    started = time.perf_counter()
    store = open_store(folder)
    figures.slowest_open_seconds = max(figures.slowest_open_seconds, time.perf_counter() - started)
    try:
        _ask(store, NUMBERS, figures)
        usage = store.usage()
        figures.over_the_cap += usage.entries > MAX_ENTRIES + 1 or usage.bytes > MAX_BYTES + 20_000
    finally:
        store.close()


def _count_bytes(folder: Path, figures: Figures) -> None:
    """Compare what lies on the disk with what the store counts, when nobody writes."""
    store = open_store(folder)
    try:
        store.prune()
        results = folder / "results"
        files = [
            path for name in ("blobs", "quarantine") for path in (results / name).rglob("*") if path.is_file()
        ]
        on_disk = sum(path.stat().st_size for path in files)
        figures.bytes_uncounted += abs(on_disk - store.usage().bytes)
    finally:
        store.close()


# Phase two: faults

Fault = Callable[[Path, list[Path], random.Random], None]


def _truncate(_folder: Path, blobs: list[Path], chance: random.Random) -> None:
    path = chance.choice(blobs)
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data) or 1)])


def _flip(_folder: Path, blobs: list[Path], chance: random.Random) -> None:
    path = chance.choice(blobs)
    data = bytearray(path.read_bytes() or b"\0")
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _zero(_folder: Path, blobs: list[Path], chance: random.Random) -> None:
    path = chance.choice(blobs)
    path.write_bytes(bytes(path.stat().st_size))


def _empty(_folder: Path, blobs: list[Path], chance: random.Random) -> None:
    chance.choice(blobs).write_bytes(b"")


def _swap(_folder: Path, blobs: list[Path], chance: random.Random) -> None:
    one, other = chance.choice(blobs), chance.choice(blobs)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _delete(_folder: Path, blobs: list[Path], chance: random.Random) -> None:
    chance.choice(blobs).unlink()


def _lengthen(_folder: Path, blobs: list[Path], chance: random.Random) -> None:
    with chance.choice(blobs).open("ab") as file:
        file.write(b"more")


TABLES = ["entries", "blobs", "details"] * 3 + ["totals", "namespaces", "dictionaries", "aside", "claims"]
LIMITS = {"id", "max_bytes", "max_entries", "ttl_seconds"}
"""What stays: a limit that is changed is another limit, and no damage."""


def _row(folder: Path, _blobs: list[Path], chance: random.Random) -> None:
    """Change one column of one row past what the schema allows, as a bad disk would."""
    db = sqlite3.connect(_index(folder), timeout=30, factory=Connection)
    db.execute("PRAGMA ignore_check_constraints = ON")
    # Keys stay unique, and the index may be malformed already: no harm is harm enough.
    with contextlib.closing(db), contextlib.suppress(sqlite3.Error), db:
        table = chance.choice(TABLES)
        columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})") if name not in LIMITS]
        rowids = [row for (row,) in db.execute(f"SELECT rowid FROM {table}")]
        if rowids:
            value = chance.choice([0, 7, -1, 1 << 62, 1e300, b"\0" * 32, "rubbish", chance.randbytes(32)])
            statement = f"UPDATE {table} SET {chance.choice(columns)} = ? WHERE rowid = ?"
            db.execute(statement, (value, chance.choice(rowids)))


def _page(folder: Path, _blobs: list[Path], chance: random.Random) -> None:
    """Overwrite a piece of the index with rubbish, as a bad disk would."""
    path = _index(folder)
    with path.open("r+b") as file:
        file.seek(chance.randrange(max(1, path.stat().st_size)))
        file.write(chance.randbytes(chance.choice([1, 64, 4096])))


def _index(folder: Path) -> Path:
    return sorted((folder / "results").glob("index-*.sqlite3"))[-1]


FAULTS: dict[str, tuple[Fault, int]] = {
    "truncated": (_truncate, 12),
    "flipped bit": (_flip, 12),
    "zeroed": (_zero, 12),
    "emptied": (_empty, 12),
    "swapped": (_swap, 12),
    "deleted": (_delete, 12),
    "lengthened": (_lengthen, 12),
    "changed row": (_row, 12),
    "damaged index": (_page, 1),
}
"""Each with how often it is chosen."""


def inject(folder: Path, faults: int, figures: Figures, chance: random.Random) -> None:
    """Damage the store again and again, in rounds; between rounds, ask for everything and fill it up."""
    names = [name for name, (_, weight) in FAULTS.items() for _ in range(weight)]
    done = 0
    while done < faults:
        store = open_store(folder, memory_bytes=chance.choice(MEMORY))
        for number in _ask(store, MAX_ENTRIES, figures):  # as many as may stay
            keep(store, number)
            store.flush()
        stays_open = chance.random() < 0.5
        if not stays_open:
            store.close()
        for _ in range(min(ROUND, faults - done)):
            blobs = [path for path in (folder / "results" / "blobs").rglob("*") if path.is_file()]
            if not blobs:
                break
            name = chance.choice(names)
            FAULTS[name][0](folder, blobs, chance)
            figures.faults[name] = figures.faults.get(name, 0) + 1
            done += 1
        if stays_open:
            _ask(store, MAX_ENTRIES, figures)
        _check(folder, figures)
        store.close()
    _check(folder, figures)


# Phase three: a full disk


def fill_disk(figures: Figures) -> None:
    """Use a disk of 3 MB until it is full: answers stay true, and what does not fit is not kept."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        figures.full_disk = "not run: needs the right to mount a tmpfs"
        folder.rmdir()
        return
    try:
        store = open_store(folder / "cache", max_bytes=0, max_entries=0)
        refused = offered = 0
        for number in range(NUMBERS):
            offered += 1
            held = store.usage().entries
            with contextlib.suppress(StoreError):
                keep(store, number)
                store.flush()
            refused += store.usage().entries == held
            if refused > REFUSED:
                break
        answered = NUMBERS - len(_ask(store, NUMBERS, figures))
        with contextlib.suppress(StoreError):  # use counts do not fit either
            store.close()
        figures.full_disk = f"{answered} of {offered} results fitted and were answered"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def torture(kills: int, faults: int, seed: int) -> Figures:
    """Run all phases and return the figures."""
    figures = Figures()
    chance = random.Random(seed)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        killed = Path(temporary) / "kills"
        kill_writers(killed, kills, figures, chance)
        _count_bytes(killed, figures)
        faulty = Path(temporary) / "faults"
        inject(faulty, faults, figures, chance)
        _count_bytes(faulty, figures)
    fill_disk(figures)
    figures.seconds = time.perf_counter() - started
    return figures


def main(arguments: list[str]) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Hurts the result store on purpose.")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--writer", nargs=2, metavar=("FOLDER", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.writer:
        writer(Path(options.writer[0]), int(options.writer[1]))
        return 0
    figures = torture(options.kills, options.faults, options.seed)
    report = asdict(figures)
    print(json.dumps(report, indent=2))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if figures.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
