"""The settings page in a fake webui, and the words that are translated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.pipeline  # the fake webui's samples are torch's


def test_the_settings_page_shows_every_setting_but_those_that_name_code(webui):
    from zit_ext import Settings

    webui.settings_page.register()
    for added in webui.fake.callbacks["ui_settings"]:
        added()
    shown = webui.fake.options.added

    assert {f"zit_{each.name}" for each in Settings.described()} - shown.keys() == {
        "zit_server_python",
        "zit_plugin_dir",
        "zit_data_dir",
    }
    assert shown["zit_native_cache"].default is False
    assert all(each.details["restrict_api"] for name, each in shown.items() if name != "zit_native_cache")


def test_a_wrong_value_on_the_settings_page_is_reported_and_left_out(webui, caplog):
    webui.fake.options.data |= {"zit_max_entries": "many", "zit_ttl_seconds": "7d"}
    webui.settings_page._add_page()
    settings, wrong = webui.settings_page.host.settings()

    assert (settings.max_entries, settings.ttl_seconds) == (1000, 7 * 86_400)
    assert len(wrong) == 1
    assert "max_entries" in caplog.text


def test_what_is_translated_is_what_is_shown(webui):
    import gradio

    from a1111_extension import settings_page

    shown = []
    gradio.Checkbox = lambda **details: shown.append(details["label"])
    webui.script.ui(False)
    webui.settings_page._add_page()
    shown += [webui.script.title(), settings_page.SECTION[1]]
    shown.append(webui.fake.options.added["zit_native_cache"].label)
    translated = json.loads((Path(__file__).parents[2] / "localizations" / "zh_CN.json").read_text("utf-8"))

    assert translated.keys() >= set(shown)
