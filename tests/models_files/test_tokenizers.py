"""A text encoder that is a single file gets a tokenizer that is on the machine, and the key knows which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zit_ext.errors import ModelError, RequestError
from zit_ext.models import hub_cache, tokenizers
from zit_ext.models.resolver import Resolver
from zit_ext.records import TURBO, FileRef, ModelRef, Request
from zit_ext.settings import Settings

from .conftest import later, safetensors, write


@pytest.fixture
def settings(tmp_path):
    return Settings(
        cache_dir=tmp_path / "cache",
        data_dir=tmp_path / "data",
        model_dirs=(tmp_path / "ComfyUI" / "models",),
    )


@pytest.fixture
def comfyuis(tmp_path, hub_home):
    """ComfyUI's tokenizer, at its place; nothing is downloaded."""
    folder = tmp_path / "ComfyUI" / "comfy" / "text_encoders" / "qwen25_tokenizer"
    write(folder / "merges.txt", "a b")
    write(folder / "vocab.json", "{}")
    return folder


@pytest.fixture
def model(tmp_path):
    """A transformer and a text encoder, each a single file."""
    models = tmp_path / "ComfyUI" / "models"
    transformer = write(models / "diffusion_models" / "z_image.safetensors", one_tensor("noise_refiner"))
    encoder = write(models / "text_encoders" / "qwen.safetensors", one_tensor("embed_tokens"))
    return ModelRef(source=str(transformer), text_encoder=FileRef(source=str(encoder)))


def one_tensor(name):
    return safetensors({f"{name}.weight": "F32"})


def downloaded():
    folder = hub_cache.repository(TURBO)
    write(folder / "refs" / "main", "0" * 40)
    place = folder / "snapshots" / ("0" * 40) / "tokenizer"
    write(place / "tokenizer.json", "{}")
    return place


def resolved(settings, model) -> ModelRef:
    return Resolver(settings, clock=later()).resolve(Request(prompt="a cat", seed=1, model=model)).model


def test_the_tokenizer_of_comfyui_is_found_and_is_part_of_the_key(settings, model, comfyuis):
    found = resolved(settings, model).tokenizer

    assert found.path == comfyuis
    assert found.digest is not None
    write(comfyuis / "merges.txt", "a c")
    assert resolved(settings, model).tokenizer.digest != found.digest


def test_the_official_one_is_preferred_where_it_was_downloaded(settings, model, comfyuis):
    place = downloaded()

    assert resolved(settings, model).tokenizer.path == place


def test_a_tokenizer_that_is_named_wins(settings, model, comfyuis, tmp_path):
    mine = tmp_path / "mine"
    write(mine / "tokenizer.json", "{}")

    found = resolved(settings, replace(model, tokenizer=FileRef(source=str(mine))))

    assert found.tokenizer.path == mine


@pytest.mark.parametrize("place", ["beside the text encoder", "in the model's folder"])
def test_one_that_comes_with_the_weights_is_not_looked_for_elsewhere(
    settings, model, comfyuis, place, tmp_path
):
    folder = tmp_path / "own"
    write(folder / "weights.safetensors", one_tensor("embed_tokens"))
    if place == "beside the text encoder":
        write(folder / "tokenizer.json", "{}")
        model = replace(model, text_encoder=FileRef(source=str(folder)))
    else:
        write(folder / "tokenizer" / "tokenizer.json", "{}")
        model = ModelRef(source=str(folder))

    assert resolved(settings, model).tokenizer is None


def test_a_place_that_may_not_be_read_is_passed_over(settings, model, comfyuis, monkeypatch):
    mine, is_file = str(hub_cache.repository(TURBO)), Path.is_file
    downloaded()

    def refused(path):
        if str(path).startswith(mine):
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    assert resolved(settings, model).tokenizer.source == str(comfyuis)


@pytest.mark.parametrize("looks", ["is_file", "is_symlink"])
def test_a_disk_that_fails_under_the_weights_is_named(settings, model, comfyuis, monkeypatch, looks):
    def fails(path):
        raise OSError(5, "Input/output error", str(path))

    resolver = Resolver(settings, clock=later())
    monkeypatch.setattr(Path, looks, fails)
    with pytest.raises((ModelError, RequestError), match="Input/output error"):
        resolver.resolve(Request(prompt="a cat", seed=1, model=model))


def test_where_none_is_at_hand_the_request_names_none(settings, model, hub_home):
    assert resolved(settings, model).tokenizer is None


def test_a_folder_without_a_tokenizer_is_refused(settings, model, hub_home, tmp_path):
    write(tmp_path / "empty" / "notes.json", "{}")

    with pytest.raises(ModelError, match="holds no tokenizer; name a folder with tokenizer"):
        resolved(settings, replace(model, tokenizer=FileRef(source=str(tmp_path / "empty"))))


def test_a_request_is_completed_with_the_tokenizer_that_is_found_for_it(settings, model, comfyuis):
    asked = Request(prompt="a cat", seed=1, model=model)

    completed = Resolver(settings, clock=later()).complete(asked, lambda: False)

    assert completed.model.tokenizer.path == comfyuis
    assert completed.model.tokenizer.digest


def test_what_came_meanwhile_is_no_answer_to_what_was_asked(settings, model, hub_home, tmp_path):
    resolver = Resolver(settings, clock=later())
    asked = resolver.resolve(Request(prompt="a cat", seed=1, model=model))
    write(tmp_path / "ComfyUI" / "comfy" / "text_encoders" / "qwen25_tokenizer" / "vocab.json", "{}")

    assert resolver.complete(asked, lambda: False) is None


def test_comfyuis_tokenizer_gets_the_official_chat_template_and_others_keep_their_own(comfyuis, tmp_path):
    assert "<|im_start|>" in tokenizers.chat_template(comfyuis)
    assert tokenizers.chat_template(tmp_path / "tokenizer") is None
