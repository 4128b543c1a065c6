"""docs/http-api.md shows what really works: its examples are executed, in their order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zit_ext.http.everything import all_routes
from zit_ext.settings import Settings

pytestmark = pytest.mark.http

DOCS = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)


def test_the_examples_work(served, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLES) == 6
    for example in EXAMPLES:
        assert "7788" in example
        exec(compile(example.replace("7788", str(served.port)), "http-api.md", "exec"), {})  # noqa: S102

    told = capsys.readouterr().out
    assert "zit_ext; fwd=miss; stored" in told
    assert "zit_ext; hit" in told
    assert (tmp_path / "fox.png").stat().st_size > 0


def test_every_setting_of_the_http_api_is_explained():
    for each in Settings.described():
        if each.name.startswith("http_") and each.name != "http_memory_bytes":
            assert f"`{each.name}`" in DOCS, each.name


def test_every_route_under_zit_is_mentioned():
    for route in all_routes():
        if route.path.startswith("/zit/v1/"):
            name = route.path.removeprefix("/zit/v1/").replace("{key}", "KEY").replace("{other}", "KEY")
            assert name.split("/")[-1].replace("{number}", "NUMBER") in DOCS, route.path
