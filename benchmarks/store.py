"""The result store against what people use instead: get and set of 1.5 MB, one process and four.

`python -m benchmarks.store [--quick] [--json FILE]`; needs the extra `benchmarks` (diskcache, cashews,
joblib), and says so where one is missing: `pip install -e '.[benchmarks]'`. Ours checks every byte that it
reads from the disk and survives a kill at any instant; the others do not, except where the row says so.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zit_ext import Settings
from zit_ext.records import Encoded
from zit_ext.results.store import ResultStore

from .hits import picture
from .report import Row, Spread, measure, milliseconds, run
from .store_peers import PEERS, Peer, asked, lru, missing_peers


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
        for name in ("diskcache", "zit_ext, disk, verified", "files and checksum", "plain files"):
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
            store = ResultStore(settings, score=lru)
            store.open()
            opened = time.perf_counter() - started

            def insert(index: int, store: ResultStore = store, size: int = size) -> None:
                fingerprint = asked(10_000_000 + index)
                store.keep(
                    fingerprint, Encoded("text/plain", b"x"), namespace="default", cost=1.0, ttl_seconds=None
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
    store = ResultStore(settings, score=lru)
    store.open()
    for number in range(size):
        content: Any = Encoded("text/plain", b"x")
        store.keep(asked(number), content, namespace="default", cost=1.0, ttl_seconds=None)
        if number % 50_000 == 49_999:
            store.flush()
    store.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["reader"]:
        _reader(sys.argv[2], sys.argv[3], float(sys.argv[4]))
        sys.exit(0)
    sys.exit(run(benchmark))
