"""The tab in two Gradios, started for real, in Chromium, with a model server and the tiny model behind it."""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from .pages import GRADIOS, NOISE, FakePage, Tab, end_server, environment

ROOT = Path(__file__).parents[2]
Image = pytest.importorskip("PIL.Image", reason="it needs Pillow")
pytestmark = [pytest.mark.webui, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=sorted(GRADIOS))
def webui(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePage]:
    """A webui with one of the two Gradios; renders take place in a model server of this Python."""
    if find_spec("diffusers") is None:
        pytest.skip("needs the group webui")
    from zit_ext.models.tiny import build

    folder = tmp_path_factory.mktemp(request.param)
    made = FakePage(environment(request.param), folder, build(folder / "tiny-z-image"), request.param)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        end_server(made.data)


@pytest.fixture
def tab(webui: FakePage, page: Any) -> Tab:
    return Tab(page, webui.url)


def ask(webui: FakePage, path: str, **headers: str) -> bytes:
    request = urllib.request.Request(webui.url + path, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        data: bytes = answer.read()
        return data


def status(webui: FakePage, path: str) -> int:
    try:
        ask(webui, path)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


def told(webui: FakePage) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(ask(webui, "/fake"))
    return values


def shot(tab: Tab, webui: FakePage, name: str) -> None:
    """Keep a screenshot where ZIT_SHOTS says, for whoever wants to see the page."""
    if folder := os.environ.get("ZIT_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tab.page.screenshot(path=Path(folder) / f"tab-{webui.name}-{name}.png", full_page=True)


def test_a_picture_is_rendered_once_and_found_again_after_a_restart(webui, tab):
    before = len(webui.saved())
    miss = tab.small("a lighthouse").generate()
    first = [ask_picture(webui, each) for each in tab.pictures()]
    hit = tab.generate()
    shot(tab, webui, "hit")
    webui.stop(kill=True)
    webui.start()
    again = Tab(tab.page, webui.url)
    after = again.small("a lighthouse").generate()

    assert miss.startswith("miss"), miss
    assert hit.startswith("hit memory"), hit
    assert "saved" in hit
    assert after.startswith("hit disk"), after
    assert len(set(webui.saved()[before:])) == 1  # three files, one content: pixels and infotext
    assert [ask_picture(webui, each) for each in again.pictures()] == first
    assert told(webui)["modules"] == []  # the webui's own Python needs none of what renders
    assert "Seed: 7, Size: 128x128" in again.infotext()


def ask_picture(webui: FakePage, address: str) -> bytes:
    path = address.removeprefix(webui.url)
    with Image.open(io.BytesIO(ask(webui, path if path.startswith("/") else f"/{path}"))) as image:
        return image.tobytes()


def test_a_batch_is_partly_found_and_each_picture_says_its_seed(webui, tab):
    tab.small("a batch", seed=21).generate()
    said = tab.fill(seed=20, batch_count=3).generate()

    assert [word for word in said.split() if word in ("hit", "miss")] == ["miss", "hit", "miss"]
    assert [f"seed {seed}" in said for seed in (20, 21, 22)] == [True] * 3
    assert len(tab.pictures()) == 3
    shot(tab, webui, "batch")
    for number in (2, 1):
        tab.page.locator("#zit_gallery .thumbnails > .thumbnail-item").nth(number).click()
        tab.until(lambda number=number: f"Seed: {20 + number}," in tab.infotext())
    tab.fill(seed=30).generate()
    tab.until(lambda: "Seed: 31," in tab.infotext())  # the gallery goes on showing the second
    tab.fill(seed=5)
    tab.press("reuse_seed")
    tab.becomes("seed", "31")
    tab.press("random_seed")
    tab.becomes("seed", "-1")


def test_the_seed_of_a_picture_comes_back_to_the_last_digit(webui, tab):
    tab.small("a large number", seed=2**64 - 1)
    tab.press("reuse_seed")  # there is no picture yet
    assert f"seed {2**64 - 1}" in tab.generate()
    tab.fill(seed=5)
    tab.press("reuse_seed")
    tab.becomes("seed", str(2**64 - 1))


def test_steps_and_interrupt_reach_the_webuis_own_state_and_half_a_picture_is_not_kept(webui, tab):
    for _ in range(2):  # the second time it is rendered again
        begun = told(webui)["begun"]
        tab.small("a long render", steps=50, seed=5).fill(width=1024, height=1024).begin()
        tab.until(lambda begun=begun: told(webui)["begun"] > begun and told(webui)["steps"][0] > 0)
        tab.press("interrupt")
        assert "interrupted" in tab.answer()
        assert told(webui)["steps"][1] == 50


def test_what_a_picture_says_of_itself_is_read_back_into_the_fields(webui, tab):
    tab.small("  a fox, <b> & (x:1.2)", seed=2**64 - 1, guidance=1.3, steps=3).fill(
        negative_prompt="grey"
    ).generate()
    with Image.open(io.BytesIO(webui.saved()[-1])) as saved:
        tab.fill(prompt=saved.info["parameters"])
    tab.fill(negative_prompt="other", seed=1, guidance=0, steps=8, width=512, height=64)
    tab.press("paste")
    tab.becomes("negative_prompt", "grey")

    names = ("prompt", "negative_prompt", "seed", "guidance", "steps", "width", "height")
    assert {name: tab.value(name) for name in names} == {
        "prompt": "  a fox, <b> & (x:1.2)",
        "negative_prompt": "grey",
        "seed": str(2**64 - 1),
        "guidance": "1.3",
        "steps": "3",
        "width": "128",
        "height": "128",
    }
    assert tab.generate().startswith("hit")


def test_a_picture_to_start_from_and_the_scheduler_make_other_pictures(webui, tab, tmp_path):
    start = tmp_path / "start.png"
    Image.linear_gradient("L").convert("RGB").save(start)
    plain = tab.small("from a picture").generate()
    one = tab.pictures()
    tab.unfold("img2img").locator("input[type=file]").first.set_input_files(start)
    tab.page.locator("#zit_image img").first.wait_for()
    said = tab.generate()
    assert (plain[:4], said[:4]) == ("miss", "miss")
    assert tab.pictures() != one
    assert "Denoising strength: 0.6" in tab.infotext()
    assert tab.generate().startswith("hit")
    tab.unfold("scheduler")
    assert tab.fill(shift=5).generate().startswith("miss")
    assert "Z-Image shift: 5.0" in tab.infotext()


def test_sizes_are_chosen_and_swapped(tab):
    tab.choose("size", "1216 x 832")
    tab.becomes("width", "1216")
    tab.becomes("height", "832")
    tab.press("swap")
    tab.becomes("width", "832")
    tab.becomes("height", "1216")


def test_a_lora_is_found_written_into_the_prompt_and_applied(webui, tab):
    from tests.pipeline.test_loras import save_lora

    folder = webui.folder / "models" / "Lora"
    made = save_lora(webui.folder / "made", seed=1)
    folder.mkdir(parents=True, exist_ok=True)
    made.rename(folder / "my ink.safetensors")
    tab.press("look")
    tab.choose("lora", "my ink")
    tab.becomes("prompt", "<lora:my ink:1>")
    assert tab.small("a cat <lora:my ink:1>").generate().startswith("miss")
    assert tab.small("a cat <lora:my ink:0.5>").generate().startswith("miss")
    assert tab.small("a cat <lora:my ink:1>").generate().startswith("hit")
    assert "a cat <lora:my ink:1>" in tab.infotext()
    assert "no such LoRA" in tab.small("a cat <lora:nobody:1>").generate()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"seed": "seven"}, "seed"), ({"width": 130}, "width"), ({"seed": 2**70}, "seed")],
)
def test_what_cannot_be_is_said_by_the_field_and_costs_nothing(tab, wrong, words):
    said = (
        tab.small("wrong", **wrong).generate()
        if "width" not in wrong
        else tab.small("wrong").fill(**wrong).generate()
    )

    assert words in said
    assert "Traceback" not in said


def test_a_field_that_is_empty_is_named(webui, tab):
    tab.small("nothing in it")
    tab.page.locator("#zit_steps input[type=number]").first.fill("")
    tab.begin(
        by="document.querySelector('#zit_generate').click()"
    )  # as a key does: the field keeps the focus
    said = tab.answer()

    assert "steps = None: give a number" in said


def test_a_picture_that_cannot_be_saved_is_shown_all_the_same(webui, tab):
    outputs = webui.folder / "outputs"
    outputs.mkdir(exist_ok=True)
    aside = outputs.rename(webui.folder / "aside")
    outputs.write_text("in the way")
    try:
        said = [tab.small("nowhere to go", seed=8).generate() for _ in range(2)]
    finally:
        outputs.unlink()
        aside.rename(outputs)

    assert [each.split()[0] for each in said] == ["miss", "hit"]
    assert all("could not be saved" in each for each in said)
    assert len(tab.pictures()) == 1


def test_the_webuis_own_checkpoint_makes_room_for_a_render_and_not_for_a_hit(webui, tab):
    def bring_back() -> None:
        tab.press("bring_back")
        tab.until(lambda: told(webui)["checkpoint"] == "cuda")

    tab.unfold("models")
    bring_back()
    tab.small("room", seed=90).generate()
    assert told(webui)["checkpoint"] == "cpu"
    bring_back()
    assert tab.generate().startswith("hit")
    assert told(webui)["checkpoint"] == "cuda"
    tab.press("free_now")
    tab.until(lambda: told(webui)["checkpoint"] == "cpu")


def test_cache_and_models_are_shown_by_the_dashboard_in_the_pages_theme(webui, new_page):
    page = new_page(viewport={"width": 1280, "height": 1000}, color_scheme="dark")
    tab = Tab(page, f"{webui.url}/?__theme=dark")
    tab.small("for the dashboard").generate()
    tab.unfold("cache").scroll_into_view_if_needed()
    frame = page.frame_locator("#zit_cache iframe")
    frame.get_by_text("Hit rate").first.wait_for()
    assert page.evaluate("document.querySelector('#zit_cache iframe').src").endswith(
        "zit/?panel=a1111&theme=dark&lang=en#overview"
    )
    shot(tab, webui, "cache-dark")
    tab.unfold("models").scroll_into_view_if_needed()
    page.frame_locator("#zit_models iframe").get_by_text("tiny-z-image").first.wait_for()
    shot(tab, webui, "models-dark")


def test_every_word_of_the_tab_is_translated(webui):
    parts = [
        each["props"]
        for each in json.loads(ask(webui, "/config"))["components"]
        if str(each["props"].get("elem_id", "")).startswith("zit_")
    ]
    words = {each.get(name) for each in parts for name in ("label", "placeholder")}
    words |= {each["value"] for each in parts if each.get("variant") in ("primary", "secondary")}
    translated = json.loads((ROOT / "localizations" / "zh_CN.json").read_text("utf-8"))

    assert {"Prompt", "Generate", "Swap sides", "Image to image"} <= words
    assert words - {None, "", "Select..."} <= translated.keys()


def test_set_up_rendering_says_what_comes_and_what_went_wrong(webui, new_page, monkeypatch):
    for name, value in {
        "ZIT_SERVER_PYTHON": "auto",
        "ZIT_DATA_DIR": str(webui.folder / "nothing yet"),
        "PIP_NO_INDEX": "1",  # as if it were offline
        "PIP_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setitem(webui.environ, name, value)
    webui.stop()
    webui.start()
    page = new_page(viewport={"width": 1280, "height": 1100})
    tab = Tab(page, webui.url)
    state = page.locator("#zit_setup_state").last
    assert "a download of up to" in state.inner_text()
    shot(tab, webui, "setup")
    said = tab.small("too early", seed=99).generate()
    assert "rendering is not set up yet" in said
    assert "press Set up rendering" in said
    tab.press("setup_begin")
    state.get_by_text("The download is").wait_for(timeout=120_000)
    tab.until(lambda: state.locator(".error").count())
    said = state.inner_text()
    shot(tab, webui, "setup-failed")

    assert "installing torch" in said
    assert "torch" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_webui_with_passwords_shows_the_cache_to_whoever_is_logged_in_and_to_no_stranger(webui, new_page):
    webui.stop()
    webui.start("--api-auth", "bob:word", "--gradio-auth", "ann:secret")
    blob = "/zit/blobs/" + "0" * 64
    for path in ("/zit/", "/zit", "/zit/v1/stats", "/zit/v1/health", "/zit/v1/entries", blob):
        assert status(webui, path) == 401, path
    basic = "Basic " + base64.b64encode(b"bob:word").decode()
    assert json.loads(ask(webui, "/zit/v1/session", authorization=basic))["name"] == "bob"

    page = new_page()
    page.allowed += [*NOISE, "401"]
    page.goto(webui.url, wait_until="domcontentloaded")
    page.get_by_label("username").fill("ann")
    page.get_by_label("password").fill("secret")
    page.get_by_role("button", name="Login").click()
    page.locator("#tabs").first.wait_for()
    tab = Tab(page, webui.url)
    tab.unfold("cache")
    page.frame_locator("#zit_cache iframe").get_by_text("Hit rate").first.wait_for()
