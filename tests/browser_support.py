"""A real browser for the tests with the mark `browser`: the machine's own Chromium, driven by Playwright.

    @pytest.mark.browser
    def test_a_page(page, served):
        page.goto(served.url)

`page` is a fresh, empty profile with nothing cached. A test that ends with an error of the page's script, or
with something that its Content-Security-Policy refused, fails; `page.allowed` takes regular expressions of
messages that a test expects. Every request that leaves loopback is refused and fails the test too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from zit_ext.installing.browsers import chromium

# As root there is no sandbox; the rest keeps a browser from calling home.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
LOCAL = {"127.0.0.1", "localhost", "::1"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running Chromium (playwright.sync_api.Browser).

    One for each module, not for the session: while Playwright runs, this thread has a running event loop,
    and tests with the asyncio of their own cannot run. So they do not belong into a module with pages.
    """
    path = chromium()
    if path is None:
        pytest.skip("needs Chromium; ZIT_CHROMIUM names it if it is not on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the group browser")
    playwright.expect.set_options(timeout=60_000)  # its own 5 seconds are short on a busy machine
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=list(FLAGS), timeout=120_000)
        yield started
        started.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages: `new_page(color_scheme="dark", viewport={"width": 390, "height": 844}, locale="zh-CN")`."""
    contexts: list[Any] = []
    wrong: list[str] = []
    allowed: list[str] = []

    def opened(**options: Any) -> Any:
        context = browser.new_context(**{"locale": "en-US", **options})
        contexts.append(context)
        context.set_default_timeout(60_000)
        context.route(lambda url: urlsplit(url).hostname not in LOCAL, refuse)
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and wrong.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.allowed = allowed
        return page

    def refuse(route: Any) -> None:
        wrong.append(f"left the machine: {route.request.url}")
        route.abort()

    yield opened
    for context in contexts:
        context.close()
    unexpected = [each for each in wrong if not any(re.search(known, each) for known in allowed)]
    assert not unexpected, "\n".join(unexpected)


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """One page of 1280 x 800 in the light theme."""
    return new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
