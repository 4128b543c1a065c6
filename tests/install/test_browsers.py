from __future__ import annotations

from pathlib import Path

import pytest

from zit_ext.installing import browsers, groups


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_browser_that_is_named_wins(tmp_path):
    named = program(tmp_path / "mine" / "browser")
    program(tmp_path / "bin" / "chromium")

    found = browsers.chromium({"ZIT_CHROMIUM": str(named), "PATH": str(tmp_path / "bin")})

    assert found == str(named)


def test_a_named_browser_that_is_not_there_is_none_and_no_other_is_taken(tmp_path):
    program(tmp_path / "bin" / "chromium")

    found = browsers.chromium({"ZIT_CHROMIUM": str(tmp_path / "no"), "PATH": str(tmp_path / "bin")})

    assert found is None


@pytest.mark.skipif("sys.platform == 'win32'", reason="programs have no suffix")
def test_a_browser_on_the_path_is_found(tmp_path):
    program(tmp_path / "bin" / "google-chrome")

    found = browsers.chromium({"PATH": str(tmp_path / "bin")}, platform="linux")

    assert found == str(tmp_path / "bin" / "google-chrome")


def test_chrome_is_found_where_windows_keeps_it(tmp_path):
    chrome = program(tmp_path / "Google" / "Chrome" / "Application" / "chrome.exe")

    found = browsers.chromium({"PATH": "", "PROGRAMFILES": str(tmp_path)}, platform="win32")

    assert found == str(chrome)


def test_without_a_browser_the_group_says_what_it_needs(checkout):
    choice = groups.choose(["browser"], checkout, {"ZIT_CHROMIUM": "/nowhere/chromium"})

    assert choice.chosen == ()
    assert "ZIT_CHROMIUM" in choice.left_out[0][1]
