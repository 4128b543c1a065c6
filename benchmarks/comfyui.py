"""What the caches gain and cost in a real ComfyUI, against the host alone.

`python -m benchmarks.comfyui [--quick] [--json FILE]`; needs what `install.py test --group comfyui` needs,
or the checkout that ZIT_COMFYUI_PATH names (0.18 and newer: with `node_cache` too), and 6 GB of disk.
The graph above the cache is a node that takes a second, so the figures tell the way there and back, not
the worth of a hit: that is whatever your graph takes. The key is measured without a host. Of each figure
there are several rounds, all ways by turns in each, every one with hosts of its own; read the medians.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_nodes.graph import NodeClass, describe
from comfy_nodes.naming import Folders, named_files
from tests.comfyui import getting
from tests.comfyui.host import ROOT, Graph, Host, python_for
from zit_ext.fingerprint import fingerprint
from zit_ext.models.digests import Digests
from zit_ext.models.weight_files import look

from .comfyui_start import start_rows
from .report import Row, Spread, measure, milliseconds, run

NODES = 100
QUEUED = ("A, new", "B, new", "A again", "A after a restart")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to have a graph's result."""

    name: str = field(kw_only=False)
    graph: Callable[[int], Graph] = field(kw_only=False)
    arguments: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


def benchmark(quick: bool) -> Sequence[Row]:
    """What the caches gain and cost in a real ComfyUI, against the host alone."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        rows += _key(Path(temporary), 20 if quick else 500)
        rows += _hashing(Path(temporary), 64_000_000 if quick else 6_000_000_000)
        rows += _in_host(Path(temporary), 1 if quick else 3)
    return rows


def _key(folder: Path, n: int) -> list[Row]:
    """The key of a graph of a hundred nodes with three hundred literals, ten of which name files."""
    for number in range(10):
        (folder / f"m{number}.safetensors").write_bytes(b"x")
    folders = Folders(
        {f"kind{kind}": ((str(folder / f"models{kind}"),), frozenset({".safetensors"})) for kind in range(25)}
        | {"loras": ((str(folder),), frozenset({".safetensors"}))},
        *(str(folder / name) for name in ("input", "output", "temp")),
    )
    graph: dict[str, dict[str, Any]] = {}
    for number in range(NODES):
        literals: dict[str, Any] = {"text": f"some words {number}", "seed": number, "cfg": 1.5}
        if number % 10 == 0:
            literals["name"] = f"m{number // 10}.safetensors"
        graph[str(number)] = {"class_type": "Node", "inputs": literals}
        if number:
            graph[str(number)]["inputs"]["above"] = [str(number - 1), 0]

    def key(_: int) -> None:
        told = describe(
            [str(NODES - 1), 0],
            node_of=graph.__getitem__,
            class_of=lambda name: NodeClass(),
            changed={},
            files_of=lambda name, literals: named_files(name, literals, folders),
            trusted=frozenset(),
        )
        for each in told.files:
            look(each.path)
        fingerprint({"nodes": list(told.nodes), "start": list(told.start)})

    return [milliseconds(f"key of a graph of {NODES} nodes, 10 files", measure(key, n))]


def _hashing(folder: Path, size: int) -> list[Row]:
    """A large file: read for its digest once, and remembered. From the disk, and from the page cache."""
    path = folder / "large.safetensors"
    with path.open("wb") as file:
        block = bytes(range(256)) * 4096
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    digests = Digests(folder / "memo")
    files = look(path)
    digests.wait_until_settled(files)
    name = f"{path.stat().st_size / 1e6:,.0f} MB"
    _forget(path)
    read = measure(lambda _: _read(path), 1, 0)
    _forget(path)
    first = measure(lambda _: digests.hash(files), 1, 0)
    _read(path)
    read_again = measure(lambda _: _read(path), 1, 0)
    hash_again = measure(lambda _: digests.hash(files), 1, 0)
    after = measure(lambda _: digests.known(look(path)), 100)
    path.unlink()
    return [
        milliseconds(f"read a file of {name} from the disk", read),
        milliseconds(f"hash it the first time, from the disk: {name}", first, "read from the disk", read),
        milliseconds(f"read a file of {name} from the page cache", read_again),
        milliseconds(f"hash it from the page cache: {name}", hash_again, "read from there", read_again),
        milliseconds(f"look at it, and its digest after that: {name}", after, "first time", first),
    ]


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        block = bytearray(4_194_304)
        while file.readinto(block):
            pass


def _forget(path: Path) -> None:
    """Have the system read this file from the disk the next time; where it cannot, from memory."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _in_host(folder: Path, rounds: int) -> list[Row]:
    """Queue A, B, A; restart; A: seconds from POST to the end, with the host alone and with the caches."""
    given = os.environ.get("ZIT_COMFYUI_PATH")
    checkout = Path(given) if given else getting.get() / "ComfyUI"
    sys.path.append(str(getting.get() / "site"))
    model = folder / "tiny"
    command = [sys.executable, "-m", "zit_ext.models.tiny", str(model)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    ways = [
        Way("host alone", _alone),
        Way("host with --cache-lru 10", _alone, arguments=("--cache-lru", "10")),
        Way("Cache (any)", _with_cache_any),
        Way("a tiny Z-Image, cache = bypass", lambda number: _z_image(model, number, "bypass")),
        Way("a tiny Z-Image (cached)", lambda number: _z_image(model, number, "use")),
    ]
    if (checkout / "comfy_execution" / "cache_provider.py").exists():
        switched_on = {"ZIT_NODE_CACHE": "1", "ZIT_NODE_CACHE_CLASSES": "TestSlow"}
        ways.insert(3, Way("node_cache", _alone, environ=switched_on))
    taken: dict[str, list[list[float]]] = {way.name: [] for way in ways}
    for each in range(rounds):
        for number, way in enumerate(ways):
            taken[way.name].append(_abaa(checkout, folder / f"host-{number}-{each}", way))
    rows = start_rows(checkout, folder, 2 if rounds == 1 else 5)
    for place, what in enumerate(QUEUED):
        spreads = {name: Spread(tuple(seconds[place] for seconds in runs)) for name, runs in taken.items()}
        for name, spread in spreads.items():
            peer = "a tiny Z-Image, cache = bypass" if "Z-Image" in name else "host alone"
            against = (None, None) if name == peer else (peer, spreads[peer])
            rows.append(milliseconds(f"{what}: {name}", spread, *against))
    return rows


def _abaa(checkout: Path, base: Path, way: Way) -> list[float]:
    """Return the seconds of A, B, A and, after a restart of a host of its own, A."""
    python, paths = python_for(checkout, getting.get)
    host = Host(checkout, python, paths, base)
    host.arguments = list(way.arguments)
    host.environ |= way.environ
    host.start()
    try:
        taken = [host.run(way.graph(number)).seconds for number in (1, 2, 1)]
        host.settle()
        host.restart()
        return [*taken, host.run(way.graph(1)).seconds]
    finally:
        host.stop()


def _alone(number: int) -> Graph:
    return {
        "1": {"class_type": "TestSlow", "inputs": {"value": number / 10, "seconds": 1.0}},
        "out": {"class_type": "TestNote", "inputs": {"anything": ["1", 0]}},
    }


def _with_cache_any(number: int) -> Graph:
    return {
        **_alone(number),
        "memo": {"class_type": "ZitCacheAny", "inputs": {"value": ["1", 0]}},
        "out": {"class_type": "TestNote", "inputs": {"anything": ["memo", 0]}},
    }


def _z_image(model: Path, number: int, cache: str) -> Graph:
    inputs = {
        "prompt": "a lighthouse", "negative_prompt": "", "seed": number, "width": 256, "height": 256,
        "steps": 8, "guidance": 0.0, "batch_size": 1, "model": str(model), "cache": cache,
    }  # fmt: skip
    return {
        "1": {"class_type": "ZitGenerate", "inputs": inputs},
        "out": {"class_type": "TestNote", "inputs": {"anything": ["1", 0]}},
    }


if __name__ == "__main__":
    sys.exit(run(benchmark))
