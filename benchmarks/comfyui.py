"""What the caches gain and cost in a real ComfyUI, against the host alone.

`python -m benchmarks.comfyui [--quick] [--json FILE]`; needs what `install.py test --group comfyui` needs,
or the checkout that ZIT_COMFYUI_PATH names (0.18 and newer: with `node_cache` too).
The graph above the cache is a node that takes a second, so the figures tell the way there and back, not
the worth of a hit: that is whatever your graph takes. The key is measured without a host, on the CPU's time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from comfy_nodes.graph import NodeClass, describe
from comfy_nodes.naming import Folders, named_files
from tests.comfyui import getting
from tests.comfyui.host import ROOT, Graph, Host, python_for
from zit_ext.fingerprint import fingerprint
from zit_ext.models.digests import Digests
from zit_ext.models.weight_files import look

from .report import Row, Spread, measure, milliseconds, run

NODES = 100
QUEUED = ("A, new", "B, new", "A again", "A after a restart")


def benchmark(quick: bool) -> Sequence[Row]:
    """What the caches gain and cost in a real ComfyUI, against the host alone."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        rows += _key(Path(temporary), 20 if quick else 200)
        rows += _hashing(Path(temporary), 64_000_000 if quick else 2_000_000_000)
        rows += _in_host(Path(temporary))
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
    """A large file: read for its digest once, and remembered."""
    path = folder / "large.safetensors"
    with path.open("wb") as file:
        block = bytes(range(256)) * 4096
        for _ in range(size // len(block)):
            file.write(block)
    digests = Digests(folder / "memo")
    files = look(path)
    digests.wait_until_settled(files)
    name = f"{path.stat().st_size / 1e6:,.0f} MB"
    reading = measure(lambda _: path.read_bytes() if size < 1e9 else _read(path), 1, 0)
    first = measure(lambda _: digests.hash(files), 1, 0)
    after = measure(lambda _: digests.known(files), 100)
    return [
        milliseconds(f"read a file of {name}, from the page cache", reading),
        milliseconds(f"hash a file of {name} the first time", first, "read", reading),
        milliseconds(f"its digest after that, of {name}", after, "first time", first),
    ]


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        block = bytearray(4_194_304)
        while file.readinto(block):
            pass


def _in_host(folder: Path) -> list[Row]:
    """Queue A, B, A; restart; A: seconds from POST to the end, with the host alone and with the caches."""
    given = os.environ.get("ZIT_COMFYUI_PATH")
    checkout = Path(given) if given else getting.get() / "ComfyUI"
    sys.path.append(str(getting.get() / "site"))
    ways: list[tuple[str, list[str], dict[str, str], Callable[[int], Graph]]] = [
        ("host alone", [], {}, _alone),
        ("host with --cache-lru 10", ["--cache-lru", "10"], {}, _alone),
        ("Cache (any)", [], {}, _with_cache_any),
    ]
    if (checkout / "comfy_execution" / "cache_provider.py").exists():
        switched_on = {"ZIT_NODE_CACHE": "1", "ZIT_NODE_CACHE_CLASSES": "TestSlow"}
        ways.append(("node_cache", [], switched_on, _alone))
    taken = {
        name: _abaa(checkout, folder / name.replace(" ", "-"), arguments, environ, graph)
        for name, arguments, environ, graph in ways
    }
    rows = []
    for place, what in enumerate(QUEUED):
        peer = Spread((taken["host alone"][place],))
        for name, seconds in taken.items():
            spread = Spread((seconds[place],))
            alone = name == "host alone"
            rows.append(
                milliseconds(
                    f"{name}: {what}", spread, None if alone else "host alone", None if alone else peer
                )
            )
    return rows + _z_image(checkout, folder)


def _z_image(checkout: Path, folder: Path) -> list[Row]:
    """The same with Z-Image (cached) and a tiny model: a picture that is new, and one that is kept."""
    model = folder / "tiny"
    command = [sys.executable, "-m", "zit_ext.models.tiny", str(model)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    def graph(number: int) -> Graph:
        inputs = {
            "prompt": "a lighthouse", "negative_prompt": "", "seed": number, "width": 256, "height": 256,
            "steps": 8, "guidance": 0.0, "batch_size": 1, "model": str(model), "cache": "use",
        }  # fmt: skip
        return {
            "1": {"class_type": "ZitGenerate", "inputs": inputs},
            "out": {"class_type": "TestNote", "inputs": {"anything": ["1", 0]}},
        }

    # B, without the load of the weights, is what a hit saves.
    seconds = _abaa(checkout, folder / "z-image", [], {}, graph)
    peer = Spread((seconds[1],))
    return [
        milliseconds(f"Z-Image (cached), a tiny model: {what}", Spread((each,)), "B, new", peer)
        for what, each in zip(QUEUED, seconds, strict=True)
    ]


def _abaa(
    checkout: Path, base: Path, arguments: list[str], environ: dict[str, str], graph: Callable[[int], Graph]
) -> list[float]:
    """Return the seconds of A, B, A and, after a restart of a host of its own, A."""
    python, paths = python_for(checkout, getting.get)
    host = Host(checkout, python, paths, base)
    host.arguments = arguments
    host.environ |= environ
    host.start()
    try:
        taken = [host.run(graph(number)).seconds for number in (1, 2, 1)]
        host.settle()
        host.restart()
        return [*taken, host.run(graph(1)).seconds]
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


if __name__ == "__main__":
    sys.exit(run(benchmark))
