"""Pictures of the page over a cache with a week behind it: what docs/images/dashboard-*.webp are made from.

ZIT_SCREENSHOTS names a folder to keep them in; the files of the docs are written anew by

    ZIT_SCREENSHOTS=docs/images pytest tests/dashboard/test_in_a_browser_pictures.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .sample import Sample

pytestmark = [pytest.mark.browser, pytest.mark.http, pytest.mark.slow]

DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
STILL = {"reduced_motion": "reduce", "device_scale_factor": 1.5}
MOST_BYTES = 200_000


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    made = Sample(tmp_path_factory.mktemp("sample"))
    yield made.served
    made.close()


@pytest.fixture
def shoot(tmp_path):
    folder = Path(os.environ.get("ZIT_SCREENSHOTS") or tmp_path)

    def shot(page, name):
        """Keep what is on the screen now, as WebP where Pillow is there to make it."""
        page.wait_for_timeout(800)  # what moves has come to rest, pictures are drawn
        png = folder / f"{name}.png"
        page.screenshot(path=png)
        try:
            from PIL import Image
        except ImportError:
            return png
        path = png.with_suffix(".webp")
        with Image.open(png) as picture:
            picture.save(path, quality=88, method=6)
        png.unlink()
        return path

    return shot


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("kind", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_the_overview_shows_a_week(sample, opened, shoot, theme, kind, size):
    page = opened(sample, color_scheme=theme, viewport=size, **STILL)
    expect(page.locator("[data-test=saved]")).to_have_text(re.compile(r"[1-9]\d* (h|min)"))
    expect(page.locator(".timeline rect").first).to_be_attached()
    expect(page.locator(".held-model")).to_contain_text("transformer")

    path = shoot(page, f"dashboard-overview-{kind}-{theme}")

    assert 10_000 < path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize(("kind", "size", "theme"), [("desktop", DESKTOP, "dark"), ("phone", PHONE, "light")])
def test_the_gallery_shows_pictures(sample, opened, shoot, kind, size, theme):
    page = opened(sample, "#/gallery", color_scheme=theme, viewport=size, **STILL)
    expect(page.locator("[data-test=count]")).to_have_text("17 entries stored")
    there = "[...document.querySelectorAll('.frame img')].every(image => image.naturalWidth > 0)"
    for _ in range(100):  # the page's policy does not let Playwright's own way of waiting evaluate text
        if page.evaluate(there):
            break
        page.wait_for_timeout(50)
    assert page.evaluate(there)

    path = shoot(page, f"dashboard-gallery-{kind}-{theme}")

    assert 10_000 < path.stat().st_size < MOST_BYTES


def test_a_miss_shows_what_differs(sample, opened, shoot):
    page = opened(sample, "#/answers", viewport={"width": 1280, "height": 700}, **STILL)
    page.locator(".answer", has_text="gouache").first.click()
    expect(page.locator("table.compare mark").first).to_be_visible()

    path = shoot(page, "dashboard-why-desktop-light")

    assert 10_000 < path.stat().st_size < MOST_BYTES
