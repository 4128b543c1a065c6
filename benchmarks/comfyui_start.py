"""What the pack adds to the start of a real ComfyUI. The clock is inside: see comfyui_clock.py."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.comfyui import getting
from tests.comfyui.host import Host, python_for

from .report import Row, Spread, milliseconds

CLOCK = Path(__file__).with_name("comfyui_clock.py")


def start_rows(checkout: Path, folder: Path, rounds: int) -> list[Row]:
    """Start the host without packs and with ours by turns, until it would listen; one start more warms up."""
    alone, together, wall, cpu = [], [], [], []
    for each in range(rounds + 1):
        without = _start(checkout, folder / f"without-{each}", ["--disable-all-custom-nodes"])[0]
        whole, ours, of_cpu = _start(checkout, folder / f"with-{each}", [])
        if each:
            alone.append(without)
            together.append(whole)
            wall.append(ours)
            cpu.append(of_cpu)
    peer = Spread(tuple(alone))
    return [
        milliseconds("start: the host without packs", peer),
        milliseconds(
            "start: with this pack and those of the tests", Spread(tuple(together)), "without", peer
        ),
        milliseconds("start: this pack alone, inside the host", Spread(tuple(wall)), "without", peer),
        milliseconds("start: this pack alone, CPU time", Spread(tuple(cpu)), "without", peer),
    ]


def _start(checkout: Path, base: Path, arguments: list[str]) -> tuple[float, float, float]:
    """Return the seconds of one start, and those of our pack: by the wall and of CPU."""
    python, paths = python_for(checkout, getting.get)
    host = Host(checkout, python, paths, base)
    command = [
        *python, str(CLOCK), "--cpu", "--quick-test-for-ci", "--disable-api-nodes",
        "--base-directory", str(base), "--database-url", "sqlite:///:memory:",
        "--front-end-root", str(base / "front"), *arguments,
    ]  # fmt: skip
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "ZIT_CONFIG": str(base / "config.toml"),
        "ZIT_CACHE_DIR": str(base / "cache"),
        "ZIT_DATA_DIR": str(base / "data"),
        "ZIT_TEST_LOG": str(host.log),
    }
    started = time.perf_counter()
    done = subprocess.run(command, cwd=checkout, env=environ, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    for line in done.stdout.splitlines():
        if line.startswith('{"loaded"'):
            path, wall, cpu = json.loads(line)["loaded"]
            if Path(path).name == "zit_ext":
                return seconds, wall, cpu
    assert arguments, "the pack was not loaded:\n" + done.stderr[-3000:]
    return seconds, 0.0, 0.0
