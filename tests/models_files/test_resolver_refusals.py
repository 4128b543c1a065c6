"""What a request may not name is refused before anything is loaded."""

from __future__ import annotations

import struct

import pytest

from zit_ext.errors import ModelError, ModelMissingError, RequestError
from zit_ext.records import FileRef, LoraRef, ModelRef

from .conftest import ask, safetensors, write


def test_a_lora_that_is_not_there_is_the_requests_mistake(resolver, model_folder, tmp_path):
    with pytest.raises(RequestError) as refused:
        resolver.resolve(ask(model_folder, loras=(LoraRef(source="nothing"),)))
    assert (refused.value.field, refused.value.value) == ("loras[0]", "nothing")
    assert str(tmp_path / "models" / "loras") in refused.value.remedy


@pytest.mark.parametrize("field", ["model", "model.vae", "model.text_encoder"])
def test_weights_that_are_not_there_are_named(resolver, model_folder, field):
    nothing = FileRef(source="nothing")
    model = {
        "model": ModelRef(source="nothing"),
        "model.vae": ModelRef(source=str(model_folder), vae=nothing),
        "model.text_encoder": ModelRef(source=str(model_folder), text_encoder=nothing),
    }[field]
    with pytest.raises(ModelMissingError, match="nothing"):
        resolver.resolve(ask(model))


def without_a_part(folder):
    (folder / "vae" / "model.safetensors").unlink()
    return "vae"


def without_a_folder(folder):
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    (folder / "tokenizer").rmdir()
    return "tokenizer/"


def without_a_shard(folder):
    write(
        folder / "transformer" / "model.safetensors.index.json",
        '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}',
    )
    return "model-2.safetensors"


def with_a_shard_elsewhere(folder):
    write(folder.parent / "elsewhere.safetensors")
    write(
        folder / "vae" / "model.safetensors.index.json",
        '{"weight_map": {"a": "../../elsewhere.safetensors"}}',
    )
    return "elsewhere"


def with_a_damaged_description(folder):
    write(folder / "model_index.json", "{")
    return "model_index.json is damaged"


@pytest.mark.parametrize(
    "damage",
    [without_a_part, without_a_folder, without_a_shard, with_a_shard_elsewhere, with_a_damaged_description],
)
def test_a_model_that_is_not_whole_says_what_is_missing(resolver, model_folder, damage):
    named = damage(model_folder)
    with pytest.raises(ModelError, match=named) as refused:
        resolver.resolve(ask(model_folder))
    assert "download" in str(refused.value)


def test_a_folder_without_weights_is_named(resolver, tmp_path):
    write(tmp_path / "empty" / "config.json", "{}")
    with pytest.raises(ModelMissingError, match="there are no weights in"):
        resolver.resolve(ask(tmp_path / "empty"))
    write(tmp_path / "pickles" / "model.ckpt")
    with pytest.raises(ModelError, match=r"read from \.safetensors files only"):
        resolver.resolve(ask(tmp_path / "pickles"))


def test_a_folder_where_a_file_should_be_is_named(resolver, model_folder):
    file = model_folder / "vae" / "model.safetensors"
    file.unlink()
    file.mkdir()
    with pytest.raises(ModelError, match="vae"):
        resolver.resolve(ask(model_folder))


DAMAGED = {
    "no safetensors file": b"weights that are none at all",
    "empty": b"",
    "a truncated header": safetensors({"a": "F32", "b": "F32"})[:20],
    "truncated weights": safetensors({"a": "F32", "b": "F32"})[:-1],
    "bytes too many": safetensors({"a": "F32"}) + b"x",
    "a header beyond the file": struct.pack("<Q", 2**40) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 10) + b"{" * 10,
    "a header that is no mapping": struct.pack("<Q", 2) + b"[]",
    "a header that is nested too deep": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "a header with an endless number": struct.pack("<Q", 57)
    + b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,1e999]}}',
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_before_anything_is_loaded(resolver, model_folder, tmp_path, content):
    file = write(tmp_path / "damaged.safetensors", content)
    with pytest.raises(ModelError, match="damaged") as refused:
        resolver.resolve(ask(ModelRef(source=str(model_folder), vae=FileRef(source=str(file)))))
    assert str(file) in str(refused.value)
    with pytest.raises(RequestError, match="damaged") as wrong:
        resolver.resolve(ask(model_folder, loras=(LoraRef(source=str(file)),)))
    assert (wrong.value.field, wrong.value.value) == ("loras[0]", str(file))
    assert "download it again" in wrong.value.remedy
    write(model_folder / "vae" / "model.safetensors", content)
    with pytest.raises(ModelError, match="damaged"):
        resolver.resolve(ask(model_folder))


def test_a_file_that_may_not_be_read_is_named(resolver, model_folder, unreadable):
    with pytest.raises((ModelError, RequestError), match="cannot be read") as refused:
        resolver.resolve(ask(ModelRef(source=str(unreadable))))
    assert str(unreadable) in str(refused.value)


def test_a_file_that_was_mended_is_looked_at_again(resolver, model_folder):
    file = model_folder / "vae" / "model.safetensors"
    whole = file.read_bytes()
    write(file, b"torn")
    with pytest.raises(ModelError):
        resolver.resolve(ask(model_folder))
    write(file, whole)
    assert resolver.resolve(ask(model_folder)).model.digest is not None
