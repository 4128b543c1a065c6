"""Packs that changed ComfyUI itself are found by where its functions come from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_nodes.patches import patching_packs


def module(name: str, path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CODE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


CODE = (
    "def sample(): pass\nclass Sampler:\n    def run(self): pass\n    @staticmethod\n    def noise(): pass\n"
)


@pytest.fixture
def world(tmp_path: Path) -> Any:
    packs = tmp_path / "custom_nodes"
    sampling = module("comfy.samplers", tmp_path / "comfy" / "samplers.py")
    theirs = module("their.code", packs / "faster" / "code.py")
    single = module("single", packs / "single.py")
    modules = {each.__name__: each for each in (sampling, theirs, single)}
    return SimpleNamespace(sampling=sampling, theirs=theirs, single=single, modules=modules, packs=packs)


def found(world: Any) -> tuple[str, ...]:
    return patching_packs(world.modules, [str(world.packs)])


def test_packs_that_only_stand_beside_change_nothing(world):
    assert found(world) == ()


def test_a_function_a_method_and_a_class_that_were_replaced_are_found(world):
    world.sampling.sample = world.single.sample
    assert found(world) == ("single",)
    world.sampling.Sampler.noise = staticmethod(world.theirs.sample)
    assert found(world) == ("faster", "single")


def test_a_class_in_the_place_of_the_hosts_is_found(world):
    class Other:
        pass

    Other.__module__ = "their.code"
    world.sampling.Sampler = Other
    assert found(world) == ("faster",)
