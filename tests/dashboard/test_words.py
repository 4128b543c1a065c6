"""The words of the page: every language has all of them, and nothing is asked for that is not there."""

from __future__ import annotations

import fnmatch
import json
import re

import pytest

from zit_ext.http.pages import FOLDER, all_files

LANGUAGES = sorted(path.stem for path in (FOLDER / "locales").glob("*.json"))
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js")}
NAMED = r"""["'`]([a-z]+(?:\.(?:\w|\$\{[^`]*?\})+)+)["'`]"""


def words(language: str) -> dict[str, object]:
    return json.loads((FOLDER / "locales" / f"{language}.json").read_text(encoding="utf-8"))


def places(value: object) -> set[str]:
    forms = value.values() if isinstance(value, dict) else [value]
    return {place for form in forms for place in re.findall(r"\{(\w+)\}", str(form))}


def test_there_are_english_and_chinese():
    assert LANGUAGES == ["en", "zh"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_words_in_the_same_order(language):
    assert list(words(language)) == list(words("en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_fill_in_the_same_places(language):
    english = words("en")

    assert {name: places(value) for name, value in words(language).items()} == {
        name: places(value) for name, value in english.items()
    }


def test_words_that_the_page_asks_for_are_there():
    asked = {name for text in SOURCES.values() for name in re.findall(r"""\bt\(\s*["']([\w.]+)["']""", text)}

    assert len(asked) > 100
    assert asked - set(words("en")) == set()


def test_no_words_are_there_that_nobody_asks_for():
    patterns = {
        re.sub(r"\$\{[^}]*\}+", "*", name) for text in SOURCES.values() for name in re.findall(NAMED, text)
    }
    literal = {name for text in SOURCES.values() for name in re.findall(r"""["']([\w.]+)["']""", text)}

    left = {
        name
        for name in words("en")
        if name not in literal and not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }
    assert left == set()


def test_nothing_in_the_page_names_another_server():
    for name, file in all_files().files.items():
        found = re.findall(rb"(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}[^\s\"']*", file.data)
        assert [each for each in found if b"www.w3.org" not in each] == [], name


def test_modules_import_only_what_lies_beside_them():
    for name, text in SOURCES.items():
        for wanted in re.findall(r"""(?:from|import\()\s*["']([^"']+)["']""", text):
            assert wanted.startswith("./"), (name, wanted)
            assert wanted.removeprefix("./") in SOURCES, (name, wanted)


def test_nothing_in_the_page_reads_html_or_code_from_text():
    doors = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function")
    for name, text in SOURCES.items():
        for forbidden in doors:
            assert forbidden not in text, (name, forbidden)
