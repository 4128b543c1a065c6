"""LoRAs, changed from picture to picture over one base that stays as it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from zit_ext.errors import ModelError, RequestError
from zit_ext.records import LoraRef

pytestmark = [
    pytest.mark.pipeline,
    # Of peft, when the plain pipeline gets its second LoRA.
    pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute"),
]


def save_lora(
    folder: Path, *, seed: int, rank: int = 4, alpha: int = 4, targets=("to_q", "to_v"), dim: int = 64
):
    """Write a LoRA of random numbers for the tiny model, the way trainers write them."""
    import torch
    from diffusers import ZImagePipeline
    from peft import LoraConfig, get_peft_model_state_dict

    from zit_ext.models.tiny import components

    transformer = components()["transformer"]
    if dim != 64:
        config = dict(transformer.config) | {"dim": dim, "n_heads": dim // 32, "n_kv_heads": dim // 32}
        transformer = type(transformer).from_config(config)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer.add_adapter(config)
    ZImagePipeline.save_lora_weights(
        str(folder),
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=config.to_dict(),
    )
    return folder / "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    return [
        save_lora(folder / "one", seed=1),
        save_lora(folder / "two", seed=2, rank=2, alpha=8, targets=("to_k", "to_out.0", "w1")),
    ]


@pytest.fixture(scope="module")
def patched(open_zimage, tiny):
    return open_zimage(tiny)


def lora(path, strength=1.0):
    return LoraRef(source=str(path), path=Path(path), strength=strength)


def plain_with(plain, tiny, loras):
    pipe = plain(tiny)
    for index, (path, _) in enumerate(loras):
        pipe.load_lora_weights(str(path), adapter_name=f"lora{index}")
    pipe.set_adapters([f"lora{index}" for index in range(len(loras))], [strength for _, strength in loras])
    return pipe


@pytest.mark.parametrize(
    "chosen", [[(0, 1.0)], [(0, -0.5)], [(1, 2.0)], [(0, 0.7), (1, 0.3)], [(1, 0.3), (0, 0.7)]], ids=str
)
def test_a_picture_with_loras_is_the_plain_pipelines(
    patched, plain, tiny, files, ask, render, plainly, chosen
):
    request = ask(loras=tuple(lora(files[index], strength) for index, strength in chosen))
    pipe = plain_with(plain, tiny, [(files[index], strength) for index, strength in chosen])

    ours = render(patched, request).content

    assert ours == plainly(pipe, request)
    assert ours != render(patched, ask()).content


def test_a_picture_after_loras_is_as_if_there_had_never_been_any(zimage, patched, files, ask, render):
    expected = render(zimage, ask()).content

    for path in files:
        render(patched, ask(loras=(lora(path),)))
        assert render(patched, ask()).content == expected


def test_strength_changes_without_a_trace_of_the_one_before(patched, files, ask, render):
    pictures = {}
    for strength in (0.2, 1.0, 0.2, 1.0):
        picture = render(patched, ask(loras=(lora(files[0], strength),))).content
        assert pictures.setdefault(strength, picture) == picture

    assert len(set(pictures.values())) == 2


def test_strength_nought_is_no_lora(patched, files, ask, render):
    assert render(patched, ask(loras=(lora(files[0], 0.0),))).content == render(patched, ask()).content


def test_one_lora_twice_is_twice_the_lora(patched, plain, tiny, files, ask, render, plainly):
    request = ask(loras=(lora(files[0], 0.5), lora(files[0], 0.25)))

    ours = render(patched, request).content

    assert ours == plainly(plain_with(plain, tiny, [(files[0], 0.5), (files[0], 0.25)]), request)


def test_a_lora_file_that_was_replaced_is_read_again(patched, files, ask, render, tmp_path):
    path = tmp_path / "lora.safetensors"
    shutil.copy(files[0], path)
    before = render(patched, ask(loras=(lora(path),))).content

    shutil.copy(files[1], path)
    after = render(patched, ask(loras=(lora(path),))).content

    assert before == render(patched, ask(loras=(lora(files[0]),))).content
    assert after == render(patched, ask(loras=(lora(files[1]),))).content != before


def test_a_loaded_lora_does_not_hang_on_its_file(patched, files, ask, render, tmp_path):
    path = tmp_path / "lora.safetensors"
    shutil.copy(files[0], path)
    request = ask(loras=(lora(path),))
    seen = path.stat()
    before = render(patched, request).content

    with path.open("r+b") as file:
        file.write(b"\xff" * seen.st_size)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert render(patched, request).content == before

    path.touch()
    with pytest.raises(ModelError, match=r"lora\.safetensors is damaged"):
        render(patched, request)


def test_a_lora_in_the_layout_of_other_trainers_is_read(patched, files, ask, render, tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "trained_elsewhere.safetensors"
    tensors = load_file(files[0])
    save_file(
        {key.replace("transformer.", "diffusion_model.", 1): value for key, value in tensors.items()}, path
    )

    theirs = render(patched, ask(loras=(lora(path),))).content

    assert theirs == render(patched, ask(loras=(lora(files[0]),))).content != render(patched, ask()).content


@pytest.mark.parametrize("place", [0, 1])
def test_a_lora_that_is_not_there_is_named(patched, files, ask, render, tmp_path, place):
    loras = [lora(files[0])]
    loras.insert(place, lora(tmp_path / "gone.safetensors"))

    with pytest.raises(RequestError, match=r"gone\.safetensors") as caught:
        render(patched, ask(loras=tuple(loras)))

    assert caught.value.field == f"loras[{place}]"


def broken_loras(folder: Path, good: Path):
    from safetensors.torch import load_file, save_file

    from zit_ext.models.tiny import components

    folder.mkdir()
    cut = folder / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    noise = folder / "noise.safetensors"
    noise.write_bytes(b"<html>404 not found</html>" * 10)
    pickled = folder / "pickled.pt"
    pickled.write_bytes(b"\x80\x04.")
    wide = save_lora(folder / "wide", seed=3, dim=128)
    strange = folder / "strange.safetensors"
    save_file({key.replace("to_q", "to_nowhere"): value for key, value in load_file(good).items()}, strange)
    partly = folder / "partly.safetensors"
    tensors = load_file(good)
    extra = {key.replace("layers.0.", "layers.77."): value.clone() for key, value in tensors.items()}
    save_file(tensors | extra, partly)
    model = folder / "model.safetensors"
    save_file(components()["vae"].state_dict(), model)
    return {path.stem: path for path in (cut, noise, pickled, strange, partly, model)} | {"wide": wide}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("cut", ModelError),
        ("noise", ModelError),
        ("pickled", RequestError),
        ("strange", RequestError),
        ("partly", RequestError),
        ("model", RequestError),
        ("wide", RequestError),
    ],
)
def test_a_lora_that_cannot_be_used_is_named_and_leaves_no_trace(
    patched, files, ask, render, tmp_path, name, error
):
    path = broken_loras(tmp_path / "broken", files[0])[name]
    expected = render(patched, ask()).content

    with pytest.raises(error, match=path.name):
        render(patched, ask(loras=(lora(files[1]), lora(path))))

    assert render(patched, ask()).content == expected
