"""The parts of a model are found among its files, and what is no part of one says what it is."""

from __future__ import annotations

import json
import os

import pytest

from zit_ext.errors import ModelError, ModelMissingError
from zit_ext.models.single_files import OFFICIAL, find
from zit_ext.records import FileRef, ModelRef

from .conftest import safetensors, write

MARKS = {
    "transformer": {
        "noise_refiner.0.attention_norm1.weight": "BF16",
        "context_refiner.0.attention_norm1.weight": "BF16",
    },
    "text_encoder": {"model.embed_tokens.weight": "BF16", "model.layers.0.self_attn.q_norm.weight": "BF16"},
    "vae": {"decoder.conv_in.weight": "F32", "encoder.conv_in.weight": "F32"},
}
"""Names by which single files are recognised: those of z_image_turbo_bf16, qwen_3_4b and ae."""


def single(part, prefix="", dtype=None, **more):
    return safetensors({prefix + name: dtype or kept for name, kept in MARKS[part].items()} | more)


@pytest.fixture
def comfyui(tmp_path):
    """The single files in ComfyUI's sub-folders, with the tokenizer that they need."""
    folder = tmp_path / "モデル" / "z image"
    write(folder / "diffusion_models" / "z_image_turbo_bf16.safetensors", single("transformer"))
    write(folder / "text_encoders" / "qwen_3_4b.safetensors", single("text_encoder"))
    write(folder / "vae" / "ae.safetensors", single("vae"))
    write(folder / "tokenizer" / "tokenizer.json", "{}")
    return folder


def ref(path, **parts):
    return ModelRef(
        source=str(path),
        path=path,
        identity="of the model",
        **{name: each and file(each) for name, each in parts.items()},
    )


def file(path):
    return FileRef(source=str(path), path=path, identity=f"of {path.name}")


def names(found):
    return {part: [each.name for each in at.files] for part, at in found.parts.items()}


def test_single_files_in_a_hosts_subfolders_are_one_model(comfyui):
    found = find(ref(comfyui))
    assert names(found) == {
        "text_encoder": ["qwen_3_4b.safetensors"],
        "transformer": ["z_image_turbo_bf16.safetensors"],
        "vae": ["ae.safetensors"],
    }
    assert found.tokenizer == comfyui / "tokenizer"
    assert found.scheduler == OFFICIAL / "scheduler"
    assert all(each.single and each.config == OFFICIAL / part for part, each in found.parts.items())


def test_names_do_not_matter_for_single_files_but_what_is_in_them(comfyui):
    for path in list(comfyui.rglob("*.safetensors")):
        path.rename(path.with_name(f"{path.parent.name}-renamed.safetensors"))
    assert names(find(ref(comfyui)))["vae"] == ["vae-renamed.safetensors"]


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_transformer_is_recognised_in_both_layouts(comfyui, prefix):
    path = comfyui / "diffusion_models" / "z_image_turbo_bf16.safetensors"
    write(path, single("transformer", prefix))
    assert find(ref(comfyui)).parts["transformer"].files == (path,)


def test_one_file_with_references_for_the_others_is_a_model(comfyui):
    encoder = comfyui / "encoder"
    write(encoder / "qwen_3_4b.safetensors", single("text_encoder"))
    write(encoder / "tokenizer.json", "{}")
    model = ref(
        comfyui / "diffusion_models" / "z_image_turbo_bf16.safetensors",
        text_encoder=encoder,
        vae=comfyui / "vae" / "ae.safetensors",
    )
    found = find(model)
    assert found.tokenizer == encoder
    assert names(found)["vae"] == ["ae.safetensors"]


def test_nothing_is_picked_up_from_beside_a_file(comfyui):
    # It would be in no digest: two models could answer for each other.
    alone = ref(comfyui / "diffusion_models" / "z_image_turbo_bf16.safetensors")
    with pytest.raises(ModelMissingError, match=r"there is no text_encoder .*qwen_3_4b"):
        find(alone)


@pytest.mark.parametrize("hidden", [".cache", "samples.md", "preview.png", "LICENSE"])
def test_what_is_in_no_digest_is_not_loaded(comfyui, hidden):
    vae = comfyui / "vae" / "ae.safetensors"
    write(comfyui / hidden / "ae.safetensors", vae.read_bytes())
    assert find(ref(comfyui)).parts["vae"].files == (vae,)


@pytest.mark.parametrize("part", MARKS)
def test_a_part_that_is_missing_is_named_with_what_to_give(comfyui, part):
    for path in comfyui.rglob("*.safetensors"):
        if path.read_bytes() == single(part):
            path.unlink()
    with pytest.raises(ModelMissingError, match=f"there is no {part}") as missing:
        find(ref(comfyui))
    assert {"transformer": "z_image_turbo_bf16", "text_encoder": "qwen_3_4b", "vae": "ae.safetensors"}[
        part
    ] in str(missing.value)


def test_two_files_of_one_part_are_both_named(comfyui):
    write(comfyui / "vae" / "other.safetensors", single("vae"))
    with pytest.raises(ModelError, match=r"two vae files, ae\.safetensors and other\.safetensors"):
        find(ref(comfyui))


def test_a_missing_tokenizer_says_where_to_get_one(comfyui):
    (comfyui / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ModelMissingError, match="download --tokenizer Tongyi-MAI/Z-Image-Turbo"):
        find(ref(comfyui))


def test_files_of_other_models_in_the_folder_are_passed_over(comfyui):
    write(comfyui / "checkpoints" / "sd15.safetensors", safetensors({"cond_stage_model.x": "F16"}))
    assert names(find(ref(comfyui)))["transformer"] == ["z_image_turbo_bf16.safetensors"]


def test_a_file_of_another_model_is_named(tmp_path):
    path = write(tmp_path / "sd15.safetensors", safetensors({"cond_stage_model.x": "F16"}))
    with pytest.raises(ModelError, match="holds no part of a Z-Image model"):
        find(ref(path))


def test_a_folder_of_another_pipeline_is_named(tmp_path):
    write(tmp_path / "m" / "model_index.json", '{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ModelError, match="StableDiffusionPipeline, not a ZImagePipeline"):
        find(ref(tmp_path / "m"))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F16", "F32", "BF16"])
def test_eight_bits_that_are_a_plain_cast_are_read(comfyui, dtype):
    write(comfyui / "diffusion_models" / "z_image_turbo_bf16.safetensors", single("transformer", dtype=dtype))
    assert find(ref(comfyui)).parts["transformer"].single


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"layers.0.attention.qkv.scale_weight": "F32"}, "scaled 8-bit weights"),
        ({"scaled_fp8": "F8_E4M3"}, "scaled 8-bit weights"),
        ({"layers.0.attention.qkv.comfy_quant": "U8"}, "scaled 8-bit weights"),
        ({"layers.0.x": "I8"}, "as I8"),
        ({"layers.0.x": "F4"}, "as F4"),
    ],
)
def test_numbers_that_diffusers_does_not_read_are_refused_by_name(comfyui, more, words):
    path = write(
        comfyui / "diffusion_models" / "z_image_turbo_bf16.safetensors", single("transformer", **more)
    )
    with pytest.raises(ModelError, match=words) as refused:
        find(ref(comfyui))
    assert str(path) in str(refused.value)
    assert "use the bf16 file" in str(refused.value)


def test_a_folder_with_the_name_of_a_file_is_looked_into_and_is_no_file(comfyui):
    path = comfyui / "vae" / "ae.safetensors"
    data = path.read_bytes()
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelMissingError, match="there is no vae"):
        find(ref(comfyui))
    write(path / "ae.safetensors", data)
    assert find(ref(comfyui)).parts["vae"].files == (path / "ae.safetensors",)


def test_a_file_that_may_not_be_read_is_named(unreadable):
    with pytest.raises(ModelError, match="permissions"):
        find(ref(unreadable))


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, safetensors({"a": "F32"})[:-1]])
def test_a_damaged_file_is_named(comfyui, content):
    path = write(comfyui / "vae" / "ae.safetensors", content)
    with pytest.raises(ModelError, match="is damaged") as refused:
        find(ref(comfyui))
    assert str(path) in str(refused.value)


def test_a_place_that_is_gone_is_named(tmp_path):
    with pytest.raises(ModelMissingError, match="there is no"):
        find(ref(tmp_path / "gone"))


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_files_may_be_links_to_elsewhere(comfyui, tmp_path):
    vae = comfyui / "vae" / "ae.safetensors"
    vae.rename(tmp_path / "kept.safetensors")
    vae.symlink_to(tmp_path / "kept.safetensors")
    assert find(ref(comfyui)).parts["vae"].files == (vae,)


# What a part is, for those who share it between models


def described(folder, **config):
    write(folder / "model_index.json", '{"_class_name": "ZImagePipeline"}')
    for part, kind in (("transformer", "ZImageTransformer2DModel"), ("text_encoder", "Qwen3Model")):
        write(folder / part / "config.json", json.dumps({"_class_name": kind}))
        write(folder / part / "model.safetensors", single(part))
    write(folder / "vae" / "config.json", json.dumps({"_class_name": "AutoencoderKL", **config}))
    write(folder / "tokenizer" / "tokenizer.json", "{}")
    return folder


def test_one_file_under_two_descriptions_is_two_things(tmp_path):
    vae = write(tmp_path / "ae.safetensors", single("vae"))
    found = [
        find(ref(described(tmp_path / str(factor), scaling_factor=factor), vae=vae)).parts["vae"]
        for factor in (0.3, 0.3611, 0.3611)
    ]
    assert found[0].files == found[1].files
    assert found[0].identity != found[1].identity
    again = find(ref(described(tmp_path / "copy", scaling_factor=0.3611), vae=vae)).parts["vae"]
    assert again.identity == found[1].identity
