"""The example plugins, installed by pip beside the project, pass their own tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "plugins"
LIGHT = ("tenant", "dear")
HEAVY = ("int8_attention", "speech")
BY_HAND = ("diffsynth",)
"""Wants torchvision: `examples/plugins/diffsynth/README.md` has the command, and what it printed."""


def test_every_example_is_tested_somewhere():
    found = {path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")}
    assert found == {*LIGHT, *HEAVY, *BY_HAND}


@pytest.mark.parametrize("name", sorted({*LIGHT, *HEAVY, *BY_HAND}))
def test_an_example_is_a_screenful_and_says_what_it_is(name):
    (module,) = (EXAMPLES / name).glob("zit_*.py")
    assert len(module.read_text().splitlines()) <= 140
    assert (EXAMPLES / name / "README.md").read_text().startswith("# zit-")
    assert list((EXAMPLES / name / "tests").glob("test_*.py"))


@pytest.mark.packaging
@pytest.mark.parametrize("name", LIGHT)
def test_a_light_example_passes_its_tests_where_it_is_installed(plugin_venv, name):
    with plugin_venv.with_plugin(EXAMPLES / name):
        assert passed(plugin_venv.test(EXAMPLES / name))


@pytest.mark.packaging
@pytest.mark.pipeline
@pytest.mark.slow
@pytest.mark.timeout(900)  # torch is imported six times
@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_example_passes_its_tests_where_it_is_installed(plugin_venv, name):
    with plugin_venv.with_plugin(EXAMPLES / name):
        told = plugin_venv.test(EXAMPLES / name)
    assert passed(told)
    assert "skipped" not in told


def passed(told: str) -> bool:
    return re.search(r"^\d+ passed", told.splitlines()[-1]) is not None
