"""What a request names is found, checked and identified; what is unknown holds nobody up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from dataclasses import replace

import pytest

from zit_ext.models import digests as digests_module
from zit_ext.models import resolver as module
from zit_ext.models.resolver import Resolver
from zit_ext.records import FileRef, LoraRef, ModelRef, Outcome
from zit_ext.runtime import Runtime
from zit_ext.testing import FakePipeline, FakeRenderer, make_request

from .conftest import age, ask, later, safetensors, timed_changes, write, write_model

links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


def no(*_args):
    return False


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# What is found


def test_everything_that_a_request_names_is_found_and_identified(resolver, model_folder, tmp_path):
    ink = write(tmp_path / "models" / "loras" / "ink.safetensors", safetensors({"a": "F32"}))
    vae = write(tmp_path / "模型" / "ae 2.safetensors", safetensors({"b": "F32"}))
    encoder = write(
        tmp_path / "models" / "text_encoders" / "qwen_3_4b.safetensors", safetensors({"c": "F32"})
    )
    model = ModelRef(
        source=str(model_folder), vae=FileRef(source=str(vae)), text_encoder=FileRef(source="qwen_3_4b")
    )
    found = resolver.resolve(ask(model, loras=(LoraRef(source="ink", strength=0.5),)))
    assert found.model.path == model_folder
    assert found.model.vae.path == vae
    assert found.model.vae.digest == sha256(vae.read_bytes())
    assert found.model.text_encoder.path == encoder
    assert found.loras[0].path == ink
    assert found.loras[0].digest == sha256(ink.read_bytes())
    assert found.loras[0].strength == 0.5
    assert all(
        len(each.identity) == len(each.digest) == 64
        for each in (found.model, found.model.vae, found.model.text_encoder, found.loras[0])
    )


def test_nothing_that_a_caller_filled_in_is_believed(resolver, model_folder, tmp_path):
    false = ModelRef(
        source=str(model_folder), digest="f" * 64, path=tmp_path / "nothing", identity="f" * 64, believed=True
    )
    lora = write(tmp_path / "ink.safetensors", safetensors({"a": "F32"}))
    true = resolver.resolve(ask(model_folder, loras=(LoraRef(source=str(lora)),)))
    found = resolver.resolve(ask(false, loras=(LoraRef(source=str(lora), digest="0" * 64),)))
    assert found == true
    assert not found.model.believed


def test_equal_bytes_have_one_digest_wherever_they_lie(resolver, tmp_path):
    one, other = write_model(tmp_path / "one"), write_model(tmp_path / "模型 😀")
    assert resolver.resolve(ask(one)).model.digest == resolver.resolve(ask(other)).model.digest
    assert resolver.resolve(ask(one)).model.identity != resolver.resolve(ask(other)).model.identity


def test_what_only_a_plugin_knows_needs_no_files(resolver):
    found = resolver.resolve(ask(ModelRef(source="vits:tiny")))
    assert (found.model.path, len(found.model.digest)) == (None, 64)
    assert not Resolver.pending(found)


# What is unknown


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 0)


def test_large_files_that_nobody_hashed_keep_no_digest(resolver, model_folder, everything_is_large):
    found = resolver.resolve(ask(model_folder))
    assert found.model.digest is None
    assert Resolver.pending(found)
    completed = resolver.complete(found, no)
    assert completed.model.digest is not None
    assert resolver.resolve(ask(model_folder)) == completed


def test_a_digest_is_not_completed_if_the_files_changed(resolver, model_folder, everything_is_large):
    found = resolver.resolve(ask(model_folder))
    write(model_folder / "vae" / "model.safetensors", safetensors({"other": "F32"}))
    assert resolver.complete(found, no) is None


def test_a_digest_is_not_completed_if_the_files_went(resolver, model_folder, everything_is_large):
    found = resolver.resolve(ask(model_folder))
    (model_folder / "vae" / "model.safetensors").unlink()
    assert resolver.complete(found, no) is None


def test_a_digest_is_not_completed_if_to_stop_was_wanted(resolver, model_folder, everything_is_large):
    assert resolver.complete(resolver.resolve(ask(model_folder)), lambda: True) is None


def test_young_files_are_hashed_once_they_have_settled(settings, model_folder, everything_is_large):
    resolver = Resolver(settings)  # by the real clock, the files were written just now
    found = resolver.resolve(ask(model_folder))
    assert resolver.complete(found, no).model.digest is not None
    assert Resolver(settings).resolve(ask(model_folder)).model.digest is not None


class Story:
    """A runtime with the real resolver; only the pixels are fake."""

    def __init__(self, settings):
        self.pipeline = FakePipeline(sizes={})
        self.runtime = Runtime(
            settings, renderer=FakeRenderer(self.pipeline), files=Resolver(settings, clock=later())
        )

    def ask(self, request):
        return self.runtime.generate_blocking(request)

    def settle(self):
        self.runtime.close()


@pytest.fixture
def story(settings):
    story = Story(settings)
    yield story
    story.runtime.close()


def test_an_unknown_digest_never_holds_a_request_up(
    story, settings, model_folder, everything_is_large, monkeypatch
):
    gate = threading.Event()
    really = digests_module.hash_file

    def slow(seen, wants_stop=no):
        assert gate.wait(30)
        return really(seen, wants_stop)

    monkeypatch.setattr(digests_module, "hash_file", slow)
    first = story.ask(ask(model_folder))
    assert first.status.outcome is Outcome.MISS
    assert first.status.detail == "kept as soon as the weights are hashed"
    assert not gate.is_set()
    gate.set()
    story.settle()
    again = Story(settings)
    assert again.ask(ask(model_folder)).status.outcome is Outcome.HIT
    again.settle()


def test_a_picture_of_files_that_changed_before_they_were_hashed_is_not_kept(
    story, settings, model_folder, everything_is_large, monkeypatch
):
    gate = threading.Event()
    really = digests_module.hash_file

    def slow(seen, wants_stop=no):
        assert gate.wait(30)
        return really(seen, wants_stop)

    monkeypatch.setattr(digests_module, "hash_file", slow)
    story.ask(ask(model_folder))
    write(model_folder / "vae" / "model.safetensors", safetensors({"other": "F32"}))
    gate.set()
    story.settle()
    again = Story(settings)
    assert again.ask(ask(model_folder)).status.outcome is Outcome.MISS
    again.settle()


async def test_a_picture_is_not_kept_if_young_files_changed_without_a_trace(
    in_engine, pipeline, files, monkeypatch
):
    async def story(engine):
        await engine.generate(make_request(seed=1))
        pipeline.started.clear()
        pipeline.gate.clear()
        asked = asyncio.ensure_future(engine.generate(make_request(seed=2)))
        await asyncio.to_thread(pipeline.started.wait, 30)
        really = files._found
        monkeypatch.setattr(files, "_found", lambda *given: replace(really(*given), digest="f" * 64))
        pipeline.gate.set()
        return await asked

    status = (await in_engine(story)).status
    assert not status.stored
    assert status.detail == "not kept: the files of the weights changed meanwhile"


# Never each other's pictures


def edit_in_place(file):
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    with file.open("r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def warm(story, request):
    story.ask(request)  # tells of the environment
    assert story.ask(request).status.outcome is Outcome.HIT


@timed_changes
def test_an_edit_in_place_with_its_time_restored_is_another_model(story, model_folder):
    warm(story, ask(model_folder))
    edit_in_place(model_folder / "transformer" / "model.safetensors")
    assert story.ask(ask(model_folder)).status.outcome is Outcome.MISS


@pytest.mark.parametrize("kind", ["vae", "text_encoder", "lora"])
def test_a_replaced_file_is_another_picture(story, model_folder, tmp_path, kind):
    file = write(tmp_path / "file.safetensors", safetensors({"a": "F32"}))
    if kind == "lora":
        request = ask(model_folder, loras=(LoraRef(source=str(file)),))
    else:
        request = ask(ModelRef(source=str(model_folder), **{kind: FileRef(source=str(file))}))
    plain = ask(model_folder)
    warm(story, plain)
    assert story.ask(request).status.outcome is Outcome.MISS
    assert story.ask(request).status.outcome is Outcome.HIT
    write(file, safetensors({"b": "F32"}))
    assert story.ask(request).status.outcome is Outcome.MISS
    assert story.ask(plain).status.outcome is Outcome.HIT


def test_a_copy_elsewhere_under_another_name_is_the_same_model(story, model_folder, tmp_path):
    warm(story, ask(model_folder))
    assert story.ask(ask(write_model(tmp_path / "模型" / "copy 😀"))).status.outcome is Outcome.HIT


def test_the_same_weights_in_another_layout_never_give_each_others_pictures(story, model_folder, tmp_path):
    singles = tmp_path / "singles"
    for part in ("text_encoder", "transformer", "vae"):
        write(singles / f"{part}.safetensors", (model_folder / part / "model.safetensors").read_bytes())
    for name in ("tokenizer.json", "chat_template.jinja"):
        write(singles / name, (model_folder / "tokenizer" / name).read_bytes())
    apart = ModelRef(
        source=str(singles / "transformer.safetensors"),
        vae=FileRef(source=str(singles / "vae.safetensors")),
        text_encoder=FileRef(source=str(singles / "text_encoder.safetensors")),
    )
    layouts = [ask(model_folder), ask(singles), ask(apart)]
    answers = [story.ask(each) for each in layouts]
    answers = [story.ask(each) for each in layouts]
    assert len({each.status.key for each in answers}) == 3
    assert all(each.status.outcome is Outcome.HIT for each in answers)


def test_the_place_of_a_part_counts_and_not_only_its_bytes(story, tmp_path, model_folder):
    # The same file as VAE or as text encoder is not the same request.
    file = FileRef(source=str(write(tmp_path / "x.safetensors", safetensors({"a": "F32"}))))
    warm(story, ask(ModelRef(source=str(model_folder), vae=file)))
    other = ask(ModelRef(source=str(model_folder), text_encoder=file))
    assert story.ask(other).status.outcome is Outcome.MISS


@links
def test_a_downloaded_model_is_known_by_the_names_of_its_blobs(
    resolver, tmp_path, hub_home, everything_is_large
):
    commit = "c0ffee" * 6 + "c0de"
    folder = hub_home / "hub" / "models--someone--tiny"
    write(folder / "refs" / "main", commit)
    model = write_model(folder / "snapshots" / commit)
    for file in model.rglob("*.safetensors"):
        blob = folder / "blobs" / sha256(file.read_bytes())
        blob.parent.mkdir(exist_ok=True)
        os.replace(file, blob)
        file.symlink_to(blob)
    found = resolver.resolve(ask(ModelRef(source="someone/tiny")))
    assert found.model.path == model
    assert found.model.digest is None  # the small files are not known yet
    same = write_model(tmp_path / "copy")
    completed = resolver.complete(found, no)
    assert completed.model.digest == resolver.complete(resolver.resolve(ask(same)), no).model.digest


def test_a_request_that_comes_unresolved_can_be_completed(resolver, model_folder):
    completed = resolver.complete(ask(model_folder), no)
    assert completed.model.path == model_folder
    age(model_folder / "model_index.json", 100)
    assert resolver.complete(replace(completed), no) is None
