"""The tab "Z-Image" in a real A1111, in Chromium: `ZIT_A1111_PATH` names its checkout.

As in `test_real_webui.py`; pictures are rendered by a model server of the Python that runs the tests.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .pages import Tab
from .real_webui import RealWebui, with_renderer

Image = pytest.importorskip("PIL.Image", reason="it needs Pillow")
pytestmark = [pytest.mark.host, pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWebui]:
    if not os.environ.get("ZIT_A1111_PATH"):
        pytest.skip("ZIT_A1111_PATH is not set")
    with with_renderer(tmp_path_factory.mktemp("a1111tab")) as webui:
        webui.start()
        webui.txt2img(seed=1)  # loads the webui's own checkpoint
        yield webui


@pytest.fixture
def tab(webui: RealWebui, new_page: Callable[..., Any]) -> Tab:
    theme = os.environ.get("ZIT_THEME", "light")
    page = new_page(viewport={"width": 1400, "height": 1000}, color_scheme=theme)
    page.set_default_timeout(120_000)
    return Tab(page, f"{webui.url}/?__theme={theme}")


def pixels(file: Path | io.BytesIO) -> bytes:
    with Image.open(file) as image:
        return bytes(image.convert("RGB").tobytes())


def shot(tab: Tab, name: str) -> None:
    if folder := os.environ.get("ZIT_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tab.page.screenshot(path=Path(folder) / f"a1111-{name}.png")


def test_a_miss_then_a_hit_with_the_webuis_own_progress_and_files(webui, tab):
    before = len(webui.saved())
    tab.small("a lighthouse", steps=8).fill(width=512, height=512).begin()
    tab.page.locator("#zit_results .progressDiv").wait_for(state="attached")
    miss = tab.answer()
    tab.page.locator("#zit_results .progressDiv").wait_for(state="detached")
    hit = tab.generate()
    tab.page.locator("#zit_gallery img").first.wait_for()
    tab.page.locator("#zit_results .progressDiv").wait_for(state="detached")
    shot(tab, "hit")

    assert miss.startswith("miss"), miss
    assert hit.startswith("hit memory"), hit
    assert "saved" in hit
    assert "Time taken" in hit
    assert tab.page.locator(".toast-body.error").count() == 0
    # Forge hides the infotext in the alpha channel too, packed with the time: those files differ, their
    # pictures do not.
    assert (
        len({pixels(path) if webui.is_forge else path.read_bytes() for path in webui.saved()[before:]}) == 1
    )
    with Image.open(io.BytesIO(webui.saved()[-1].read_bytes())) as image:
        assert "Model hash" not in image.info["parameters"]
        assert "Seed: 7, Size: 512x512, Model: tiny-z-image" in image.info["parameters"]


def test_interrupt_ends_a_render_and_half_a_picture_is_not_kept(webui, tab):
    for _ in range(2):
        tab.small("long", steps=50, seed=5).fill(width=1024, height=1024).begin()
        tab.page.locator("#zit_gallery .livePreview img").first.wait_for(state="attached")
        shot(tab, "progress")
        tab.press("interrupt")
        assert "interrupted" in tab.answer()
    assert webui.txt2img(seed=3)  # the webui's own jobs run as before


def test_what_a_picture_says_is_pasted_back_and_the_webuis_checkpoint_stays(webui, tab):
    def checkpoint() -> Any:
        return webui.get("/sdapi/v1/options")["sd_model_checkpoint"]

    mine = checkpoint()
    tab.small("a fox, (red:1.2)", seed=11, steps=3).generate()
    text = tab.infotext()
    tab.fill(prompt=text, seed=1, steps=8)
    tab.press("paste")
    tab.becomes("prompt", "a fox, (red:1.2)")
    tab.becomes("seed", "11")
    tab.becomes("steps", "3")
    assert tab.generate().startswith("hit")

    # The same text in the webui's own tab: nothing there asks for another checkpoint.
    page = tab.page
    page.locator("#tabs button").filter(has_text="txt2img").first.click()
    page.locator("#txt2img_prompt textarea").fill(text)
    page.locator("#paste").first.click()  # the other one is img2img's
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea').value == 'a fox, (red:1.2)'")
    tab.until(lambda: page.locator("#txt2img_seed input").first.input_value() == "11")
    assert "checkpoint" not in page.locator("#txt2img_override_settings").inner_text().lower()
    assert checkpoint() == mine


def test_the_chosen_picture_is_saved_and_sent_to_img2img_by_the_webuis_own_buttons(webui, tab):
    page = tab.page
    tab.small("to be sent", seed=13).fill(batch_count=3).generate()
    page.locator("#zit_gallery .thumbnails > .thumbnail-item").nth(1).click()
    tab.until(lambda: "Seed: 14," in tab.infotext())
    page.locator("#tabs button").filter(has_text="txt2img").first.click()
    tab.open()
    tab.fill(negative_prompt="something else", seed=5)  # the choice outlives other tabs and fields
    tab.press("reuse_seed")
    tab.becomes("seed", "14")
    page.locator("#save_zit").click()
    tab.until(lambda: list((webui.data / "log").rglob("*.csv")))
    (saved,) = (webui.data / "log").rglob("*.png")
    page.locator("#zit_send_to_img2img").click()
    sent = page.locator("#img2img_image img").first
    tab.until(lambda: (sent.get_attribute("src") or "").startswith("data:image/png;base64,"))
    data = base64.b64decode(sent.get_attribute("src").partition(",")[2])

    with Image.open(saved) as image:
        assert "Seed: 14," in image.info["parameters"]
    assert pixels(io.BytesIO(data)) == pixels(saved)


def test_the_webuis_own_checkpoint_comes_back_with_its_next_job(webui, tab):
    before = webui.txt2img(seed=21, cached=False)
    tab.small("room", seed=17).generate()
    loads = webui.get("/zit/v1/models")["loads"]

    assert webui.txt2img(seed=21, cached=False) == before
    # The weights of Z-Image made room, and are still at hand.
    assert tab.small("room", seed=18).generate().startswith("miss")
    assert webui.get("/zit/v1/models")["loads"] == loads


def test_a_picture_is_pinned_and_another_removed_below_the_tab(webui, tab):
    from playwright.sync_api import expect

    tab.small("an owl that stays", seed=23).generate()
    tab.small("a fox that goes", seed=24).generate()
    tab.unfold("cache").scroll_into_view_if_needed()
    frame = tab.page.frame_locator("#zit_cache iframe")
    frame.get_by_text("Hit rate").first.wait_for()
    shot(tab, "cache")
    frame.get_by_role("link", name="Gallery").first.click()

    def stored(prompt: str) -> list[Any]:
        entries = webui.get("/zit/v1/entries?limit=100")["entries"]
        return [each for each in entries if each.get("prompt") == prompt]

    (owl,), (fox,) = stored("an owl that stays"), stored("a fox that goes")
    owl, fox = (frame.locator(f"[data-key='{each['key']}']") for each in (owl, fox))
    owl.hover()
    owl.locator("[data-test=pin]").click()
    expect(owl.locator("[data-test=pin]")).to_have_attribute("aria-pressed", "true")
    fox.hover()
    shot(tab, "gallery")
    fox.locator("[data-test=remove]").click()
    expect(frame.get_by_role("dialog")).to_contain_text("a fox that goes")
    shot(tab, "remove")
    frame.locator("[data-test=confirm]").click()
    expect(fox).to_have_count(0)

    assert [each["pinned"] for each in stored("an owl that stays")] == [True]
    assert stored("a fox that goes") == []
    assert tab.small("an owl that stays", seed=23).generate().startswith("hit")
    assert tab.small("a fox that goes", seed=24).generate().startswith("miss")


def test_weights_are_let_go_and_loaded_again_below_the_tab(webui, tab):
    from playwright.sync_api import expect

    def held() -> list[Any]:
        return [each["name"] for each in webui.get("/zit/v1/models")["held"]]

    tab.small("weights", seed=25).generate()
    tab.unfold("models").scroll_into_view_if_needed()
    frame = tab.page.frame_locator("#zit_models iframe")
    model = frame.locator(".held-model")
    expect(model).to_have_count(1)
    shot(tab, "models")
    model.locator("[data-test=unload]").click()
    expect(frame.get_by_text("No weights are held")).to_be_visible()
    assert held() == []
    frame.locator("[data-test=preload]").first.click()
    expect(model).to_have_count(1)
    shot(tab, "models-again")
    assert held() == ["tiny-z-image"]
    loads = webui.get("/zit/v1/models")["loads"]
    assert tab.small("weights", seed=26).generate().startswith("miss")
    assert webui.get("/zit/v1/models")["loads"] == loads
