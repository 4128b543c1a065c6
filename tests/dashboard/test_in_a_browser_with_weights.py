"""What a person does with the page, by clicks, against the real pipeline with a tiny model."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.http.server import Served
from zit_ext.plugins import find_plugins
from zit_ext.runtime import Runtime
from zit_ext.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.http, pytest.mark.pipeline]

SMALL = {"width": 64, "height": 64, "steps": 2}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    from zit_ext.models.tiny import build

    place = tmp_path_factory.mktemp("real")
    settings = Settings(
        cache_dir=place / "cache",
        data_dir=place / "data",
        model=str(build(place / "tiny")),
        offline=True,
        renderer="local",
    )
    runtime = Runtime(settings, plugins=find_plugins(entry_points=False))
    served = Served(runtime)
    yield served
    served.close()
    runtime.close()


def stored(real, prompt, **fields):
    answer = real.generate(prompt, **SMALL, **fields)
    assert answer.status_code == 200, answer.text
    real.runtime.store.flush()
    return answer.json()["images"][0]["key"]


def test_a_miss_and_then_a_hit_appear_without_reload(real, opened):
    page = opened(real)
    page.evaluate("window.sameDocument = true")
    page.get_by_placeholder("A lighthouse at dusk").fill("a red kite over the sea")
    for label, value in (("Seed", "11"), ("Width", "64"), ("Height", "64"), ("Steps", "2")):
        page.get_by_label(label, exact=True).fill(value)

    page.get_by_role("button", name="Generate").click()
    # The first one imports torch.
    expect(page.locator(".made-miss")).to_contain_text("Rendered in", timeout=200_000)
    first = page.locator(".made-picture").get_attribute("src")
    expect(page.locator(".latest .answer").first).to_have_attribute("data-outcome", "miss")
    real.runtime.store.flush()
    page.get_by_role("button", name="Generate").click()

    expect(page.locator(".made-hit")).to_contain_text("That saved")
    assert page.locator(".made-picture").get_attribute("src") == first
    expect(page.locator(".latest .answer").first).to_have_attribute("data-outcome", "hit")
    expect(page.locator("[data-test=saved]")).not_to_have_text("0 s")
    expect(page.locator("[data-test=rate]")).to_have_text(re.compile(r"[1-9]\d*%"))
    assert page.evaluate("window.sameDocument") is True


def test_a_hit_that_another_client_got_appears_by_itself(real, opened):
    stored(real, "asked for elsewhere", seed=5)
    page = opened(real)
    expect(page.locator(".latest .answer").first).to_contain_text("asked for elsewhere")

    real.generate("asked for elsewhere", seed=5, **SMALL)

    newest = page.locator(".latest .answer").first
    expect(newest).to_have_attribute("data-outcome", "hit")
    expect(newest).to_contain_text("asked for elsewhere")


def test_the_gallery_is_searched_pinned_and_deleted_in_by_clicks(real, opened):
    fox, owl = stored(real, "a fox in the snow", seed=21), stored(real, "an owl at night", seed=22)
    page = opened(real, "#/gallery")
    expect(page.locator(f"[data-key='{fox}'] img")).to_have_js_property("complete", True)
    assert page.locator(f"[data-key='{fox}'] img").evaluate("image => image.naturalWidth") > 0

    page.get_by_role("searchbox").fill("owl at NIGHT")
    expect(page.locator("[data-test=count]")).to_have_text("1 entry found")
    expect(page.locator(f"[data-key='{owl}']")).to_be_visible()
    expect(page.locator(f"[data-key='{fox}']")).to_have_count(0)

    page.locator(f"[data-key='{owl}']").hover()
    page.locator(f"[data-key='{owl}'] [data-test=pin]").click()
    expect(page.locator(f"[data-key='{owl}'] [data-test=pin]")).to_have_attribute("aria-pressed", "true")
    assert real.runtime.store.entry(owl).entry.pinned

    page.locator(f"[data-key='{owl}'] [data-test=remove]").click()
    expect(page.get_by_role("dialog")).to_contain_text("an owl at night")
    page.locator("[data-test=confirm]").click()
    expect(page.get_by_text("Nothing like that is stored")).to_be_visible()
    assert real.runtime.store.entry(owl) is None
    assert real.runtime.store.entry(fox) is not None


def test_whoever_thinks_better_of_it_deletes_nothing(real, opened):
    key = stored(real, "a picture that stays", seed=23)
    page = opened(real, f"#/entry/{key}")

    page.locator("[data-test=remove]").click()
    page.keyboard.press("Escape")

    expect(page.get_by_role("dialog")).to_have_count(0)
    assert real.runtime.store.entry(key) is not None


def test_an_entry_shows_all_its_fields_and_gives_its_settings(real, opened):
    key = stored(real, "a harbour in fog", seed=31)
    page = opened(real, f"#/entry/{key}", permissions=["clipboard-read", "clipboard-write"])

    fields = page.locator(".fields").first
    for name in ("Prompt", "Seed", "Environment"):
        expect(fields.get_by_text(name, exact=True).first).to_be_visible()
    fields.locator("summary", has_text="Scheduler").click()
    expect(fields.get_by_text("FlowMatchEulerDiscreteScheduler")).to_be_visible()
    page.locator("[data-test=copy]").click()
    expect(page.locator(".toast")).to_contain_text("on the clipboard")
    copied = page.evaluate("navigator.clipboard.readText().then(JSON.parse)")
    assert copied == {
        "prompt": "a harbour in fog",
        "seed": 31,
        "width": 64,
        "height": 64,
        "steps": 2,
        "guidance": 0,
        "max_sequence_length": 512,
        "generator_device": "cpu",
        "model": copied["model"],
    }
    # They are settings of a request: asked for again, it is a hit.
    assert real.post("/zit/v1/generate", copied).json()["cached"]


def test_a_seed_of_64_bits_keeps_all_its_digits(real, opened):
    seed = 2**63 + 1
    key = stored(real, "a seed of ComfyUI", seed=seed)
    page = opened(real, f"#/entry/{key}", permissions=["clipboard-read", "clipboard-write"])

    expect(page.locator(".fields").first.get_by_text(str(seed))).to_be_visible()
    page.locator("[data-test=copy]").click()
    expect(page.locator(".toast")).to_contain_text("on the clipboard")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert real.post("/zit/v1/generate", json.loads(copied)).json()["cached"]
    page.get_by_role("button", name="Use these settings").click()
    expect(page.locator("#seed")).to_have_value(str(seed))
    page.locator("form button[type=submit]").click()
    expect(page.locator(".made-hit")).to_be_visible(timeout=60_000)


def test_an_audit_renders_again_and_finds_no_difference(real, opened):
    key = stored(real, "a mill by the river", seed=41)
    page = opened(real, f"#/entry/{key}")

    page.locator("[data-test=audit]").click()

    expect(page.locator("[data-test=identical]")).to_contain_text("Identical, to the bit", timeout=60_000)
    expect(page.locator(".audit figure")).not_to_have_count(0)


def test_why_a_request_missed_is_shown_field_by_field(real, opened):
    stored(real, "a bridge of stone", seed=51)
    key = stored(real, "a bridge of glass", seed=52)
    page = opened(real)

    page.locator(".latest .answer", has_text="a bridge of glass").first.click()

    table = page.locator("table.compare")
    expect(table.get_by_role("row", name="Seed")).to_contain_text("52")
    expect(table.get_by_role("row", name="Seed")).to_contain_text("51")
    expect(table.locator("mark").filter(has_text="glas")).to_be_visible()
    page.get_by_role("link", name="Open the entry").click()
    expect(page).to_have_url(re.compile(f"#/entry/{key}$"))


def test_weights_are_let_go_and_loaded_again_by_clicks(real, opened):
    stored(real, "something that needs the weights", seed=61)
    page = opened(real, "#/models")
    held = page.locator(".held-model")
    expect(held).to_have_count(1)
    expect(held).to_contain_text("transformer")
    # On a CPU there is one memory, and it is called so.
    expect(held).not_to_contain_text("VRAM")
    expect(page.get_by_text("In RAM", exact=True)).to_be_visible()
    expect(page.get_by_text("On the device", exact=True)).to_have_count(0)

    held.locator("[data-test=unload]").click()
    expect(page.get_by_text("No weights are held")).to_be_visible()
    assert real.get("/zit/v1/models").json()["held"] == []

    page.locator("[data-test=preload]").first.click()
    expect(held).to_have_count(1)
    assert len(real.get("/zit/v1/models").json()["held"]) == 1


def test_weights_that_have_to_wait_are_said_to_wait(real, opened):
    real.post("/zit/v1/models/unload", {})
    page = opened(real, "#/models")
    told = json.dumps({"loaded": False, "state": "loading when the render is done"})
    page.route("**/v1/models/preload", lambda route: route.fulfill(status=202, body=told))

    page.locator("[data-test=preload]").first.click()

    expect(page.locator(".toast")).to_contain_text("is loaded when its turn has come")
