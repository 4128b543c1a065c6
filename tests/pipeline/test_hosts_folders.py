"""The single files in a host's model folders, by name: the same pixels, and entries of their own."""

from __future__ import annotations

import shutil

import pytest

from zit_ext.errors import ModelMissingError
from zit_ext.records import FileRef, ModelRef, Outcome, Request
from zit_ext.runtime import Runtime
from zit_ext.settings import Settings

from .test_single_files import exported  # noqa: F401 - a fixture

pytestmark = pytest.mark.pipeline

LAYOUTS = {
    "ComfyUI": ("diffusion_models", "text_encoders", "vae"),
    "A1111": ("Stable-diffusion", "text_encoder", "VAE"),
}


@pytest.fixture(params=LAYOUTS)
def models(request, exported, tiny, tmp_path):  # noqa: F811 - the fixture
    """The folder `models` of a host, with the files under the names that people have them by."""
    folder = tmp_path / "モデル" / request.param / "models"
    transformer, encoder, vae = LAYOUTS[request.param]
    for sub, here, name in (
        ("diffusion_models", transformer, "z_image_turbo_bf16"),
        ("text_encoders", f"{encoder}/qwen", "qwen_3_4b"),
        ("vae", vae, "ae"),
    ):
        (file,) = (exported / sub).glob("*.safetensors")
        (folder / here).mkdir(parents=True)
        shutil.copy(file, folder / here / f"{name}.safetensors")
    # No single file has a tokenizer. The descriptions are the tiny model's, which is not the official one.
    shutil.copytree(tiny / "tokenizer", folder / encoder / "qwen", dirs_exist_ok=True)
    for part in ("transformer", "text_encoder", "vae"):
        (folder / encoder / "qwen" / part).mkdir()
        shutil.copy(tiny / part / "config.json", folder / encoder / "qwen" / part)
    shutil.copytree(tiny / "scheduler", folder / encoder / "qwen" / "scheduler")
    return folder


@pytest.fixture
def runtime(models, tmp_path):
    settings = Settings(
        cache_dir=tmp_path / "cache", data_dir=tmp_path / "data", device="cpu", model_dirs=(models,)
    )
    with Runtime(settings) as runtime:
        yield runtime


def by_name(**parts) -> ModelRef:
    parts = {"text_encoder": FileRef(source="qwen"), "vae": FileRef(source="ae"), **parts}
    return ModelRef(source="z_image_turbo_bf16", **parts)


def test_the_files_of_a_host_give_the_pixels_of_the_diffusers_folder_under_a_key_of_their_own(runtime, tiny):
    request = Request(prompt="a red fox", seed=3, model=by_name(), width=64, height=64, steps=4)
    folder = Request(
        prompt="a red fox", seed=3, model=ModelRef(source=str(tiny)), width=64, height=64, steps=4
    )
    answers = [runtime.generate_blocking(each) for each in (request, folder, request, folder)]
    assert [each.status.outcome for each in answers] == [
        Outcome.MISS,
        Outcome.MISS,
        Outcome.HIT,
        Outcome.HIT,
    ]
    assert answers[0].status.key != answers[1].status.key
    assert len({each.digest for each in answers}) == 1


def test_a_text_encoder_without_a_tokenizer_says_where_to_get_one(runtime):
    model = by_name(text_encoder=FileRef(source="qwen_3_4b"))
    with pytest.raises(ModelMissingError, match="download --tokenizer Tongyi-MAI/Z-Image-Turbo"):
        runtime.generate_blocking(Request(prompt="a red fox", seed=3, model=model, width=64, height=64))
