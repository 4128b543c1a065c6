"""The files that user interfaces load give the pictures that the diffusers folder gives."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from zit_ext.errors import ModelError, ModelMissingError
from zit_ext.records import FileRef, ModelRef

pytestmark = pytest.mark.pipeline


def export_transformer(tensors, prefix="model.diffusion_model."):
    """Return the transformer's weights under the names that it was trained with."""
    import torch

    out = {}
    names = {"all_final_layer.2-1.": "final_layer.", "all_x_embedder.2-1.": "x_embedder."}
    ends = {
        ".attention.to_out.0.weight": ".attention.out.weight",
        ".attention.norm_k.weight": ".attention.k_norm.weight",
        ".attention.norm_q.weight": ".attention.q_norm.weight",
    }
    for key, value in tensors.items():
        if ".attention.to_q." in key:
            fused = [tensors[key.replace("to_q", name)] for name in ("to_q", "to_k", "to_v")]
            out[prefix + key.replace("to_q", "qkv")] = torch.cat(fused)
        elif ".attention.to_k." not in key and ".attention.to_v." not in key:
            for old, new in (names | ends).items():
                key = key.replace(old, new)
            out[prefix + key] = value.contiguous()
    return out


def export_vae(tensors):
    """Return the VAE's weights under the names of latent diffusion."""
    out = {}
    for key, value in tensors.items():
        key = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", key)
        key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
        key = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", key)
        key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", key)
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
        if "mid_block.attentions.0" in key:
            for old, new in {
                "group_norm": "norm",
                "to_q": "q",
                "to_k": "k",
                "to_v": "v",
                "to_out.0": "proj_out",
            }.items():
                key = key.replace(f"attentions.0.{old}.", f"attn_1.{new}.")
            key = key.replace("mid_block.", "mid.")
            if value.ndim == 2:
                value = value[:, :, None, None].contiguous()
        key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        out[key] = value
    return out


def load(folder: Path):
    from safetensors.torch import load_file

    (path,) = folder.glob("*.safetensors")
    return load_file(path)


def save(tensors, path: Path, dtype=None):
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.to(dtype or value.dtype) for key, value in tensors.items()}, path)
    return path


@pytest.fixture(scope="session")
def exported(tiny, tmp_path_factory):
    """The tiny model's parts as single files, in the folders of ComfyUI."""
    models = tmp_path_factory.mktemp("comfyui") / "models"
    save(
        export_transformer(load(tiny / "transformer")),
        models / "diffusion_models" / "z_image_tiny.safetensors",
    )
    text_encoder = {f"model.{key}": value for key, value in load(tiny / "text_encoder").items()}
    save(text_encoder, models / "text_encoders" / "qwen_tiny.safetensors")
    save(export_vae(load(tiny / "vae")), models / "vae" / "ae_tiny.safetensors")
    return models


@pytest.fixture
def described(tiny, tmp_path):
    """A folder with the tiny model's configs and tokenizer, and no weights."""
    folder = tmp_path / "described"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors", "model_index.json", ".*"))
    return folder


def at(path: Path) -> FileRef:
    return FileRef(source=str(path), path=path)


def of_three(exported: Path, described: Path) -> ModelRef:
    """Name a transformer and a VAE as single files, and a text encoder that lies with its description."""
    transformer = exported / "diffusion_models" / "z_image_tiny.safetensors"
    return ModelRef(
        source=str(transformer),
        path=transformer,
        text_encoder=at(described),
        vae=at(exported / "vae" / "ae_tiny.safetensors"),
    )


def test_a_folder_of_single_files_gives_the_same_pixels(
    open_zimage, zimage, exported, described, ask, render
):
    for path in exported.rglob("*.safetensors"):
        shutil.copy(path, described)

    singles = open_zimage(described)

    for request in (ask(), ask(guidance=2.0, negative_prompt="blurred", seed=3)):
        assert render(singles, request).content == render(zimage, request).content


def test_three_files_with_references_give_the_same_pixels(
    open_zimage, zimage, exported, described, ask, render
):
    shutil.copy(exported / "text_encoders" / "qwen_tiny.safetensors", described)
    model = of_three(exported, described)

    assert render(open_zimage(model), ask()).content == render(zimage, ask()).content


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_both_layouts_of_the_transformer_are_read(
    open_zimage, zimage, tiny, described, exported, ask, render, prefix
):
    save(export_transformer(load(tiny / "transformer"), prefix), described / "transformer.safetensors")
    for name in ("text_encoders/qwen_tiny", "vae/ae_tiny"):
        shutil.copy(exported / f"{name}.safetensors", described)

    assert render(open_zimage(described), ask()).content == render(zimage, ask()).content


def test_parts_in_the_layout_of_diffusers_are_read_as_single_files_too(
    open_zimage, zimage, tiny, described, ask, render
):
    for part in ("transformer", "text_encoder", "vae"):
        save(load(tiny / part), described / f"{part}.safetensors")

    assert render(open_zimage(described), ask()).content == render(zimage, ask()).content


def test_a_vae_and_a_text_encoder_are_replaced_by_path(
    open_zimage, plain, tiny, other_tiny, ask, render, plainly
):
    model = ModelRef(source=str(tiny), path=tiny, vae=at(other_tiny / "vae"), text_encoder=at(other_tiny))
    other = plain(other_tiny)
    pipe = plain(tiny, vae=other.vae, text_encoder=other.text_encoder)
    replaced = open_zimage(model)

    assert render(replaced, ask()).content == plainly(pipe, ask())
    assert render(replaced, ask()).content != render(open_zimage(tiny), ask()).content


def test_a_replaced_part_is_the_same_part_in_every_model_that_has_it(open_zimage, tiny, other_tiny):
    vae = at(other_tiny / "vae")

    one = open_zimage(ModelRef(source=str(tiny), path=tiny, vae=vae))
    two = open_zimage(ModelRef(source=str(other_tiny), path=other_tiny, vae=vae))

    identities = [{part.name: part.identity for part in pipeline.parts} for pipeline in (one, two)]
    assert identities[0]["vae"] == identities[1]["vae"]
    assert identities[0]["transformer"] != identities[1]["transformer"]


def test_eight_bit_weights_that_are_a_plain_cast_are_widened(
    open_zimage, tiny, described, exported, ask, render
):
    import torch

    tensors = export_transformer(load(tiny / "transformer"))
    rounded = {
        key: value.to(torch.float8_e4m3fn) if value.ndim == 2 else value for key, value in tensors.items()
    }
    for name in ("text_encoders/qwen_tiny", "vae/ae_tiny"):
        shutil.copy(exported / f"{name}.safetensors", described)
    save(rounded, described / "transformer_fp8.safetensors")
    eight = open_zimage(described)
    widened = shutil.copytree(described, described.with_name("widened"))
    (widened / "transformer_fp8.safetensors").unlink()
    save({key: value.float() for key, value in rounded.items()}, widened / "transformer.safetensors")

    assert render(eight, ask()).content == render(open_zimage(widened), ask()).content


def test_scaled_eight_bit_weights_are_refused_by_name(open_zimage, described, exported):
    import torch

    for name in ("text_encoders/qwen_tiny", "vae/ae_tiny"):
        shutil.copy(exported / f"{name}.safetensors", described)
    tensors = load(exported / "diffusion_models")
    key = next(key for key in tensors if key.endswith("qkv.weight"))
    tensors[key] = tensors[key].to(torch.float8_e4m3fn)
    tensors[key.replace(".weight", ".scale_weight")] = torch.tensor(0.5)
    save(tensors, described / "transformer_fp8_scaled.safetensors")

    with pytest.raises(ModelError, match=r"transformer_fp8_scaled\.safetensors.*use the bf16 file"):
        open_zimage(described)


def test_a_tokenizer_from_elsewhere_gives_the_same_pixels(
    open_zimage, zimage, exported, described, tmp_path, ask, render
):
    shutil.copy(exported / "text_encoders" / "qwen_tiny.safetensors", described)
    elsewhere = shutil.move(described / "tokenizer", tmp_path / "elsewhere")
    model = replace(of_three(exported, described), tokenizer=at(Path(elsewhere)))

    assert render(open_zimage(model), ask()).content == render(zimage, ask()).content


def test_a_file_alone_says_what_else_is_needed(open_zimage, exported, tiny):
    transformer = exported / "diffusion_models" / "z_image_tiny.safetensors"
    alone = ModelRef(source=str(transformer), path=transformer)
    encoder = at(exported / "text_encoders" / "qwen_tiny.safetensors")

    with pytest.raises(ModelMissingError, match=r"text encoder \(model\.text_encoder\).*tokenizer\.json"):
        open_zimage(alone)
    with pytest.raises(ModelMissingError, match=r"VAE \(model\.vae\)"):
        open_zimage(ModelRef(source=str(transformer), path=transformer, text_encoder=encoder))
    with pytest.raises(
        ModelMissingError, match=r"no tokenizer.*download --tokenizer.*tokenizer_config\.json"
    ):
        open_zimage(
            ModelRef(source=str(transformer), path=transformer, text_encoder=encoder, vae=at(tiny / "vae"))
        )


def test_two_transformers_in_one_folder_are_both_named(open_zimage, exported, described):
    for name in ("one", "two"):
        shutil.copy(
            exported / "diffusion_models" / "z_image_tiny.safetensors", described / f"{name}.safetensors"
        )

    with pytest.raises(ModelError, match=r"one\.safetensors and two\.safetensors"):
        open_zimage(described)


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae"])
def test_our_description_of_the_official_model_is_one_that_the_libraries_build(part):
    import torch
    from diffusers import AutoencoderKL, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    from zit_ext.models.single_files import OFFICIAL

    billions = {"transformer": 6.15, "text_encoder": 4.02, "vae": 0.084}
    with torch.device("meta"):
        if part == "text_encoder":
            module = Qwen3Model(Qwen3Config.from_pretrained(str(OFFICIAL / part)))
        else:
            kind = {"transformer": ZImageTransformer2DModel, "vae": AutoencoderKL}[part]
            module = kind.from_config(kind.load_config(str(OFFICIAL / part)))

    count = sum(tensor.numel() for tensor in module.parameters()) / 1e9
    assert count == pytest.approx(billions[part], rel=0.005)
