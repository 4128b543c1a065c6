"""Whatever goes wrong with the native cache costs a hit, and never a picture."""

from __future__ import annotations

import dataclasses

import pytest

from .native_jobs import outcome, reason

pytestmark = pytest.mark.pipeline  # for torch


def test_a_damaged_entry_costs_a_hit_and_not_a_picture(webui, tmp_path):
    first = webui.run()
    (blob,) = [each for each in (tmp_path / "cache" / "results").rglob("*") if is_blob(each)]
    damaged = bytearray(blob.read_bytes())
    damaged[-3] ^= 1
    webui.engine.store._memory.drop(next(iter(webui.engine.store.entries())).key)
    blob.write_bytes(damaged)
    second = webui.run()

    assert (outcome(second), second.renders) == ("miss", 1)
    assert second.pictures == first.pictures


def is_blob(path) -> bool:
    return path.is_file() and "blobs" in path.parts


def test_a_fault_of_ours_costs_a_hit_and_not_a_picture(webui, monkeypatch, caplog):
    def broken(*arguments):
        raise KeyError("a webui that we do not know")

    monkeypatch.setattr(webui.native_cache, "question", broken)
    done = webui.run()

    assert (outcome(done), done.renders) == ("bypass", 1)
    assert "KeyError" in reason(done)
    assert "could not be asked" in caplog.text


def test_a_store_that_cannot_be_opened_costs_no_picture(webui):
    webui.run()
    webui.engine.store.close()
    done = webui.process(webui.job())

    assert (outcome(done), len(done.pictures)) == ("bypass", 1)


def test_a_cache_that_cannot_start_costs_no_picture(webui, monkeypatch):
    monkeypatch.setenv("ZIT_MAX_ENTRIES", "lots")
    alone = webui.process(webui.job())

    assert (outcome(alone), len(alone.pictures)) == ("bypass", 1)
    assert "max_entries" in reason(alone)


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk"), ValueError("whatever")], ids=repr)
@pytest.mark.parametrize("step", ["find", "keep"])
def test_no_fault_of_the_cache_costs_a_picture(webui, monkeypatch, step, error):
    def fails(*_arguments, **_named):
        raise error

    monkeypatch.setattr(webui.keeping.Keeper, step, fails)
    assert webui.run().renders == 1


@pytest.mark.parametrize(
    "notes", ["{}", "[]", "5", '{"infotext": [], "eta": null}', "[" * 200_000], ids=range(5)
)
def test_an_entry_with_notes_of_another_kind_is_rendered_anew(webui, notes):
    from zit_ext.records import Encoded
    from zit_ext.tensors import decode_tensors, encode_tensors

    webui.run()
    store, find = webui.engine.store, webui.keeping.Keeper.find

    def found(self, asked):
        answer = find(self, asked)
        tensors, _ = decode_tensors(answer.content.data)
        data = encode_tensors(tensors, {"webui": notes})
        return dataclasses.replace(answer, content=Encoded(answer.content.media_type, data))

    assert store.entries()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webui.keeping.Keeper, "find", found)
        assert webui.run().renders == 1


def test_a_webui_that_samples_in_another_way_is_told_at_its_start_and_not_at_a_job(webui, monkeypatch):
    monkeypatch.delattr(webui.fake.modules["modules.processing"], "DecodedSamples")

    with pytest.raises(RuntimeError, match="samples in another way: there is no DecodedSamples"):
        webui.native_cache.register()
