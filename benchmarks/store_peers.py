"""What `benchmarks.store` compares: keepers of bytes under a number, ours and what people use instead."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.util
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from zit_ext import Settings
from zit_ext.codecs import PNG
from zit_ext.default_plugins.eviction import POLICIES
from zit_ext.fingerprint import fingerprint
from zit_ext.records import Encoded, Entry, Fingerprint
from zit_ext.results.store import ResultStore

from .article_cache import ArticleCache

FIELDS = {"prompt": "a lighthouse at dusk", "steps": 8, "namespace": "default", "environment": "0" * 64}


class Peer(Protocol):
    """Something that keeps bytes under a number."""

    def get(self, number: int) -> bytes | None: ...

    def set(self, number: int, data: bytes) -> None: ...

    def close(self) -> None: ...


@functools.lru_cache(maxsize=20_000)
def asked(number: int) -> Fingerprint:
    """Return the key of a request, made beforehand: the others get theirs for nothing, too."""
    return fingerprint({**FIELDS, "seed": number})


class Ours:
    """Our store: verified reads from the disk, writes waited for. The memory tier holds rows alone."""

    memory_bytes = 1

    def __init__(self, folder: Path) -> None:
        settings = Settings(cache_dir=folder, max_bytes=0, max_entries=0, memory_bytes=self.memory_bytes)
        self.store = ResultStore(settings, score=lru)
        self.store.open()

    def get(self, number: int) -> bytes | None:
        found = self.store.find(asked(number))
        return None if found is None else found.content.data

    def set(self, number: int, data: bytes) -> None:
        self.store.keep(asked(number), Encoded(PNG, data), namespace="default", cost=3.0, ttl_seconds=None)
        self.store.flush()

    def close(self) -> None:
        self.store.close()


class OursWithoutMemory(Ours):
    """Our store without a memory tier: each row is read and checked again, as the first time."""

    memory_bytes = 0


class OursInMemory(Ours):
    """Our store with its memory tier: bytes that were verified when they came in."""

    memory_bytes = 4_000_000_000


def lru(policy: str, entry: Entry, floor: float) -> float:
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
    "zit_ext, disk, verified, row read anew": OursWithoutMemory,
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
