"""Weights are found where people have them, and what is not found says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zit_ext.errors import ModelMissingError, RequestError
from zit_ext.models.weights import SUBFOLDERS, Kind, find

from .conftest import write, write_model

COMMIT = "c0ffee" * 6 + "c0de"


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """ComfyUI's folder of models, with the files that its users own."""
    models = tmp_path / "ComfyUI" / "models"
    write(models / "diffusion_models" / "z_image_turbo_bf16.safetensors")
    write(models / "text_encoders" / "qwen_3_4b.safetensors")
    write(models / "vae" / "ae.safetensors")
    write(models / "loras" / "styles" / "ink.safetensors")
    return models


@pytest.fixture
def a1111(tmp_path: Path) -> Path:
    """A1111's folder of models, as Forge users fill it."""
    models = tmp_path / "webui" / "models"
    write(models / "Stable-diffusion" / "z_image_turbo_bf16.safetensors")
    write(models / "text_encoder" / "qwen_3_4b.safetensors")
    write(models / "VAE" / "ae.safetensors")
    write(models / "Lora" / "ink.safetensors")
    return models


def in_hub(home: Path, repo_id: str = "someone/tiny") -> Path:
    """Put a model into the cache of Hugging Face's tools."""
    folder = home / "hub" / f"models--{repo_id.replace('/', '--')}"
    write(folder / "refs" / "main", COMMIT)
    return write_model(folder / "snapshots" / COMMIT)


@pytest.mark.parametrize("name", ["model", "with spaces/model", "模型/Ünïcode 😀", "a'b\"c"])
def test_a_folder_is_found_by_its_path_whatever_it_is_called(tmp_path, name):
    if os.name == "nt" and '"' in name:
        pytest.skip("no file can have this name here")
    folder = write_model(tmp_path / name)
    assert find(str(folder)) == folder


def test_a_file_is_found_by_its_path_with_and_without_its_ending(tmp_path):
    file = write(tmp_path / "模型" / "ink 2.safetensors")
    assert find(str(file), kind=Kind.LORA) == file
    assert find(str(file.with_suffix("")), kind=Kind.LORA) == file


def test_a_path_may_begin_at_home_or_where_you_are(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert find("~/model") == folder
    assert find("./model") == folder
    assert find("model").is_absolute()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.MODEL, "z_image_turbo_bf16"),
        (Kind.TEXT_ENCODER, "qwen_3_4b"),
        (Kind.VAE, "ae"),
        (Kind.LORA, "ink"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".safetensors", ".SAFETENSORS"])
@pytest.mark.parametrize("host", ["comfyui", "a1111"])
def test_single_files_are_found_in_a_hosts_folders_by_name(kind, name, ending, host, request):
    models = request.getfixturevalue(host)
    found = find(name + ending, kind=kind, model_dirs=[models])
    assert found.name == f"{name}.safetensors"
    assert found.is_relative_to(models)


def test_a_name_with_its_subfolder_is_found_as_hosts_list_it(comfyui):
    wanted = comfyui / "loras" / "styles" / "ink.safetensors"
    for name in ("styles/ink.safetensors", "styles\\ink.safetensors", "styles/ink", "Styles/INK"):
        assert find(name, kind=Kind.LORA, model_dirs=[comfyui]) == wanted


def test_only_the_folders_of_its_kind_are_searched(comfyui):
    with pytest.raises(ModelMissingError):
        find("qwen_3_4b", kind=Kind.VAE, model_dirs=[comfyui])


def test_a_model_folder_in_a_hosts_folder_is_found_by_name(tmp_path):
    folder = write_model(tmp_path / "models" / "diffusers" / "zit")
    assert find("zit", model_dirs=[tmp_path / "models"]) == folder


def test_a_text_encoder_with_its_tokenizer_is_found_by_the_name_of_their_folder(comfyui):
    folder = comfyui / "text_encoders" / "qwen_3_4b"
    write(folder / "tokenizer.json")
    (comfyui / "text_encoders" / "qwen_3_4b.safetensors").rename(folder / "qwen_3_4b.safetensors")
    assert find("qwen_3_4b", kind=Kind.TEXT_ENCODER, model_dirs=[comfyui]) == folder


def test_the_folders_that_come_first_win(tmp_path):
    # Two files in the same place of two hosts are two things: whoever means one gives its path.
    one = write(tmp_path / "one" / "vae" / "ae.safetensors", "one")
    write(tmp_path / "one" / "vae" / "old" / "ae.safetensors", "old")
    assert find("ae", kind=Kind.VAE, model_dirs=[tmp_path / "one"]) == one


def test_a_name_that_two_files_have_is_refused_and_both_are_named(comfyui, a1111):
    with pytest.raises(RequestError) as refused:
        find("ae", kind=Kind.VAE, model_dirs=[comfyui, a1111], field="model.vae")
    assert refused.value.field == "model.vae"
    assert str(comfyui / "vae" / "ae.safetensors") in refused.value.remedy
    assert str(a1111 / "VAE" / "ae.safetensors") in refused.value.remedy
    assert "give the path" in refused.value.remedy


def test_two_files_further_down_are_refused_too(tmp_path):
    for sub in ("a", "b"):
        write(tmp_path / "loras" / sub / "ink.safetensors", sub)
    with pytest.raises(RequestError, match="several files have this name"):
        find("ink", kind=Kind.LORA, model_dirs=[tmp_path])
    assert find("b/ink", kind=Kind.LORA, model_dirs=[tmp_path]).parent.name == "b"


def test_letters_of_the_right_case_win(tmp_path):
    write(tmp_path / "loras" / "a" / "ink.safetensors")
    write(tmp_path / "loras" / "b" / "Ink.safetensors")
    found = find("Ink", kind=Kind.LORA, model_dirs=[tmp_path])
    assert found.name == "Ink.safetensors"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_two_links_to_one_file_are_one_file(comfyui, a1111):
    link = a1111 / "VAE" / "ae.safetensors"
    link.unlink()
    link.symlink_to(comfyui / "vae" / "ae.safetensors")
    assert find("ae", kind=Kind.VAE, model_dirs=[comfyui, a1111]).samefile(link)


@pytest.mark.parametrize("name", ["../secret", "~/secret", "sub/../../secret", "a//b", "C:/secret", "."])
def test_a_name_never_leads_out_of_the_folders(tmp_path, name, monkeypatch):
    write(tmp_path / "models" / "secret.safetensors")
    (tmp_path / "models" / "vae" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ModelMissingError):
        find(f"vae/{name}", kind=Kind.VAE, model_dirs=[tmp_path / "models"])


@pytest.mark.parametrize(
    ("kind", "name", "place", "origin"),
    [
        (Kind.MODEL, "z_image_turbo_bf16", "diffusion_models", "split_files/diffusion_models/z_image"),
        (Kind.TEXT_ENCODER, "qwen_3_4b.safetensors", "text_encoders", "split_files/text_encoders/qwen_3_4b"),
        (Kind.VAE, "ae", "vae", "split_files/vae/ae.safetensors in Comfy-Org/z_image_turbo"),
        (Kind.LORA, "ink", "loras", "give the path of the LoRA"),
    ],
)
def test_a_file_that_is_not_there_says_where_to_put_it_and_where_it_is_from(
    tmp_path, kind, name, place, origin
):
    with pytest.raises(ModelMissingError) as missing:
        find(name, kind=kind, model_dirs=[tmp_path])
    assert missing.value.source == name
    assert str(tmp_path / place) in missing.value.remedy
    assert origin in missing.value.remedy


def test_without_any_model_folder_the_setting_is_named():
    with pytest.raises(ModelMissingError, match="ZIT_MODEL_DIRS"):
        find("z_image_turbo_bf16")


def test_a_path_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ModelMissingError, match="no such file or folder"):
        find(str(tmp_path / "nothing"))


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".gguf"])
def test_other_formats_are_refused_by_name(tmp_path, suffix):
    file = write(tmp_path / "loras" / f"ink{suffix}")
    for source in (str(file), "ink"):
        with pytest.raises(RequestError, match=r"\.safetensors files only") as refused:
            find(source, kind=Kind.LORA, model_dirs=[tmp_path], field="loras[0]")
        assert refused.value.field == "loras[0]"


def test_a_safe_file_wins_over_the_same_name_in_another_format(tmp_path):
    write(tmp_path / "loras" / "a" / "ink.ckpt")
    safe = write(tmp_path / "loras" / "b" / "ink.safetensors")
    assert find("ink", kind=Kind.LORA, model_dirs=[tmp_path]) == safe


def test_a_folder_with_the_name_of_a_file_is_no_file(tmp_path):
    (tmp_path / "vae" / "ae.safetensors").mkdir(parents=True)
    with pytest.raises(ModelMissingError):
        find("ae", kind=Kind.VAE, model_dirs=[tmp_path])


def test_a_lora_may_be_a_folder_with_one_file(tmp_path):
    file = write(tmp_path / "ink" / "pytorch_lora_weights.safetensors")
    assert find(str(tmp_path / "ink"), kind=Kind.LORA) == file
    write(tmp_path / "ink" / "other.safetensors")
    with pytest.raises(RequestError, match="holds 2 LoRA files"):
        find(str(tmp_path / "ink"), kind=Kind.LORA)


def test_a_folder_inside_a_lora_folder_is_no_lora(tmp_path):
    (tmp_path / "ink" / "old.safetensors").mkdir(parents=True)
    file = write(tmp_path / "ink" / "ink.safetensors")
    assert find(str(tmp_path / "ink"), kind=Kind.LORA) == file


@pytest.mark.parametrize("kind", list(Kind))
def test_the_home_of_somebody_who_is_not_there_holds_no_weights(kind, monkeypatch):
    monkeypatch.setenv("HF_HOME", "~nobody-of-this-name/hf")
    for source in ("~nobody-of-this-name/x", "someone/tiny"):
        with pytest.raises(ModelMissingError):
            find(source, kind=kind)


@pytest.mark.parametrize("source", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_refused(source):
    with pytest.raises((RequestError, ModelMissingError)) as refused:
        find(source, field="model")
    assert "model" in str(refused.value) or "weights" in str(refused.value)


def test_a_name_that_is_too_long_is_an_error_of_ours(tmp_path):
    with pytest.raises((RequestError, ModelMissingError)):
        find("x" * 5000, kind=Kind.VAE, model_dirs=[tmp_path])


def test_an_address_is_refused_with_what_to_give_instead():
    with pytest.raises(RequestError, match="Hugging Face id instead: Tongyi-MAI/Z-Image-Turbo"):
        find("https://huggingface.co/Tongyi-MAI/Z-Image-Turbo")
    with pytest.raises(RequestError, match="addresses are not read"):
        find("file:///models/zit")


def test_a_downloaded_id_is_found(hub_home):
    snapshot = in_hub(hub_home)
    assert find("someone/tiny") == snapshot
    assert find("someone/tiny", offline=True) == snapshot


def test_an_id_that_was_not_downloaded_says_how_to_get_it(hub_home):
    with pytest.raises(ModelMissingError) as missing:
        find("someone/tiny")
    assert "python -m zit_ext.models.download someone/tiny" in missing.value.remedy
    assert str(hub_home / "hub") in missing.value.remedy


@pytest.mark.parametrize("how", ["setting", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_it_says_what_is_missing_and_where_to_put_it(hub_home, monkeypatch, how):
    if how != "setting":
        monkeypatch.setenv(how, "1")
    with pytest.raises(ModelMissingError) as missing:
        find("someone/tiny", offline=how == "setting")
    assert "offline" in missing.value.remedy
    assert "models--someone--tiny" in missing.value.remedy
    assert str(hub_home / "hub") in missing.value.remedy


def test_every_kind_knows_the_folders_of_both_hosts():
    assert set(SUBFOLDERS) == set(Kind)
    assert all(len(folders) > 1 for folders in SUBFOLDERS.values())
