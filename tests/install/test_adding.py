"""What pip would do to this Python: asked of a pip that is played, and once of the real one."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from zit_ext.model_server import adding, needs
from zit_ext.model_server.adding import Addition, addition
from zit_ext.settings import Settings

HERE = {
    **needs.LEAST,
    "torch": "2.9.0",
    "transformers": "4.57.6",
    "huggingface-hub": "0.36.0",
    "filelock": "3.1",
}


class Pip:
    """Says what it was told to say, and remembers what it was asked."""

    def __init__(self, *would_install: str, code: int = 0, errors: str = "") -> None:
        self.would_install = would_install
        self.code = code
        self.errors = errors
        self.asked: list[Sequence[str]] = []
        self.stay = ""

    def __call__(self, command: Sequence[str], folder: Path, stopped: Callable[[], bool]) -> tuple[int, str]:
        self.asked.append(command)
        self.stay = (folder / "stay.txt").read_text()
        found = [each.split("==") for each in self.would_install]
        report = {"install": [{"metadata": {"name": name, "version": version}} for name, version in found]}
        (folder / "report.json").write_text(json.dumps(report))
        return self.code, self.errors


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load().with_values({"data_dir": str(tmp_path / "data")}, "the test")


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What this Python has: all but diffusers."""
    have = {name: version for name, version in HERE.items() if name != "diffusers"}
    monkeypatch.setattr(needs, "here", lambda names: {each: have[each] for each in names if each in have})
    return have


def test_the_command_names_what_pip_would_install_and_what_other_nodes_use_was_held_fast(settings, packages):
    pip = Pip("diffusers==0.36.0", "importlib_metadata==8.0")

    found = addition("diffusers", settings, ask=pip)

    assert found == Addition(packages=("diffusers==0.36.0", "importlib-metadata==8.0"))
    assert found.command().endswith("-m pip install diffusers==0.36.0 importlib-metadata==8.0")
    assert {"--dry-run", "--only-binary", "diffusers>=0.36"} <= set(pip.asked[0])
    assert (
        set(pip.stay.split())
        == {f"{name}=={packages[name]}" for name in adding.STAY if name in packages}
        >= {"torch==2.9.0", "transformers==4.57.6", "huggingface-hub==0.36.0"}
    )


def test_it_is_asked_again_only_if_something_has_changed(settings, packages):
    pip = Pip("diffusers==0.36.0")
    first = addition("diffusers", settings, ask=pip)
    assert addition("diffusers", settings, ask=pip) == first
    assert len(pip.asked) == 1

    packages["numpy"] = "2.4.0"
    addition("diffusers", settings, ask=pip)

    assert len(pip.asked) == 2


def test_what_would_move_a_package_of_the_host_is_no_way(settings, packages):
    impossible = Pip(code=1, errors="ERROR: ResolutionImpossible: for help visit ...")
    found = addition("diffusers", settings, ask=impossible)
    assert (found.packages, found.certain) == ((), True)
    assert found.why_not

    packages["numpy"] = "2.4.1"
    moving = addition("diffusers", settings, ask=Pip("diffusers==0.42.1", "huggingface_hub==2.4.0"))
    assert moving == Addition(why_not="it would move huggingface-hub 0.36.0")


def test_other_packages_that_would_move_are_named(settings, packages):
    found = addition("diffusers", settings, ask=Pip("diffusers==0.36.0", "filelock==3.2"))
    assert found.moved == ("filelock 3.1",)


@pytest.mark.parametrize(("name", "version"), [("torch", "2.1.2"), ("transformers", "4.30.2"), ("torch", "")])
def test_a_host_that_is_too_old_is_not_asked_of_pip(settings, packages, name, version):
    packages[name] = version
    if not version:
        del packages[name]
    pip = Pip()
    found = addition("diffusers", settings, ask=pip)
    assert found.why_not == f"it would move {name} {version or 'is not there'}"
    assert not pip.asked


@pytest.mark.parametrize(
    ("pip", "words"),
    [
        (
            Pip(code=1, errors="NewConnectionError: Failed to establish a new connection"),
            "could not be reached",
        ),
        (Pip(code=1, errors="No module named pip"), "has no pip"),
    ],
)
def test_a_pip_that_cannot_be_asked_is_asked_again_the_next_time(settings, packages, pip, words):
    for _ in range(2):
        found = addition("diffusers", settings, ask=pip)
        assert words in found.why_not
        assert not found.certain
    assert len(pip.asked) == 2


def test_what_was_added_since_this_program_started_asks_for_a_new_start(settings, packages):
    found = addition("diffusers", settings, ask=Pip())
    assert "start the program again" in found.why_not
    assert not found.certain


def test_a_record_that_cannot_be_read_costs_a_question(settings, packages):
    pip = Pip("diffusers==0.36.0")
    first = addition("diffusers", settings, ask=pip)
    (settings.data_dir / "adding.json").write_text("{")
    assert addition("diffusers", settings, ask=pip) == first
    assert len(pip.asked) == 2


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip")
def test_the_real_pip_is_asked_and_installs_nothing(settings, packages, wheels, make_wheel):
    make_wheel(wheels, "zit_made_up", "1.5")
    packages["diffusers"] = "0.36.0"

    found = addition("zit_made_up", settings)

    assert found == Addition(packages=("zit-made-up==1.5",))
    assert importlib.util.find_spec("zit_made_up") is None


def test_a_user_who_stops_does_not_wait_for_pip(settings, packages, wheels):
    found = addition("diffusers", settings, lambda: True)
    assert not found.certain
