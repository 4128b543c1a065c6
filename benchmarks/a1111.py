"""A real webui on this machine: native cache and tab against the webui alone, and what we add to its start.

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
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.a1111.pages import Tab
from tests.a1111.real_webui import RealWebui, with_renderer
from tests.browser_support import FLAGS
from zit_ext.installing.browsers import chromium

from .report import Row, Spread, measure, milliseconds, run

_JOB = {"steps": 4, "width": 128, "height": 128}
_AXES = [4, "4,5", [], 1, "501,502,503", [], 0, "", []]
_PLOT = {
    "script_name": "X/Y/Z plot",
    "script_args": [*_AXES, True, False, False, False, False, False, False, 0, False],
}


def benchmark(quick: bool) -> Sequence[Row]:
    """The same picture and plot again, from click to picture, and the webui's start with and without us."""
    rows: list[Row] = []
    for name in ("a1111", "forge"):
        if os.environ.get(f"ZIT_{name.upper()}_PATH"):
            rows += _in(name, quick)
        else:
            print(f"not measured: ZIT_{name.upper()}_PATH does not name a webui")
    return rows


def _in(name: str, quick: bool) -> Sequence[Row]:
    with tempfile.TemporaryDirectory() as folder, with_renderer(Path(folder), name.upper()) as webui:
        n = 5 if quick else 15
        return [
            *_answers(name, webui, n),
            *_clicks(name, webui, n),
            *_starts(name, webui, 2 if quick else 5),
        ]


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


_CLICK = """async ([button, gallery]) => {
    const shown = () => [...document.querySelectorAll(`${gallery} img`)].find((each) =>
        !each.closest(".livePreview") && each.complete && each.naturalWidth > 0)?.src;
    const before = shown();
    const started = performance.now();
    document.querySelector(button).click();
    while (!shown() || shown() === before) await new Promise(requestAnimationFrame);
    return (performance.now() - started) / 1000;
}"""
"""Return how long it took from a click to another picture in the gallery, drawn by the browser."""


def _clicks(name: str, webui: RealWebui, n: int) -> Sequence[Row]:
    """Click in the page, and wait for the picture: the webui's own button, and that of the tab."""
    path = chromium()
    if path is None:
        print("not measured: from click to picture, which needs Chromium")
        return []
    from playwright.sync_api import sync_playwright

    webui.start()
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(120_000)
        page.allowed = []
        tab = Tab(page, webui.url)

        def in_the_tab(seed: int) -> float:
            tab.small("from click to picture", seed=seed).fill(**_JOB)
            page.wait_for_timeout(1000)
            return float(page.evaluate(_CLICK, ["#zit_generate", "#zit_gallery"]))

        def in_txt2img(seed: int) -> float:
            for field, value in {"seed": seed, **_JOB}.items():
                box = page.locator(f"#txt2img_{field} input[type=number]").first
                box.fill(str(value))
                box.press("Tab")
            page.wait_for_timeout(1000)
            return float(page.evaluate(_CLICK, ["#txt2img_generate", "#txt2img_gallery"]))

        def all_of(click: Callable[[int], float], first: int) -> Spread:
            return Spread(tuple(click(first + index) for index in range(n)))

        all_of(in_the_tab, 1)
        tab_again = all_of(in_the_tab, 1)
        page.locator("#tabs button").filter(has_text="txt2img").first.click()
        in_txt2img(100)
        alone = all_of(in_txt2img, 101)
        webui.post("/sdapi/v1/options", zit_native_cache=True)
        in_txt2img(100)
        all_of(in_txt2img, 201)
        webui.outcomes()
        cached = all_of(in_txt2img, 201)
        assert set(webui.outcomes()) == {"hit"}
        browser.close()
    webui.stop()
    return [
        milliseconds(f"{name} from click to picture, txt2img, the webui alone", alone),
        milliseconds(f"{name} from click to picture, txt2img, native cache, hit", cached, "alone", alone),
        milliseconds(f"{name} from click to picture, tab, hit", tab_again, "txt2img alone", alone),
    ]


def _starts(name: str, webui: RealWebui, n: int) -> Sequence[Row]:
    """Start it with and without the extension, in turns: what else the machine does hits both.

    Processor time, and what the webui itself says of our script, do not drown in what the machine does.
    """
    import resource  # not there on Windows

    def worked() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    link = webui.data / "extensions" / "zit_ext"
    target = link.readlink()
    seconds: dict[bool, list[float]] = {True: [], False: []}
    processor: dict[bool, list[float]] = {True: [], False: []}
    script: list[float] = []
    for _ in range(n):
        for ours in (False, True):
            link.unlink(missing_ok=True)
            if ours:
                link.symlink_to(target, target_is_directory=True)
            before = worked()
            seconds[ours].append(webui.start())
            if ours:
                told = webui.get("/internal/profile-startup")["records"]
                script.append(told["load scripts/zit_script.py"])
            webui.stop()
            processor[ours].append(worked() - before)
    without, ours = Spread(tuple(seconds[False])), Spread(tuple(seconds[True]))
    work_without, work_ours = Spread(tuple(processor[False])), Spread(tuple(processor[True]))
    return [
        milliseconds(f"{name} start, without the extension", without),
        milliseconds(f"{name} start, with the extension", ours, "without", without),
        milliseconds(
            f"{name} start, the extension's script in it", Spread(tuple(script)), "without", without
        ),
        milliseconds(f"{name} start, processor time without the extension", work_without),
        milliseconds(f"{name} start, processor time with the extension", work_ours, "without", work_without),
    ]


if __name__ == "__main__":
    sys.exit(run(benchmark, sys.argv[1:]))
