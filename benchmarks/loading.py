"""How fast weights are read, against reading the same files raw and against diffusers.

`python -m benchmarks.loading [--quick] [--json FILE]`

The model has the real classes and 1.2 GB of random bfloat16 weights in shards. "cold" is with the files
dropped from the page cache before each run, "warm" with them in it. What maps files is made to touch every
page: a load that reads nothing until the first picture only puts the wait elsewhere. "copied" is what it
takes with diffusers to have what zit_ext gives: weights that no rewrite of a file can change. Before each
run the memory of the last one goes back to the system, as after a real unload or in a new process: who
copies into memory that is there already looks twice as fast as he is.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from zit_ext.models import tiny, zimage_devices, zimage_loading
from zit_ext.records import ModelRef

from .report import Row, run

CHUNK = 16 * 1024**2


def build(folder: Path, width: int) -> int:
    """Save a model as wide as that, and return the bytes of its weight files."""
    import torch
    from accelerate import init_empty_weights
    from diffusers import ZImagePipeline

    parts = tiny.components()
    with init_empty_weights():
        small = parts["transformer"]
        config = dict(small.config) | {
            "dim": width,
            "n_heads": width // 32,
            "n_kv_heads": width // 32,
            "n_layers": 8,
        }
        wide = type(small).from_config(config)
        encoder = parts["text_encoder"]
        sizes = encoder.config.to_dict() | {
            "hidden_size": width // 2,
            "intermediate_size": width * 2,
            "num_hidden_layers": 6,
            "layer_types": None,
        }
        encoder = type(encoder)(type(encoder.config)(**sizes))
    for name, module in (("transformer", wide), ("text_encoder", encoder)):
        module = module.to_empty(device="cpu").to(torch.bfloat16)
        for tensor in module.state_dict().values():
            tensor.normal_(std=0.02)
        parts[name] = module
    parts["vae"] = parts["vae"].to(torch.bfloat16)
    with zimage_devices.quiet():
        ZImagePipeline(**parts).save_pretrained(str(folder), max_shard_size="400MB")
    for path in weight_files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is not on the disk yet cannot be dropped
    return sum(path.stat().st_size for path in weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def drop(folder: Path) -> None:
    """Take the files out of the page cache."""
    for path in weight_files(folder):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def raw(folder: Path, threads: int) -> None:
    """Read the files into memory that is used again and again: the limit."""
    pieces = [(path, at) for path in weight_files(folder) for at in range(0, path.stat().st_size, CHUNK * 4)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_read_piece, pieces))


def _read_piece(piece: tuple[Path, int]) -> None:
    path, at = piece
    buffer = bytearray(CHUNK)
    with path.open("rb", buffering=0) as file:
        file.seek(at)
        for _ in range(4):
            file.readinto(buffer)


def by_diffusers(folder: Path) -> Any:
    import diffusers
    import torch

    with zimage_devices.quiet():
        pipe = diffusers.ZImagePipeline.from_pretrained(
            str(folder), local_files_only=True, torch_dtype=torch.bfloat16
        )
    for module in (pipe.text_encoder, pipe.transformer, pipe.vae):
        for tensor in module.parameters():
            tensor.data.reshape(-1)[::1024].sum()
    return pipe


def by_diffusers_copied(folder: Path) -> Any:
    pipe = by_diffusers(folder)
    for module in (pipe.text_encoder, pipe.transformer, pipe.vae):
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.data = tensor.data.clone()
    return pipe


def by_us(folder: Path) -> Any:
    return zimage_loading.load(ModelRef(source=str(folder), path=folder), "bfloat16")


def benchmark(quick: bool) -> Sequence[Row]:
    """How fast weights are read."""
    rounds = 2 if quick else 7
    ways: dict[str, Callable[[Path], Any]] = {
        "raw, 1 thread": lambda folder: raw(folder, 1),
        "raw, 8 threads": lambda folder: raw(folder, 8),
        "diffusers, mapped": by_diffusers,
        "diffusers, copied": by_diffusers_copied,
        "zit_ext": by_us,
    }
    rows = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("ZIT_BENCH_DIR")) as place:
        folder = Path(place) / "model"
        size = build(folder, 256 if quick else 2048)
        zimage_devices.release("cpu")
        for way in ways.values():
            way(folder)
        for state in ("cold", "warm"):
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():  # in turn: what else the machine does meets all of them
                    zimage_devices.release("cpu")
                    if state == "cold":
                        drop(folder)
                    started = time.perf_counter()
                    loaded = way(folder)
                    seconds[name].append(time.perf_counter() - started)
                    del loaded
                    gc.collect()
            limit = statistics.median(seconds["raw, 8 threads"])
            for name, taken in seconds.items():
                rows.append(
                    Row(
                        name=f"{state}: {name}",
                        value=size / statistics.median(taken) / 1e9,
                        unit="GB/s",
                        n=rounds,
                        peer="raw, 8 threads",
                        ratio=limit / statistics.median(taken),
                    )
                )
    return rows


if __name__ == "__main__":
    sys.exit(run(benchmark))
