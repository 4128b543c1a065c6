"""What is written down in two places says the same in both."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zit_ext.installing import demo, environment, groups
from zit_ext.installing.pythons import VERIFIED
from zit_ext.installing.versions import Requirement, plain, requirements
from zit_ext.model_server import needs, probing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYTHONS = [(3, 10), (3, 11), (3, 12), (3, 13)]


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("python", PYTHONS)
def test_a_host_is_asked_for_what_the_package_needs_and_for_xxhash(pyproject, python):
    project = pyproject["project"]
    needed = [Requirement(line) for line in project["dependencies"]]
    fast = [Requirement(line) for line in project["optional-dependencies"]["fast"]]
    wanted = [*needed, *(each for each in fast if each.name == "xxhash")]

    lines = requirements(ROOT / "requirements.txt", python)

    assert {name: each.line for name, each in lines.items()} == {
        each.name: each.line for each in wanted if each.applies(python)
    }


@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_that_we_name_has_a_verified_version_that_is_new_enough(pyproject, python):
    pins = requirements(ROOT / "constraints" / "verified.txt", python)
    extras = pyproject["project"]["optional-dependencies"]
    lines = [*pyproject["project"]["dependencies"], *(line for lines in extras.values() for line in lines)]

    for each in map(Requirement, lines):
        if each.applies(python):
            assert each.met_by(pins[each.name].version), each.line


@pytest.mark.parametrize("python", PYTHONS)
def test_the_model_server_gets_what_renders_in_the_verified_versions(pyproject, python):
    extras = pyproject["project"]["optional-dependencies"]
    lines = [*pyproject["project"]["dependencies"], *extras["zimage"]]
    needed = {each.name for each in map(Requirement, lines) if each.applies(python)}
    verified = requirements(ROOT / "constraints" / "verified.txt", python)

    pins = requirements(probing.PINS, python)

    assert set(pins) == needed | {"tokenizers"}
    assert {name: each.version for name, each in pins.items()} == {
        name: verified[name].version for name in pins
    }


def test_a_python_fits_the_model_server_if_it_fits_the_package(pyproject):
    lines = map(Requirement, pyproject["project"]["optional-dependencies"]["zimage"])

    assert {each.name: each.version for each in lines} == needs.LEAST


def test_the_least_torch_is_the_one_of_the_package(pyproject):
    lines = pyproject["project"]["optional-dependencies"]["zimage"]
    (torch,) = [each for each in map(Requirement, lines) if each.name == "torch"]

    assert torch.version == environment.LEAST_TORCH


def test_every_extra_that_is_installed_exists(pyproject):
    known = set(pyproject["project"]["optional-dependencies"])

    assert groups.extras_for([]) | set(demo.EXTRAS) <= known


def test_every_group_is_a_mark_and_said_to_be_one(pyproject):
    marks = {line.partition(":")[0] for line in pyproject["tool"]["pytest"]["ini_options"]["markers"]}

    assert set(groups.NAMES) - {"core"} <= marks


def test_names_of_packages_are_compared_in_one_spelling():
    assert plain("huggingface_hub") == plain("Huggingface.Hub")


def test_the_workflow_runs_every_verified_python():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")

    assert "python: [" + ", ".join(f'"{each}"' for each in VERIFIED) + "]" in workflow
