"""The host's real page in a real browser: our tab in its sidebar, and badges on its nodes.

What runs is asked for by the page itself, as a click on "Run" does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import getting
from .host import ROOT, Host, python_for
from .test_cache_any import cached, slow
from .test_node_cache import plain

pytestmark = pytest.mark.browser

# The host's page calls for files and services that a bare installation has not.
ITS_OWN_TROUBLE = (
    r"Failed to load resource.*404",
    r"core workflow templates",
    r"ComfyApp graph accessed before initialization",
    r"Content.Security.?Policy",
    r"left the machine",
    r"reading 'id'\)\n    at onChange",
)
RUN = """async () => {
    const { api } = window.app;
    const ended = new Promise((resolve) => {
        for (const kind of ["execution_success", "execution_error"])
            api.addEventListener(kind, () => resolve(kind), { once: true });
    });
    const answered = [];
    api.addEventListener("zit.answered", (event) => answered.push(event.detail));
    await window.app.queuePrompt(0, 1);
    return [await ended, answered];
}"""
BADGES = """(type) => window.app.graph.nodes
    .find((node) => node.type === type).badges
    .map((each) => (typeof each === "function" ? each() : each)?.text)"""


@pytest.fixture(scope="module")
def paged(checkout: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that serves its own page, with the first-run dialogs done with."""
    python, paths = python_for(checkout, getting.get)
    host = Host(checkout, python, paths, tmp_path_factory.mktemp("comfyui"))
    host.has_page = True
    host.environ |= {"ZIT_MODEL": tiny_model, "ZIT_NODE_CACHE": "1", "ZIT_NODE_CACHE_CLASSES": "TestSlow"}
    host.start()
    for name, value in (
        ("Comfy.TutorialCompleted", True),
        ("Comfy.ColorPalette", "dark"),
        ("Comfy.VueNodes.Enabled", False),
    ):
        host.post(f"/settings/{name}", value)
    yield host
    host.stop()


@pytest.fixture
def opened(paged: Host, new_page: Any) -> Any:
    """The host's page, ready."""
    page = new_page(viewport={"width": 1400, "height": 900})
    page.allowed.extend(ITS_OWN_TROUBLE)
    page.goto(paged.url)
    page.wait_for_selector(".zit_ext-tab-button", timeout=120_000)
    return page


def set_up(page: Any, seed: int) -> None:
    """Open the first example workflow, small."""
    workflow = json.loads((ROOT / "example_workflows" / "z-image-cached.json").read_text(encoding="utf-8"))
    page.evaluate("(workflow) => window.app.loadGraphData(workflow)", workflow)
    page.evaluate(
        """(seed) => {
            const node = window.app.graph.nodes.find((each) => each.type === "ZitGenerate");
            const small = { width: 64, height: 64, seed, control_after_generate: "fixed" };
            for (const each of node.widgets) if (each.name in small) each.value = small[each.name];
        }""",
        seed,
    )


def run(page: Any) -> list[dict[str, Any]]:
    ending, answered = page.evaluate(RUN)
    assert ending == "execution_success"
    return list(answered)


def badges(page: Any, kind: str) -> list[str]:
    return [text for text in page.evaluate(BADGES, kind) if text and "cached" in text]


def run_until_answered(page: Any, host: Host, kind: str) -> None:
    """Run the open graph until a node wears its badge: what the host still holds itself, nobody is asked."""
    for _ in range(5):
        host.forget()
        run(page)
        if badges(page, kind):
            return
    raise AssertionError(f"{kind} wears no badge")


def test_the_sidebar_shows_our_page_in_the_hosts_theme_and_follows_it(opened):
    opened.click(".zit_ext-tab-button")
    shown = opened.frame_locator('iframe[title="Z-Image cache"]')
    shown.locator("text=Hit rate").first.wait_for()
    root = shown.locator("html")
    assert root.get_attribute("data-theme") == "dark"
    opened.evaluate("window.app.extensionManager.setting.set('Comfy.ColorPalette', 'light')")
    shown.locator("html[data-theme=light]").wait_for()
    opened.evaluate("window.app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
    shown.locator("html[data-theme=dark]").wait_for()
    opened.click(".zit_ext-tab-button")
    opened.locator("iframe").wait_for(state="detached")


def test_a_node_that_was_answered_from_the_cache_wears_a_badge_until_the_next_run(opened, paged):
    set_up(opened, seed=11)
    assert [each["hits"] for each in run(opened)] == [0]
    assert badges(opened, "ZitGenerate") == []
    run_until_answered(opened, paged, "ZitGenerate")
    assert any("cached, " in text for text in badges(opened, "ZitGenerate"))
    set_up(opened, seed=12)
    assert [each["hits"] for each in run(opened)] == [0]
    assert badges(opened, "ZitGenerate") == []


def test_nodes_of_the_new_design_wear_it_too(opened, paged):
    opened.evaluate("window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    set_up(opened, seed=13)
    opened.locator("[data-node-id]").first.wait_for()
    run(opened)
    run_until_answered(opened, paged, "ZitGenerate")
    opened.locator("[data-node-id]", has_text="cached, ").first.wait_for()
    opened.evaluate("window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


def open_graph(page: Any, graph: dict[str, Any]) -> None:
    """Open a graph in the form in which it is posted, as when a file of that kind is dropped on the page.

    The page rounds numbers to a node's steps: 0.34 is 0.3 there.
    """
    numbers = {name: str(number) for number, name in enumerate(graph, 1)}
    graph = {
        numbers[name]: {
            "class_type": node["class_type"],
            "inputs": {
                each: [numbers[value[0]], value[1]] if isinstance(value, list) else value
                for each, value in node["inputs"].items()
            },
        }
        for name, node in graph.items()
    }
    page.evaluate("(graph) => window.app.loadApiJson(graph, 'a test')", graph)


def test_what_cache_any_answers_wears_it(opened, paged):
    open_graph(opened, cached(slow(0.1)))
    run(opened)
    assert badges(opened, "ZitCacheAny") == []
    run_until_answered(opened, paged, "ZitCacheAny")


def texts(page: Any, kind: str) -> list[str]:
    """Return the texts that a node shows below its own widgets."""
    shown = """(type) => window.app.graph.nodes.find((node) => node.type === type).widgets
        .filter((each) => each.name.startsWith("$$")).map((each) => String(each.value))"""
    return list(page.evaluate(shown, kind))


def test_a_node_says_what_became_of_it_without_another_one_to_show_it(opened, paged):
    graph = cached({"class_type": "StrangeSlow", "value": 0.5, "seconds": 0.0})
    graph["told"] = {"class_type": "ZitStatistics", "inputs": {}}
    open_graph(opened, graph)
    run(opened)
    (why,) = texts(opened, "ZitCacheAny")
    assert 'add "zit_strangers" to the setting trusted_packs' in why
    (counted,) = texts(opened, "ZitStatistics")
    assert "of rendering saved" in counted

    open_graph(opened, cached(slow(0.2)))
    run(opened)
    (status,) = texts(opened, "ZitCacheAny")
    assert status.startswith("miss, ")
    run_until_answered(opened, paged, "ZitCacheAny")
    (status,) = texts(opened, "ZitCacheAny")
    assert status.startswith("hit, ")


def test_what_the_cache_provider_answers_wears_it(opened, paged):
    if not (paged.checkout / "comfy_execution" / "cache_provider.py").exists():
        pytest.skip("this ComfyUI knows no cache providers")
    open_graph(opened, plain(slow(0.7)))
    run(opened)
    assert badges(opened, "TestSlow") == []
    run_until_answered(opened, paged, "TestSlow")


def test_the_sidebar_is_reached_and_used_by_keyboard(opened):
    opened.locator(".zit_ext-tab-button").focus()
    opened.keyboard.press("Enter")
    shown = opened.frame_locator('iframe[title="Z-Image cache"]')
    shown.locator("text=Hit rate").first.wait_for()
    gallery = shown.get_by_role("link", name="Gallery", exact=True)
    for _ in range(60):
        opened.keyboard.press("Tab")
        if gallery.evaluate("(link) => link === document.activeElement"):
            break
    assert gallery.evaluate("(link) => link === document.activeElement")
    opened.keyboard.press("Enter")
    shown.locator("[aria-current]", has_text="Gallery").wait_for()


def test_the_sidebar_speaks_chinese_where_the_host_does(paged, new_page):
    paged.post("/settings/Comfy.Locale", "zh")
    try:
        page = new_page(viewport={"width": 1400, "height": 900}, locale="zh-CN")
        page.allowed.extend(ITS_OWN_TROUBLE)
        page.goto(paged.url)
        page.wait_for_selector(".zit_ext-tab-button", timeout=120_000)
        page.click(".zit_ext-tab-button")
        shown = page.frame_locator('iframe[title="Z-Image 缓存"]')
        shown.locator("html[lang^=zh]").wait_for()
        shown.locator("text=命中率").first.wait_for()
    finally:
        paged.post("/settings/Comfy.Locale", "en")
