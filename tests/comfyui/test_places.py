"""Files that stayed as they were: neither their times nor the way to them changed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from comfy_nodes.places import Places
from zit_ext.models.weight_files import look


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("models/loras/a/style.safetensors", "models/old/style.safetensors", "models/one.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "models" / "now.pt").symlink_to("one.pt")
    (tmp_path / "models" / "kind").symlink_to("old")
    time.sleep(0.02)  # what is written from here on is newer by the clock of files, too
    return tmp_path / "models"


def places(models: Path) -> Places:
    made = Places(time.time(), [str(models / "loras"), str(models / "kind")])
    time.sleep(0.02)
    return made


def is_older(made: Places, path: Path) -> bool:
    return made.are_older(look(path))


@pytest.mark.parametrize("name", ["one.pt", "now.pt", "kind/style.safetensors", "loras/a/style.safetensors"])
def test_what_nobody_touched_is_older(models, name):
    made = places(models)
    (models / "loras" / "b.pt").write_bytes(b"a file beside it")
    assert is_older(made, models / name)


def test_a_file_that_was_written_or_replaced_is_not(models):
    made = places(models)
    (models / "one.pt").write_bytes(b"new")
    assert not is_older(made, models / "one.pt")
    assert not is_older(made, models / "now.pt")


def test_a_link_that_leads_to_another_old_file_is_not(models):
    made = places(models)
    (models / "now.pt").unlink()
    (models / "now.pt").symlink_to("loras/a/style.safetensors")
    assert not is_older(made, models / "now.pt")
    assert is_older(made, models / "loras" / "a" / "style.safetensors")


def test_a_link_to_a_folder_that_leads_to_another_old_folder_is_not(models):
    made = places(models)
    (models / "kind").unlink()
    (models / "kind").symlink_to("loras/a")
    assert not is_older(made, models / "kind" / "style.safetensors")


def test_another_old_folder_at_the_place_of_a_known_one_is_not(models):
    made = places(models)
    (models / "loras").rename(models / "loras-before")
    (models / "loras" / "a").mkdir(parents=True)
    (models / "old" / "style.safetensors").rename(models / "kept")
    assert is_older(made, models / "loras-before" / "a" / "style.safetensors")
    (models / "loras").rename(models / "x")
    (models / "old").rename(models / "loras")
    (models / "loras-before" / "a").rename(models / "loras" / "a")
    assert not is_older(made, models / "loras" / "a" / "style.safetensors")


def test_links_that_go_round_in_circles_are_not_followed_for_ever(models):
    (models / "x").symlink_to("y")
    (models / "y").symlink_to("x")
    made = places(models)
    (seen,) = look(models / "one.pt")
    assert not made.are_older([replace(seen, path=str(models / "x"))])
