"""The native cache in a real webui on this machine: against the webui alone, and what it adds to its start.

`ZIT_A1111_PATH=/path/to/webui python -m benchmarks.a1111 [--quick] [--json FILE]`; ZIT_FORGE_PATH names
a Forge, which is measured too.

The checkpoint is a small random SD1.5 on the CPU: renders take a fraction of a second. So the times of
hits say what the cache costs, and the ratios say what it saves at least; real checkpoints render longer.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.a1111.real_webui import RealWebui
from zit_ext.installing.hosts import Host, python_of

from .report import Row, Spread, measure, milliseconds, run

_JOB = {"steps": 4, "width": 128, "height": 128}
_AXES = [4, "4,5", [], 1, "501,502,503", [], 0, "", []]
_PLOT = {
    "script_name": "X/Y/Z plot",
    "script_args": [*_AXES, True, False, False, False, False, False, False, 0, False],
}


def benchmark(quick: bool) -> Sequence[Row]:
    """The same picture again, an X/Y/Z plot again, and the webui's start with and without us."""
    rows: list[Row] = []
    for name in ("a1111", "forge"):
        checkout = os.environ.get(f"ZIT_{name.upper()}_PATH")
        if checkout:
            rows += _in(name, Path(checkout), quick)
        else:
            print(f"not measured: ZIT_{name.upper()}_PATH does not name a webui")
    return rows


def _in(name: str, root: Path, quick: bool) -> Sequence[Row]:
    named = os.environ.get(f"ZIT_{name.upper()}_PYTHON")
    python = Path(named) if named else python_of(Host("a1111", root))
    if python is None:
        raise SystemExit(f"no Python in the checkout: set ZIT_{name.upper()}_PYTHON")
    with tempfile.TemporaryDirectory() as folder:
        webui = RealWebui(root, python, Path(folder))
        webui.set_up()
        try:
            return [*_answers(name, webui, 5 if quick else 15), *_starts(name, webui, 2 if quick else 5)]
        finally:
            webui.stop()


def _answers(name: str, webui: RealWebui, n: int) -> Sequence[Row]:
    webui.start()
    webui.txt2img(seed=1, **_JOB)
    time.sleep(5)  # the checkpoint is hashed beside the first render
    alone = measure(lambda index: webui.txt2img(cached=False, seed=100 + index, **_JOB), n)
    miss = measure(lambda index: webui.txt2img(seed=200 + index, **_JOB), n, warm_up=0)
    webui.outcomes()
    hit = measure(lambda index: webui.txt2img(seed=200 + index, **_JOB), n, warm_up=0)
    assert set(webui.outcomes()) == {"hit"}
    plot_alone = measure(lambda _: webui.txt2img(cached=False, **_JOB, **_PLOT), 2, warm_up=0)
    webui.txt2img(**_JOB, **_PLOT)
    plot_again = measure(lambda _: webui.txt2img(**_JOB, **_PLOT), 3, warm_up=0)
    webui.stop()
    return [
        milliseconds(f"{name} txt2img, the webui alone", alone),
        milliseconds(f"{name} txt2img, native cache, miss", miss, "the webui alone", alone),
        milliseconds(f"{name} txt2img, native cache, hit", hit, "the webui alone", alone),
        milliseconds(f"{name} X/Y/Z plot of 6, the webui alone", plot_alone),
        milliseconds(f"{name} X/Y/Z plot of 6, again", plot_again, "the webui alone", plot_alone),
    ]


def _starts(name: str, webui: RealWebui, n: int) -> Sequence[Row]:
    """Start it with and without the extension, in turns: what else the machine does hits both.

    What the webui itself says of our script is a part of that, and does not drown in the rest.
    """
    link = webui.data / "extensions" / "zit_ext"
    target = link.readlink()
    seconds: dict[bool, list[float]] = {True: [], False: []}
    script: list[float] = []
    for _ in range(n):
        for ours in (False, True):
            link.unlink(missing_ok=True)
            if ours:
                link.symlink_to(target, target_is_directory=True)
            seconds[ours].append(webui.start())
            if ours:
                told = webui.get("/internal/profile-startup")["records"]
                script.append(told["load scripts/zit_script.py"])
            webui.stop()
    without, ours = Spread(tuple(seconds[False])), Spread(tuple(seconds[True]))
    return [
        milliseconds(f"{name} start, without the extension", without),
        milliseconds(f"{name} start, with the extension", ours, "without", without),
        milliseconds(
            f"{name} start, the extension's script in it", Spread(tuple(script)), "without", without
        ),
    ]


if __name__ == "__main__":
    sys.exit(run(benchmark, sys.argv[1:]))
