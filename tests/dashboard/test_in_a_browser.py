"""The page over fake weights: who may what, the keyboard, long lists, other languages, trouble."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.http.server import ALICE, CHIEF

pytestmark = [pytest.mark.browser, pytest.mark.http]

PHONE = {"width": 390, "height": 844}
VIEWS = ["#/", "#/gallery", "#/answers", "#/models", "#/health"]


def some(server, count=3, **options):
    """Have a few entries stored; return their keys, the newest first."""
    for seed in range(count):
        server.generate(f"picture number {seed}", seed=seed, **options)
    server.runtime.store.flush()
    headers = options.get("headers")
    return [each["key"] for each in server.get("/zit/v1/entries", headers=headers).json()["entries"]]


# Accessible


def serious(page):
    """Return what axe-core finds serious or critical on the page as it is now."""
    page.wait_for_timeout(500)  # what moves in has come to rest: half-drawn text has no contrast
    found = Axe().run(page).response["violations"]
    return [
        (each["id"], [node["html"][:160] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_everybody_can_use_every_view(served, opened, theme, size):
    key = some(served)[0]
    served.generate("once more", seed=-1)
    page = opened(served, color_scheme=theme, reduced_motion="reduce", **({"viewport": size} if size else {}))
    answer = page.locator(".answer").first.get_attribute("href")

    for view in [*VIEWS, f"#/entry/{key}", answer]:
        page.evaluate(f"location.hash = {view!r}")
        assert serious(page) == [], view
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_empty_views_and_sign_in(served, guarded, opened, theme):
    page = opened(served, color_scheme=theme)
    for view in VIEWS:
        page.evaluate(f"location.hash = {view!r}")
        assert serious(page) == [], view
    page.allowed.append("401")
    page.goto(f"{guarded.url}/zit/")
    page.get_by_label("Token").wait_for()
    assert serious(page) == []


def test_what_is_empty_says_what_to_do(served, opened):
    page = opened(served)
    expect(page.get_by_text("Make a picture, here or in any client")).to_be_visible()

    page.get_by_role("link", name="Gallery", exact=True).click()

    expect(page.get_by_text("Make a picture with a fixed seed")).to_be_visible()


# By keyboard


def test_the_gallery_is_used_by_keyboard_alone(served, opened):
    newest, second, _ = some(served)
    page = opened(served, "#/gallery")
    page.locator(f"[data-key='{newest}'] a").focus()

    page.keyboard.press("ArrowRight")
    expect(page.locator(f"[data-key='{second}'] a")).to_be_focused()
    page.keyboard.press("p")
    expect(page.locator(f"[data-key='{second}'] [data-test=pin]")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(f"[data-key='{second}'] a")).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Home")
    expect(page.locator(f"[data-key='{newest}'] a")).to_be_focused()
    page.keyboard.press("Delete")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(f"[data-key='{newest}']")).to_have_count(0)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_the_focus_can_be_seen_and_the_navigation_skipped(served, opened):
    page = opened(served)
    page.keyboard.press("Tab")

    skip = page.get_by_text("Skip to the content")
    expect(skip).to_be_focused()
    assert skip.evaluate("each => getComputedStyle(each).outlineStyle") != "none"
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_the_chart_is_read_out_by_arrow_keys(served, opened):
    some(served)
    page = opened(served)
    page.get_by_role("img", name="Hit rate, and requests").focus()

    page.keyboard.press("ArrowLeft")

    expect(page.locator(".readout").first).to_contain_text("Miss 3")


# A long list


def test_a_long_list_keeps_the_document_small(serving, opened):
    server = serving(max_entries=0, max_bytes=0)
    store, many = server.runtime.store, 700
    some(server, 1)
    from zit_ext.codecs import Pixels
    from zit_ext.fingerprint import fingerprint

    for number in range(many - 1):
        made = fingerprint({"prompt": f"number {number}", "seed": number})
        while store.usage().waiting > 20:
            store.flush()
        store.keep(
            made,
            Pixels(1, 1, 3, number.to_bytes(3, "big")),
            namespace="default",
            cost=1.0,
            ttl_seconds=None,
            prompt=f"number {number}",
        )
    store.flush()
    page = opened(server, "#/gallery")
    expect(page.locator("[data-test=count]")).to_have_text("700 entries stored")

    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")

    expect(page.locator("[data-place='699']")).to_contain_text("picture number 0")
    assert page.locator(".picture").count() < 100
    page.get_by_role("searchbox").fill("number 42")
    expect(page.locator("[data-test=count]")).to_have_text("11 entries found")


def test_what_is_no_picture_is_listed_without_one(served, opened):
    from zit_ext.fingerprint import fingerprint
    from zit_ext.records import Encoded

    store = served.runtime.store
    for name in ("default", "comfyui"):
        made = fingerprint({"node": "KSampler", "namespace": name})
        kept = Encoded("application/safetensors", name.encode())
        store.keep(made, kept, namespace=name, cost=1.0, ttl_seconds=None, prompt=f"a latent of {name}")
    store.flush()
    page = opened(served, "#/gallery")
    expect(page.locator("[data-test=count]")).to_have_text("2 entries stored")
    expect(page.locator(".no-picture").first).to_have_text("safetensors")

    page.get_by_label("Namespace").select_option("comfyui")

    expect(page.locator("[data-test=count]")).to_have_text("1 entry found")
    page.locator(".picture a").click()
    expect(page.get_by_text("This is no picture, but application/safetensors")).to_be_visible()
    expect(page.locator("[data-test=audit]")).to_have_count(0)


# Who may what


def test_a_token_opens_the_page_and_signing_out_closes_it(guarded, opened):
    some(guarded, 2, headers=ALICE)
    some(guarded, 1, headers=CHIEF)
    page = opened(guarded)
    page.allowed.append("401")
    expect(page.locator(".sign-in code")).to_have_text("zit-ext token")
    page.get_by_label("Token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("This token is not known here")).to_be_visible()

    page.get_by_label("Token").fill("reader-reader-reader")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Gallery", exact=True).click()

    expect(page.locator("[data-test=count]")).to_have_text("2 entries stored")
    assert "reader" not in page.evaluate("document.cookie")
    expect(page.locator("[data-test=remove], [data-test=pin]")).to_have_count(0)
    page.get_by_role("link", name="Overview", exact=True).click()
    expect(page.get_by_role("button", name="Generate")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_whoever_signs_in_next_sees_nothing_of_who_was_there_before(guarded, opened):
    page = opened(guarded)
    page.allowed.append("401")
    page.get_by_label("Token").fill("chief-chief-chief-chief")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_placeholder("A lighthouse").fill("a secret of the chief")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".made-picture")).to_be_visible()
    expect(page.locator(".latest .answer")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()

    page.get_by_label("Token").fill("alice-alice-alice-alice")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_placeholder("A lighthouse")).to_have_value("")
    expect(page.locator(".made-picture, .latest .answer")).to_have_count(0)
    assert "secret" not in page.content()


def test_what_is_being_made_is_shown_and_stopped(served, opened):
    page = opened(served)
    served.trial.pipeline.gate.clear()
    page.get_by_placeholder("A lighthouse").fill("a slow one")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".running-line")).to_contain_text("a slow one")

    page.get_by_role("button", name="Stop this picture").click()

    expect(page.locator(".making [role=alert]")).to_contain_text("stopped")
    expect(page.get_by_text("all quiet")).to_be_visible()


def test_what_is_wrong_with_a_request_is_said_in_words(served, opened):
    page = opened(served)
    page.allowed.append("400")
    page.get_by_placeholder("A lighthouse").fill("a")
    page.get_by_label("Width", exact=True).fill("128")
    page.locator(".making form").evaluate("form => (form.noValidate = true)")
    page.get_by_label("Width", exact=True).fill("100")

    page.get_by_role("button", name="Generate").click()

    expect(page.locator(".making [role=alert]")).to_contain_text("width")


def test_what_would_become_of_a_request_is_told_before_it_is_made(served, opened):
    some(served, 1)
    rendered = len(served.trial.rendered)
    page = opened(served)
    page.get_by_placeholder("A lighthouse").fill("picture number 0")

    page.locator("[data-test=explain]").click()
    expect(page.get_by_text("This would be rendered")).to_be_visible()
    expect(page.locator(".making table").get_by_role("row", name="Seed")).to_contain_text("42")
    page.get_by_label("Seed", exact=True).fill("0")
    page.locator("[data-test=explain]").click()

    expect(page.get_by_text("this would be a hit")).to_be_visible()
    assert len(served.trial.rendered) == rendered


def test_what_cannot_be_asked_is_said_once_in_words(served, opened, monkeypatch):
    from zit_ext.errors import StoreError

    def unusable(*_):
        raise StoreError("a disk that went")

    monkeypatch.setattr(served.runtime.store, "usage", unusable)
    page = opened(served)
    page.allowed.append("503")

    expect(page.locator(".banner")).to_have_text("The store cannot be asked now. Try again in a moment.")


def test_an_entry_that_is_gone_says_so(served, opened):
    page = opened(served, f"#/entry/{'0' * 64}")
    page.allowed.append("404")

    expect(page.get_by_text("There is no entry of this key")).to_be_visible()
    expect(page.get_by_role("link", name="Open the gallery")).to_be_visible()


def test_a_server_that_has_ended_is_noticed(served, opened):
    page = opened(served)
    page.allowed += ["ERR_", "Failed to load resource"]
    expect(page.locator(".wellness")).to_contain_text("All well")

    served.close()

    expect(page.locator(".wellness")).to_contain_text("Trouble", timeout=20_000)


def test_a_page_that_gets_no_stream_asks_again_and_again(serving, opened):
    server = serving(http_max_streams=1)
    with server.get("/zit/v1/events", stream=True):
        page = opened(server)
        page.allowed.append("429")
        page.get_by_role("link", name="Health").click()
        expect(page.get_by_text("asks every few seconds")).to_be_visible()
        page.get_by_role("link", name="Why?").click()

        server.generate("seen without a stream", seed=3)

        expect(page.locator(".answer").first).to_contain_text("seen without a stream", timeout=20_000)


def test_an_audit_that_finds_another_picture_shows_where_they_differ(served, opened):
    key = some(served, 1)[0]
    served.trial.pipeline.salt = 1  # from now on it renders something else
    page = opened(served, f"#/entry/{key}")

    page.locator("[data-test=audit]").click()

    expect(page.locator("[data-test=different]")).to_contain_text("pixels differ")
    expect(page.locator(".audit figure")).to_have_count(3)
    page.wait_for_timeout(300)
    sizes = page.locator(".audit figure img").evaluate_all("all => all.map(image => image.naturalWidth)")
    assert sizes == [4, 4, 4]


# Looks and languages


def test_the_page_speaks_chinese_where_the_browser_does(served, opened):
    page = opened(served, locale="zh-CN")

    expect(page.get_by_role("link", name="图库", exact=True)).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    page.locator("[data-test=language]").click()
    expect(page.get_by_role("link", name="Gallery", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="Gallery", exact=True)).to_be_visible()


def test_the_theme_is_chosen_and_remembered(served, opened):
    page = opened(served)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(2):
        page.locator("[data-test=theme]").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_a_host_shows_the_page_in_a_panel_with_its_theme(served, opened):
    page = opened(served, query="?panel=comfyui&theme=dark&lang=zh", viewport={"width": 340, "height": 700})

    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator(".brand")).to_be_hidden()
    expect(page.get_by_role("link", name="图库", exact=True)).to_be_visible()
    for view in VIEWS:
        page.evaluate(f"location.hash = {view!r}")
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


def test_pages_of_the_same_origin_alone_may_frame_it(served, new_page):
    page = new_page()
    frame = "address => document.body.appendChild(document.createElement('iframe')).src = address"
    page.goto(f"{served.url}/zit/v1/health")

    page.evaluate(frame, "/zit/?panel=a1111&theme=dark")

    expect(page.frame_locator("iframe").get_by_role("link", name="Gallery", exact=True)).to_be_visible()
    page.allowed.append("frame-ancestors")
    page.goto(f"http://localhost:{served.port}/zit/v1/health")  # another origin, as browsers see it
    with page.expect_console_message(lambda said: "frame-ancestors" in said.text):
        page.evaluate(frame, f"{served.url}/zit/?panel=a1111")
    expect(page.frame_locator("iframe").get_by_role("link")).to_have_count(0)
