"""Weights that are damaged, incomplete or something else: an error names the file and says what to do."""

from __future__ import annotations

import json
import shutil
import struct

import pytest

from zit_ext.errors import ModelError, ModelMissingError
from zit_ext.records import FileRef, ModelRef

pytestmark = pytest.mark.pipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def rewrite(path, change):
    """Change the tensors of a safetensors file."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path)


def test_a_truncated_file_is_named(open_zimage, copy):
    path = copy / "transformer" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(ModelError, match=r"transformer.*safetensors is damaged.*download it again") as caught:
        open_zimage(copy)

    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"<html>503 Service Unavailable</html>",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 10) + b"not a json",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 10) + b'{"a": 12} ',
        struct.pack("<Q", 28) + b'{"a": {"data_offsets": [0]}}',
    ],
)
def test_a_file_that_is_something_else_is_named(open_zimage, copy, content):
    path = copy / "vae" / WEIGHTS
    path.write_bytes(content)

    with pytest.raises(ModelError, match=r"vae.*safetensors is damaged"):
        open_zimage(copy)


def test_missing_weights_are_an_error_and_not_random_numbers(open_zimage, copy):
    rewrite(copy / "transformer" / WEIGHTS, lambda tensors: tensors.pop("x_pad_token"))

    with pytest.raises(ModelError, match="x_pad_token"):
        open_zimage(copy)


def test_missing_weights_of_the_text_encoder_are_an_error_too(open_zimage, copy):
    rewrite(copy / "text_encoder" / "model.safetensors", lambda tensors: tensors.pop("norm.weight"))

    with pytest.raises(ModelError, match=r"norm\.weight"):
        open_zimage(copy)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_weights_of_another_shape_are_an_error(open_zimage, copy, part):
    import torch

    path = next((copy / part).glob("*.safetensors"))

    def widen(tensors):
        key = next(key for key, value in tensors.items() if value.ndim == 2)
        tensors[key] = torch.zeros(3, 3)

    rewrite(path, widen)

    with pytest.raises(ModelError, match=path.name):
        open_zimage(copy)


def test_weights_that_are_whole_numbers_are_an_error(open_zimage, copy):
    import torch

    rewrite(
        copy / "transformer" / WEIGHTS,
        lambda tensors: tensors.update({key: value.to(torch.int8) for key, value in tensors.items()}),
    )

    with pytest.raises(ModelError, match=r"I8.*use the bf16 file"):
        open_zimage(copy)


def test_pickled_weights_are_never_loaded(open_zimage, copy):
    (copy / "vae" / WEIGHTS).rename(copy / "vae" / "diffusion_pytorch_model.bin")

    with pytest.raises(ModelError, match=r"only \.safetensors files are loaded"):
        open_zimage(copy)


def test_a_missing_part_is_named(open_zimage, copy):
    shutil.rmtree(copy / "vae")

    with pytest.raises(ModelMissingError, match="there is no vae"):
        open_zimage(copy)


def test_a_missing_shard_is_named(open_zimage, copy):
    shards = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (copy / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(shards))

    with pytest.raises(ModelMissingError, match=r"model-1-of-2\.safetensors"):
        open_zimage(copy)


def test_a_missing_folder_is_named(open_zimage, tmp_path):
    with pytest.raises(ModelMissingError, match="nowhere"):
        open_zimage(tmp_path / "nowhere")


def test_another_kind_of_model_is_named(open_zimage, copy):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))

    with pytest.raises(ModelError, match="FluxPipeline"):
        open_zimage(copy)


def test_a_file_of_no_part_is_named(open_zimage, tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"something": torch.zeros(2)}, tmp_path / "some.safetensors")

    with pytest.raises(ModelError, match=r"some\.safetensors holds no part of a Z-Image model"):
        open_zimage(tmp_path / "some.safetensors")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_config_is_named(open_zimage, copy, content):
    (copy / "vae" / "config.json").write_text(content)

    with pytest.raises(ModelError, match="vae"):
        open_zimage(copy)


def test_a_tokenizer_without_a_chat_template_is_an_error(open_zimage, copy):
    (copy / "tokenizer" / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((copy / "tokenizer" / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (copy / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))

    with pytest.raises(ModelError, match="chat template"):
        open_zimage(copy)


def test_code_that_comes_with_a_model_is_never_run(open_zimage, copy, tmp_path):
    ran = tmp_path / "ran"
    (copy / "text_encoder" / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nQwen3Model = object\n")
    config = json.loads((copy / "text_encoder" / "config.json").read_text())
    (copy / "text_encoder" / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModel": "evil.Qwen3Model", "AutoTokenizer": "evil.T"}})
    )
    (copy / "pipeline.py").write_text(f"open({str(ran)!r}, 'w')\n")

    open_zimage(copy)

    assert not ran.exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_may_be_written_over_after_they_were_loaded(open_zimage, copy, ask, render, dtype):
    pipeline = open_zimage(ModelRef(source=str(copy), path=copy, dtype=dtype))
    expected = render(pipeline, ask()).content

    for path in copy.rglob("*.safetensors"):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"\xff" * size)

    assert render(pipeline, ask(seed=1)).content != expected
    assert render(pipeline, ask()).content == expected


def test_weights_may_be_cut_short_after_they_were_loaded(open_zimage, copy, ask, render):
    pipeline = open_zimage(copy)

    for path in copy.rglob("*.safetensors"):
        path.open("wb").close()

    assert render(pipeline, ask()).content


def test_a_vae_in_place_of_a_text_encoder_is_named(open_zimage, tiny):
    vae = FileRef(source="vae", path=tiny / "vae")

    with pytest.raises(ModelMissingError, match="there is no text_encoder"):
        open_zimage(ModelRef(source=str(tiny), path=tiny, text_encoder=vae))
