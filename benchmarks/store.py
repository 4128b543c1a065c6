"""The result store against what people use instead: get and set of 1.5 MB, one process and four.

`python -m benchmarks.store [--quick] [--json FILE]`; needs the extra `benchmarks` (diskcache, cashews,
joblib), and says so where one is missing: `pip install -e '.[benchmarks]'`. Ours checks every byte that it
reads from the disk and survives a kill at any instant; the others do not, except where the row says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import random
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from zit_ext import Settings
from zit_ext.codecs import PNG
from zit_ext.default_plugins.eviction import POLICIES
from zit_ext.fingerprint import fingerprint
from zit_ext.records import Encoded, Entry, Fingerprint
from zit_ext.results.store import ResultStore

from .article_cache import ArticleCache
from .hits import picture
from .report import Row, Spread, measure, milliseconds, run

FIELDS = {"prompt": "a lighthouse at dusk", "steps": 8, "namespace": "default", "environment": "0" * 64}


class Peer(Protocol):
    """Something that keeps bytes under a number."""

    def get(self, number: int) -> bytes | None: ...

    def set(self, number: int, data: bytes) -> None: ...

    def close(self) -> None: ...


def _asked(number: int) -> Fingerprint:
    return fingerprint({**FIELDS, "seed": number})


class Ours:
    """Our store: verified reads from the disk (memory tier off), writes waited for."""

    memory_bytes = 0

    def __init__(self, folder: Path) -> None:
        settings = Settings(cache_dir=folder, max_bytes=0, max_entries=0, memory_bytes=self.memory_bytes)
        self.store = ResultStore(settings, score=_lru)
        self.store.open()

    def get(self, number: int) -> bytes | None:
        found = self.store.find(_asked(number))
        return None if found is None else found.content.data

    def set(self, number: int, data: bytes) -> None:
        self.store.keep(_asked(number), Encoded(PNG, data), namespace="default", cost=3.0, ttl_seconds=None)
        self.store.flush()

    def close(self) -> None:
        self.store.close()


class OursInMemory(Ours):
    """Our store with its memory tier: bytes that were verified when they came in."""

    memory_bytes = 4_000_000_000


def _lru(policy: str, entry: Entry, floor: float) -> float:
    return POLICIES["lru"](entry, floor)


class PlainFiles:
    """Files by name, read without any check; written beside and renamed. The limit for everybody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, number: int) -> bytes | None:
        return (self.folder / str(number)).read_bytes()

    def set(self, number: int, data: bytes) -> None:
        temporary = self.folder / f"{number}.{os.getpid()}"
        temporary.write_bytes(data)
        os.replace(temporary, self.folder / str(number))

    def close(self) -> None:
        return None


class CheckedFiles(PlainFiles):
    """Files by name, and a checksum over what was read: the least that a truthful disk hit costs."""

    def get(self, number: int) -> bytes | None:
        data = super().get(number)
        _checksum(data or b"")
        return data


def _checksum(data: bytes) -> object:
    try:
        import xxhash
    except ImportError:
        return hashlib.sha256(data).digest()
    return xxhash.xxh3_128_digest(data)


class SqliteBlobs:
    """One table of blobs, write-ahead log, synchronous=NORMAL."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(folder / "blobs.sqlite3", isolation_level=None, timeout=30)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS kept (number INTEGER PRIMARY KEY, data BLOB)")

    def get(self, number: int) -> bytes | None:
        row = self.db.execute("SELECT data FROM kept WHERE number = ?", (number,)).fetchone()
        return None if row is None else bytes(row[0])

    def set(self, number: int, data: bytes) -> None:
        self.db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (number, data))

    def close(self) -> None:
        self.db.close()


class Diskcache:
    """diskcache 5.6: rows in SQLite, large values in files, no check when they are read."""

    def __init__(self, folder: Path) -> None:
        import diskcache

        self.cache = diskcache.Cache(str(folder), size_limit=1 << 40)

    def get(self, number: int) -> bytes | None:
        data: bytes | None = self.cache.get(number)
        return data

    def set(self, number: int, data: bytes) -> None:
        self.cache.set(number, data)

    def close(self) -> None:
        self.cache.close()


class Cashews:
    """cashews with its disk tier (diskcache in threads), asked from its own loop."""

    def __init__(self, folder: Path) -> None:
        from cashews import Cache

        self.loop = asyncio.new_event_loop()
        self.cache = Cache()
        self.cache.setup(f"disk://?directory={folder}&size_limit={1 << 40}&shards=0")

    def get(self, number: int) -> bytes | None:
        data: bytes | None = self.loop.run_until_complete(self.cache.get(str(number)))
        return data

    def set(self, number: int, data: bytes) -> None:
        self.loop.run_until_complete(self.cache.set(str(number), data))

    def close(self) -> None:
        self.loop.run_until_complete(self.cache.close())
        self.loop.close()


class Joblib:
    """joblib.Memory: a pickle and a JSON file in a folder per result."""

    def __init__(self, folder: Path) -> None:
        import joblib

        self.data = b""
        self.kept = joblib.Memory(str(folder), verbose=0).cache(self._compute, ignore=["self"])

    def _compute(self, number: int) -> bytes:
        return self.data

    def get(self, number: int) -> bytes | None:
        data: bytes = self.kept(number)
        return data

    def set(self, number: int, data: bytes) -> None:
        self.data = data
        self.kept(number)

    def close(self) -> None:
        return None


class Article:
    """The founding article's JSON file and PNG per entry."""

    def __init__(self, folder: Path) -> None:
        self.cache = ArticleCache(folder, max_entries=10**9)

    def get(self, number: int) -> bytes | None:
        return self.cache.get(f"{number:016x}")

    def set(self, number: int, data: bytes) -> None:
        self.cache.put(f"{number:016x}", data)

    def close(self) -> None:
        return None


PEERS: dict[str, Callable[[Path], Peer]] = {
    "plain files": PlainFiles,
    "files and checksum": CheckedFiles,
    "zit_ext, disk, verified": Ours,
    "zit_ext, memory": OursInMemory,
    "diskcache": Diskcache,
    "cashews, disk": Cashews,
    "SQLite blobs": SqliteBlobs,
    "joblib.Memory": Joblib,
    "article's JSON files": Article,
}


def missing_peers() -> list[str]:
    """Return the packages of the extra `benchmarks` that are not installed."""
    return [name for name in ("diskcache", "cashews", "joblib") if importlib.util.find_spec(name) is None]


def benchmark(quick: bool) -> Sequence[Row]:
    """The result store against what people use instead."""
    missing = missing_peers()
    if missing:
        raise SystemExit(
            f"benchmarks.store compares with packages that are not installed: {', '.join(missing)}.\n"
            "Install the extra: pip install -e '.[benchmarks]' -c constraints/verified.txt"
        )
    rows: list[Row] = []
    for entries in (50,) if quick else (1000, 10_000):
        rows += _one_process(entries, 30 if quick else 400)
    rows += _four_processes(20 if quick else 300)
    rows += _index_alone((1000,) if quick else (1000, 10_000, 100_000, 1_000_000))
    return rows


def _payloads(count: int = 16) -> list[bytes]:
    """Return PNG files of about 1.5 MB; a few, which `_numbered` makes many of."""
    from zit_ext.codecs import Pixels, encode_png

    cropped = []
    for seed in range(count):
        whole = picture(seed)
        cropped.append(encode_png(Pixels(whole.width, 768, 3, whole.data[: whole.width * 768 * 3])))
    return cropped


def _numbered(png: bytes, number: int) -> bytes:
    """Return the same picture as a file of its own: we would keep equal ones once, and the others not."""
    body = b"tEXt" + b"number\0" + str(number).encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:-12] + chunk + png[-12:]


def _one_process(entries: int, n: int) -> list[Row]:
    rows: list[Row] = []
    payloads = _payloads(min(64, entries))
    size = sum(map(len, payloads)) / len(payloads) / 1e6
    gets: dict[str, Spread] = {}
    sets: dict[str, Spread] = {}
    measured = min(entries, 1000)
    for name, make in PEERS.items():
        with tempfile.TemporaryDirectory() as temporary:
            peer = make(Path(temporary) / name.replace(" ", "-"))

            def put(number: int, peer: Peer = peer) -> None:
                peer.set(number, _numbered(payloads[number % len(payloads)], number))

            try:
                for number in range(entries - measured):
                    put(number)
                sets[name] = measure(
                    lambda index, put=put: put(entries - measured + index), measured, warm_up=1
                )
                order = random.Random(0)
                picks = [order.randrange(entries) for _ in range(n)]
                if name == "zit_ext, memory":
                    for number in set(picks):
                        peer.get(number)
                gets[name] = measure(
                    lambda index, peer=peer, picks=picks: _must(peer.get(picks[index % n])), n
                )
            finally:
                peer.close()
    for name, spread in gets.items():
        rows.append(
            milliseconds(f"get {size:.1f} MB of {entries:,}: {name}", spread, "diskcache", gets["diskcache"])
        )
    for name, spread in sets.items():
        rows.append(
            milliseconds(f"set {size:.1f} MB of {entries:,}: {name}", spread, "diskcache", sets["diskcache"])
        )
    checked = gets["files and checksum"]
    rows.append(
        milliseconds(
            f"verified disk hit of {entries:,}",
            gets["zit_ext, disk, verified"],
            "bare read and checksum",
            checked,
        )
    )
    return rows


def _must(data: bytes | None) -> bytes:
    assert data, "a benchmark of misses is none"
    return data


def _four_processes(seconds_hundredths: int) -> list[Row]:
    """Reads per second by four processes that share one folder."""
    rows: list[Row] = []
    rates: dict[str, float] = {}
    seconds = seconds_hundredths / 100
    payloads = _payloads(8)
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("diskcache", "zit_ext, disk, verified", "plain files"):
            folder = Path(temporary) / name.replace(" ", "-")
            peer = PEERS[name](folder)
            for number in range(50):
                peer.set(number, _numbered(payloads[number % len(payloads)], number))
            peer.close()
            command = [sys.executable, "-m", "benchmarks.store", "reader", name, str(folder), str(seconds)]
            readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
            rates[name] = sum(float(reader.communicate(timeout=120)[0]) for reader in readers)
    for name, rate in rates.items():
        rows.append(
            Row(
                name=f"4 processes read 1.5 MB: {name}",
                value=rate,
                unit="reads/s",
                n=4,
                peer="diskcache",
                ratio=rate / rates["diskcache"],
            )
        )
    return rows


def _reader(name: str, folder: str, seconds: float) -> None:
    peer = PEERS[name](Path(folder))
    chance = random.Random(os.getpid())
    for number in range(50):
        peer.get(number)
    done = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        _must(peer.get(chance.randrange(50)))
        done += 1
    print(done / (time.perf_counter() - started))
    peer.close()


def _index_alone(sizes: Sequence[int]) -> list[Row]:
    """Insert and evict at the cap, and open, with tiny blobs: what grows with the number of entries."""
    rows: list[Row] = []
    first: Spread | None = None
    for size in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _fill_index(folder, size)
            settings = Settings(cache_dir=folder, max_bytes=0, max_entries=size, memory_bytes=0)
            started = time.perf_counter()
            store = ResultStore(settings, score=_lru)
            store.open()
            opened = time.perf_counter() - started

            def insert(index: int, store: ResultStore = store, size: int = size) -> None:
                asked = _asked(10_000_000 + index)
                store.keep(
                    asked, Encoded("text/plain", b"x"), namespace="default", cost=1.0, ttl_seconds=None
                )
                store.flush()

            spread = measure(insert, 200)
            usage = store.usage()
            assert usage.entries <= size, "the cap did not hold"
            store.close()
            index_bytes = sum(path.stat().st_size for path in (folder / "results").glob("index-*"))
        first = first or spread
        rows.append(milliseconds(f"insert and evict at {size:,} entries", spread, f"at {sizes[0]:,}", first))
        rows.append(Row(name=f"open at {size:,} entries", value=opened * 1000, unit="ms", n=1))
        rows.append(
            Row(name=f"index bytes per entry at {size:,}", value=index_bytes / size, unit="bytes", n=size)
        )
    return rows


def _fill_index(folder: Path, size: int) -> None:
    """Make an index of many entries over one tiny blob: what grows is the index alone."""
    settings = Settings(cache_dir=folder, max_bytes=0, max_entries=0, memory_bytes=0, write_queue=100_000)
    store = ResultStore(settings, score=_lru)
    store.open()
    for number in range(size):
        content: Any = Encoded("text/plain", b"x")
        store.keep(_asked(number), content, namespace="default", cost=1.0, ttl_seconds=None)
        if number % 50_000 == 49_999:
            store.flush()
    store.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["reader"]:
        _reader(sys.argv[2], sys.argv[3], float(sys.argv[4]))
        sys.exit(0)
    sys.exit(run(benchmark))
