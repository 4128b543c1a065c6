"""Which files count, and how they are told apart without reading one."""

from __future__ import annotations

import os

import pytest

from zit_ext.errors import ModelError, ModelMissingError
from zit_ext.models import weight_files
from zit_ext.models.weight_files import identity_of, look, look_again

from .conftest import age, timed_changes, write

links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


def test_every_file_that_may_change_a_picture_counts(model_folder):
    write(model_folder / "README.md")
    write(model_folder / ".gitattributes")
    write(model_folder / "preview.png")
    write(model_folder / "tokenizer" / "LICENSE")
    assert [each.name for each in look(model_folder)] == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/chat_template.jinja",
        "tokenizer/tokenizer.json",
        "transformer/config.json",
        "transformer/model.safetensors",
        "vae/config.json",
        "vae/model.safetensors",
    ]


def test_a_file_is_seen_by_itself(tmp_path):
    (seen,) = look(write(tmp_path / "ae.safetensors", b"12345"))
    assert (seen.name, seen.size) == ("", 5)


@pytest.mark.parametrize("name", ["模型.safetensors", "Ünïcode 😀.safetensors", "a\nb.safetensors"])
def test_names_are_taken_as_they_are(tmp_path, name):
    if os.name == "nt" and "\n" in name:
        pytest.skip("no file can have this name here")
    write(tmp_path / "m" / name)
    assert [each.name for each in look(tmp_path / "m")] == [name]


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode there")
def test_a_name_that_is_no_unicode_counts_too(tmp_path):
    place = os.fsencode(tmp_path) + b"/\xff\xfe.safetensors"
    with open(place, "wb") as file:  # noqa: PTH123 - a name that no Path can spell
        file.write(b"weights")
    (seen,) = look(tmp_path)
    assert os.fsencode(seen.path) == place
    assert len(identity_of([seen])) == 64


def changed_contents(file):
    write(file, b"other")


def same_size_later(file):
    write(file, file.read_bytes())
    age(file, 100)


def replaced(file):
    other = write(file.with_name("x"), file.read_bytes())
    before = file.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, file)


def edited_in_place_with_its_time_restored(file):
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"W")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def removed(file):
    file.unlink()


def renamed(file):
    file.rename(file.with_name("other.safetensors"))


def joined(file):
    write(file.with_name("more.json"))


@pytest.mark.parametrize(
    "change",
    [
        changed_contents,
        same_size_later,
        replaced,
        pytest.param(edited_in_place_with_its_time_restored, marks=timed_changes),
        removed,
        renamed,
        joined,
    ],
)
def test_whatever_happens_to_a_file_changes_the_identity(model_folder, change):
    before = identity_of(look(model_folder))
    assert identity_of(look(model_folder)) == before
    change(model_folder / "vae" / "model.safetensors")
    assert identity_of(look(model_folder)) != before


def test_reading_changes_no_identity(model_folder):
    before = identity_of(look(model_folder))
    (model_folder / "vae" / "model.safetensors").read_bytes()
    assert identity_of(look(model_folder)) == before


def test_a_file_that_is_gone_is_seen_to_be(tmp_path):
    file = write(tmp_path / "a.safetensors")
    (seen,) = look(file)
    assert look_again(seen) == seen
    file.unlink()
    assert look_again(seen) is None
    with pytest.raises(ModelMissingError):
        look(file)


@links
def test_a_link_that_leads_nowhere_is_an_incomplete_download(model_folder):
    file = model_folder / "vae" / "model.safetensors"
    file.unlink()
    file.symlink_to(model_folder / "nothing")
    with pytest.raises(ModelMissingError, match="incomplete"):
        look(model_folder)


@links
def test_links_that_go_round_in_circles_are_named(model_folder):
    (model_folder / "vae" / "back").symlink_to(model_folder, target_is_directory=True)
    with pytest.raises(ModelError, match="leads back"):
        look(model_folder)


def test_a_folder_with_more_files_than_any_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "MAX_FILES", 5)
    for number in range(6):
        write(tmp_path / f"{number}.json")
    with pytest.raises(ModelError, match="name the folder of the model itself"):
        look(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(unreadable):
    with pytest.raises(ModelError, match="closed cannot be read"):
        look(unreadable.with_name("closed"))
