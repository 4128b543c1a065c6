"""What the documents say is so: settings, links, the words of the README."""

import re
from pathlib import Path

import pytest

from zit_ext.settings import PROFILES, Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def settings_table() -> str:
    """Return the table of all settings as the README has it."""
    lines = ["| setting | default | what it is |", "|---|---|---|"]
    for each in Settings.described():
        lines.append(f"| `{each.name}` | {_shown(each.name, each.default)} | {each.metadata['help']} |")
    return "\n".join(lines)


def _shown(name: str, default: object) -> str:
    if name == "cache_dir":
        return "the user's cache folder"
    if name == "data_dir":
        return "the user's data folder"
    if default is None:
        return "none" if name in ("plugin_dir", "http_tokens") else "`auto`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default == ():
        return "none"
    if isinstance(default, tuple):
        return ", ".join(f"`{each}`" for each in default)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_readme_lists_every_setting_as_it_is():
    found = re.search(r"<!-- settings: begin.*?-->\n(.*?)\n?<!-- settings: end -->", README, re.DOTALL)
    assert found is not None
    assert found[1] == settings_table(), f"the README's table should be:\n{settings_table()}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), f"{document.name} points at {target}"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_readme_explains_every_profile(profile):
    assert f"| `{profile}` |" in README


def test_no_document_names_a_place_of_the_machine_it_was_written_on():
    for document in DOCUMENTS:
        assert not re.search(r"/(?:work|root|opt)/", document.read_text(encoding="utf-8")), document.name
