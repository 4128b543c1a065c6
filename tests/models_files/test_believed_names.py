"""Large files are looked up by what their names promise, and only what was read is kept for."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from zit_ext.cli import product_checks
from zit_ext.cli.checks import State
from zit_ext.models import digests as digests_module
from zit_ext.models import resolver as module
from zit_ext.models.digest_memo import FILE_NAME
from zit_ext.records import Outcome

from .conftest import ask, safetensors, write, write_model
from .test_resolver import Story, links, no, sha256


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """A model of another tool's download, whose large file says by its name what it should hold."""
    content = safetensors({f"weights {number}": "F32" for number in range(200)})
    monkeypatch.setattr(module, "AT_ONCE", len(content) - 1)
    repository = tmp_path / "hf" / "models--someone--tiny"
    model = write_model(repository / "snapshots" / "c0de")
    file = model / "transformer" / "model.safetensors"
    file.unlink()
    blob = write(repository / "blobs" / sha256(content), content)
    file.symlink_to(blob)
    return model, blob


@pytest.fixture
def gate(monkeypatch):
    """The large file is read when this is set; everything else at once."""
    gate, really = threading.Event(), digests_module.hash_file

    def slow(seen, wants_stop=no):
        assert not seen.path.endswith("transformer/model.safetensors") or gate.wait(30)
        return really(seen, wants_stop)

    monkeypatch.setattr(digests_module, "hash_file", slow)
    return gate


def told(settings, *requests):
    """Ask one after the other in a program of its own, which ends then: the answers, and what was counted."""
    story = Story(settings)
    answers = [story.ask(request) for request in requests]
    story.settle()
    return [each.status for each in answers], story.runtime.metrics.snapshot().events


@links
def test_what_a_name_promises_is_looked_up_before_the_file_is_read(settings, downloaded, gate):
    model, _ = downloaded
    gate.set()
    told(settings, ask(model))
    (settings.cache_dir / FILE_NAME).unlink()  # a new machine, or a memo that was lost
    gate.clear()
    (status,), _ = told(settings, ask(model))
    assert status.outcome is Outcome.HIT
    assert not gate.is_set()


@links
def test_a_picture_is_answered_before_the_file_is_read_and_kept_after_it(settings, downloaded, gate):
    model, _ = downloaded
    story = Story(settings)
    status = story.ask(ask(model)).status
    assert (status.outcome, status.stored) == (Outcome.MISS, True)
    assert status.detail == "kept as soon as the weights are hashed"
    story.runtime.store.flush()
    assert story.runtime.store.entries() == []
    gate.set()
    story.settle()
    (status,), events = told(settings, ask(model))
    assert status.outcome is Outcome.HIT
    assert "weights_misnamed" not in events


@links
def test_a_damaged_download_keeps_no_picture_as_that_of_the_whole_file(settings, downloaded, caplog):
    model, blob = downloaded
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + b"\x01")
    (status,), events = told(settings, ask(model))
    assert status.outcome is Outcome.MISS
    assert events["weights_misnamed"] == 1
    assert str(blob) in caplog.text
    named = product_checks.model(replace(settings, model=str(model)))
    assert named.state is State.WARN
    assert str(blob) in named.words
    (damaged,), _ = told(settings, ask(model))
    assert damaged.outcome is Outcome.HIT, "it is kept, as the picture of the file as it is"
    # Now it is downloaded again, under the same name.
    blob.unlink()
    write(blob, whole)
    (first,), _ = told(settings, ask(model))
    assert first.outcome is Outcome.MISS
    (again,), _ = told(settings, ask(model))
    assert (again.outcome, again.key == damaged.key) == (Outcome.HIT, False)


@links
def test_small_files_are_read_whatever_their_names_promise(resolver, downloaded, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 1_000_000)
    model, blob = downloaded
    promised = resolver.resolve(ask(model)).model
    assert not promised.believed
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    assert resolver.resolve(ask(model)).model.digest != promised.digest


@links
def test_what_is_believed_is_read_when_its_digest_is_to_be_complete(resolver, downloaded):
    model, blob = downloaded
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    believed = resolver.resolve(ask(model))
    assert believed.model.believed
    read = resolver.complete(believed, no)
    assert not read.model.believed
    assert read.model.digest != believed.model.digest
