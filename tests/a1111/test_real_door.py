"""Passwords of a real A1111: whom it lets in at `/zit/*` and in the tab, in Chromium.

`ZIT_A1111_PATH` names its checkout, as in `test_real_tab.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from zit_ext.http.everything import zit_routes

from .pages import NOISE, Tab
from .real_webui import RealWebui, basic, with_renderer

pytestmark = [pytest.mark.host, pytest.mark.browser, pytest.mark.timeout(900)]

API = ("--api-auth", "ann:secret")
PAGE = ("--gradio-auth", "bob:word")
STRANGERS: list[dict[str, str]] = [
    {},
    basic("ann:wrong"),
    basic("bob:word"),  # the page's password is none of the API's
    {"authorization": "Bearer secret"},
    {"cookie": "access-token=guessed; access-token-unsecure=guessed"},
]
LOCKS = {"api": API, "page": PAGE, "both": (*API, *PAGE)}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWebui]:
    if not os.environ.get("ZIT_A1111_PATH"):
        pytest.skip("ZIT_A1111_PATH is not set")
    with with_renderer(tmp_path_factory.mktemp("a1111door")) as webui:
        yield webui


@pytest.fixture(scope="module", params=sorted(LOCKS))
def locked(installed: RealWebui, request: pytest.FixtureRequest) -> Iterator[tuple[str, RealWebui]]:
    """A webui behind passwords, and which."""
    installed.start(*LOCKS[request.param])
    try:
        yield request.param, installed
    finally:
        installed.stop()


def every_path() -> list[tuple[str, str]]:
    """Return all routes under `/zit`, with something in the place of each name."""
    return [(each.method, re.sub(r"\{\w+(\.\.\.)?\}", "0" * 64, each.path)) for each in zit_routes()]


def test_no_stranger_is_answered_by_any_route(locked):
    _, webui = locked
    paths = every_path()
    assert len(paths) > 30
    let_in = [
        (method, path, stranger)
        for stranger in STRANGERS
        for method, path in paths
        if webui.status(method, path, stranger) != 401
    ]

    assert let_in == []


def test_who_signs_in_makes_a_picture_and_sees_the_cache(locked, new_page):
    kind, webui = locked
    # --api-auth asks a browser for name and password; --gradio-auth has a page for it.
    known = {"http_credentials": {"username": "ann", "password": "secret"}} if kind == "api" else {}
    page = new_page(viewport={"width": 1400, "height": 1000}, **known)
    page.set_default_timeout(120_000)
    page.allowed += [*NOISE, "401"]
    if kind != "api":
        sign_in(page, webui.url)
    tab = Tab(page, webui.url)

    assert tab.small(f"behind the lock {kind}", seed=31).generate().startswith("miss")
    assert tab.generate().startswith("hit")
    tab.unfold("cache").scroll_into_view_if_needed()
    frame = page.frame_locator("#zit_cache iframe")
    frame.get_by_text("Hit rate").first.wait_for()
    frame.get_by_role("link", name="Gallery").first.click()
    frame.locator("[data-key] img").first.wait_for()


def sign_in(page: Any, url: str) -> None:
    page.goto(url, wait_until="domcontentloaded")
    page.get_by_label("username").fill("bob")
    page.get_by_label("password").fill("word")
    page.get_by_role("button", name="Login").click()
    page.locator("#tabs").first.wait_for()


def test_who_has_a_name_and_a_password_of_the_api_is_answered(locked):
    kind, webui = locked
    known = webui.status("GET", "/zit/v1/stats", basic("ann:secret"))

    assert known == (401 if kind == "page" else 200)


def test_the_tab_itself_renders_for_no_stranger(locked):
    """What Generate asks of the page is the webui's own door: closed by --gradio-auth, and by that alone."""
    kind, webui = locked
    config = webui.status("GET", "/config")

    assert config == (200 if kind == "api" else 401)
