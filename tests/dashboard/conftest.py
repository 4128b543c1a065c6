"""Pages of a real server: over the tiny model with real weights, or over fake ones where that is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

if any(find_spec(name) is None for name in ("aiohttp", "requests", "playwright", "axe_playwright_python")):
    collect_ignore_glob = ["test_in_*.py"]  # the groups "http" and "browser" are not installed
else:
    from tests.http.conftest import guarded, served, serving, tokens  # noqa: F401


@pytest.fixture
def opened(new_page: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Open the page of a server: `opened(served, "#/gallery", color_scheme="dark")`."""

    def open_page(server: Any, hash: str = "#/", query: str = "", **options: Any) -> Any:
        page = new_page(**{"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", **options})
        page.goto(f"{server.url}/zit/{query}{hash}")
        page.locator("main").wait_for()
        return page

    return open_page
