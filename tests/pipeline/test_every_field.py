"""One field of a request at a time: what may change the picture is a miss, what does not is a hit.

A field that somebody declares and forgets here fails the first test.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import fields, replace
from io import BytesIO

import pytest

from zit_ext.errors import NotCachedError
from zit_ext.records import (
    CacheMode,
    FileRef,
    InputImage,
    LoraRef,
    ModelRef,
    Outcome,
    Request,
    ResultTier,
    SchedulerRef,
)
from zit_ext.runtime import Runtime
from zit_ext.settings import Settings

from .test_loras import save_lora

pytestmark = pytest.mark.pipeline


def picture(shade: int) -> InputImage:
    from PIL import Image

    out = BytesIO()
    Image.new("RGB", (64, 64), (shade, 90, 200)).save(out, "PNG")
    return InputImage.of(out.getvalue())


@pytest.fixture(scope="module")
def places(tiny, other_tiny, tmp_path_factory):
    """Weights to change to, by what they are."""
    folder = tmp_path_factory.mktemp("places")
    copy = shutil.copytree(tiny, folder / "模型" / "a copy 😀")
    (copy / "README.md").write_text("a text that changes nothing")
    edited = shutil.copytree(tiny, folder / "edited")
    config = edited / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"shift": 3.0', '"shift": 2.5'))
    assert config.read_bytes() != (tiny / "scheduler" / "scheduler_config.json").read_bytes()
    one = save_lora(folder / "one", seed=1)
    shutil.copy(one, folder / "renamed.safetensors")
    return {
        "model": tiny,
        "copy": copy,
        "edited": edited,
        "other": other_tiny,
        "vae": tiny / "vae",
        "other vae": other_tiny / "vae",
        "other tokenizer": other_tiny / "tokenizer",
        "other encoder": other_tiny / "text_encoder",
        "lora": one,
        "lora copy": folder / "renamed.safetensors",
        "other lora": save_lora(folder / "two", seed=2),
    }


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtime")
    settings = Settings(cache_dir=folder / "cache", data_dir=folder / "data", device="cpu", max_models=3)
    with Runtime(settings) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def base(runtime, places):
    """A request in which every field counts, and whose answer is stored."""
    request = Request(
        prompt="a red fox in the snow",
        seed=42,
        model=ModelRef(source=str(places["model"]), vae=FileRef(source=str(places["vae"]))),
        negative_prompt="fog",
        width=64,
        height=64,
        steps=3,
        guidance=1.5,
        cfg_normalization=0.5,
        cfg_truncation=0.8,
        scheduler=SchedulerRef(config={"shift": 2.0}),
        loras=(
            LoraRef(source=str(places["lora"]), strength=0.5),
            LoraRef(source=str(places["other lora"]), strength=0.25),
        ),
        image=picture(10),
        strength=0.8,
    )
    for each in (request, replace(request, model=ModelRef(source=str(places["copy"])))):
        runtime.generate_blocking(each)
    assert runtime.generate_blocking(request).status.outcome is Outcome.HIT
    return request


def model(request, places, **changes):
    if "source" in changes:
        changes["source"] = str(places[changes["source"]])
    for name in ("vae", "text_encoder", "tokenizer"):
        if isinstance(changes.get(name), str):
            changes[name] = FileRef(source=str(places[changes[name]]))
    return {"model": replace(request.model, **changes)}


def loras(request, places, *named):
    return {"loras": tuple(LoraRef(source=str(places[name]), strength=strength) for name, strength in named)}


CHANGES = {
    "prompt": lambda *_: {"prompt": "a red fox in the snow "},
    "prompt, its case": lambda *_: {"prompt": "A red fox in the snow"},
    "seed": lambda *_: {"seed": 43},
    "negative_prompt": lambda *_: {"negative_prompt": "mist"},
    "width": lambda *_: {"width": 80},
    "height": lambda *_: {"height": 80},
    "steps": lambda *_: {"steps": 4},
    "guidance": lambda *_: {"guidance": 1.5000001},
    "cfg_normalization": lambda *_: {"cfg_normalization": 0.6},
    "cfg_truncation": lambda *_: {"cfg_truncation": 0.9},
    "sigmas": lambda *_: {"sigmas": (1.0, 0.6, 0.3)},
    "max_sequence_length": lambda *_: {"max_sequence_length": 256},
    "generator_device": lambda *_: {"generator_device": "cuda"},
    "scheduler, its config": lambda *_: {"scheduler": SchedulerRef(config={"shift": 2.5})},
    "scheduler, without config": lambda *_: {"scheduler": SchedulerRef()},
    "loras, a strength": lambda *at: loras(*at, ("lora", 0.51), ("other lora", 0.25)),
    "loras, their order": lambda *at: loras(*at, ("other lora", 0.25), ("lora", 0.5)),
    "loras, one less": lambda *at: loras(*at, ("lora", 0.5)),
    "loras, another file": lambda *at: loras(*at, ("other lora", 0.5), ("other lora", 0.25)),
    "image": lambda *_: {"image": picture(11)},
    "image, none": lambda *_: {"image": None},
    "strength": lambda *_: {"strength": 0.81},
    "media_type": lambda *_: {"media_type": "audio/wav"},
    "namespace": lambda *_: {"namespace": "ann"},
    "extra": lambda *_: {"extra": {"host.field": 1}},
    "model, its weights": lambda *at: model(*at, source="other"),
    "model, its scheduler": lambda *at: model(*at, source="edited"),
    "model.dtype": lambda *at: model(*at, dtype="bfloat16"),
    "model.text_encoder": lambda *at: model(*at, text_encoder="other encoder"),
    "model.vae": lambda *at: model(*at, vae="other vae"),
    "model.tokenizer": lambda *at: model(*at, tokenizer="other tokenizer"),
    "model.attention": lambda *at: model(*at, attention="native"),
    "model.vae_tiling": lambda *at: model(*at, vae_tiling=True),
    "model.offload": lambda *at: model(*at, offload="model"),
}
"""What gives another picture, or may."""

SAME = {
    "comment": lambda *_: {"comment": "for people"},
    "priority": lambda *_: {"priority": 5},
    "keep_alive": lambda *_: {"keep_alive": 60.0},
    "ttl_seconds": lambda *_: {"ttl_seconds": 5.0},
    "cache": lambda *_: {"cache": CacheMode.ONLY},
    "context": lambda *_: {"context": "anything"},
    "numbers as another type": lambda *_: {"width": 64.0, "steps": 3.0, "seed": 42.0, "guidance": 1.5},
    "model, its place": lambda *at: model(*at, source="copy"),
    "model, a false digest": lambda request, places: model(request, places, digest="f" * 64, identity="x"),
    "loras, their place": lambda *at: loras(*at, ("lora copy", 0.5), ("other lora", 0.25)),
    "loras, one of no strength": lambda *at: loras(
        *at, ("lora", 0.5), ("lora copy", 0.0), ("other lora", 0.25)
    ),
    "scheduler, by its short name": lambda *_: {"scheduler": SchedulerRef(name="euler", config={"shift": 2})},
}
"""What the picture does not depend on."""

ELSEWHERE = {"debug": "a bypass: test_without_the_cache in tests/test_engine.py"}
CANNOT_BE_RENDERED_HERE = ("generator_device", "media_type")


def test_no_field_is_forgotten():
    named = {name.split(",")[0] for name in (*CHANGES, *SAME)} | set(ELSEWHERE)
    own = {each.name for each in fields(Request)}
    parts = {f"model.{each.name}" for each in fields(ModelRef)} - {
        # Of the place and not of the picture: in SAME, under "model".
        "model.source",
        "model.digest",
        "model.path",
        "model.identity",
        "model.believed",
    }
    assert own | parts == named - {"numbers as another type"}


@pytest.mark.parametrize("name", CHANGES)
def test_what_may_change_the_picture_is_a_miss(runtime, base, places, name):
    changed = replace(base, **CHANGES[name](base, places))
    with pytest.raises(NotCachedError, match=r"no stored answer|are new here"):
        runtime.generate_blocking(replace(changed, cache=CacheMode.ONLY))
    if name in CANNOT_BE_RENDERED_HERE:
        return
    first, again = runtime.generate_blocking(changed), runtime.generate_blocking(changed)
    assert (first.status.outcome, again.status.outcome) == (Outcome.MISS, Outcome.HIT)
    assert first.digest == again.digest
    assert runtime.generate_blocking(base).status.key != first.status.key


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_change_the_picture_is_a_hit(runtime, base, places, name):
    answered = runtime.generate_blocking(replace(base, **SAME[name](base, places)))
    assert answered.status.outcome is Outcome.HIT
    assert answered.status.tier in (ResultTier.MEMORY, ResultTier.DISK)
    assert answered.status.key == runtime.generate_blocking(base).status.key


@pytest.mark.parametrize(
    "changes",
    [{"negative_prompt": "mist"}, {"cfg_normalization": 0.9}, {"cfg_truncation": 0.1}, {"guidance": -1.0}],
    ids=str,
)
def test_without_guidance_what_belongs_to_it_changes_nothing(runtime, base, changes):
    plain = replace(base, guidance=0.0)
    first = runtime.generate_blocking(plain)
    # A negative guidance is as good as none, and yet another number: never a wrong answer, at most a miss.
    answered = runtime.generate_blocking(replace(plain, **changes))
    assert answered.digest == first.digest
    assert (answered.status.outcome is Outcome.HIT) is ("guidance" not in changes)


def test_without_a_picture_to_start_from_the_strength_changes_nothing(runtime, base):
    plain = replace(base, image=None)
    runtime.generate_blocking(plain)
    assert runtime.generate_blocking(replace(plain, strength=0.3)).status.outcome is Outcome.HIT


def test_every_byte_of_the_weights_counts(runtime, base, places, tmp_path):
    copy = shutil.copytree(places["model"], tmp_path / "copy")
    asked = replace(base, model=ModelRef(source=str(copy)))
    assert runtime.generate_blocking(asked).status.outcome is Outcome.HIT
    for name in ("tokenizer/chat_template.jinja", "text_encoder/config.json", "vae/config.json"):
        file = copy / name
        before = file.stat()
        file.write_bytes(file.read_bytes() + b" ")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(NotCachedError):
            runtime.generate_blocking(replace(asked, cache=CacheMode.ONLY))


def test_the_answers_are_those_of_a_new_render_to_the_bit(runtime, base):
    hit = runtime.generate_blocking(base)
    anew = runtime.generate_blocking(replace(base, cache=CacheMode.BYPASS))
    assert (hit.status.outcome, anew.status.outcome) == (Outcome.HIT, Outcome.BYPASS)
    assert hit.pixels() == anew.pixels()
