import os
import subprocess
import sys

import pytest
import zit_int8_attention

from zit_ext.testing import assert_field_changes_key, assert_same_key, make_request


def test_the_bits_and_the_version_of_the_patch_change_the_key(zit_engine, monkeypatch):
    off = zit_engine.fingerprint(make_request())
    monkeypatch.setattr(zit_int8_attention, "BITS", 8)
    eight = zit_engine.fingerprint(make_request())
    monkeypatch.setattr(zit_int8_attention, "BITS", 4)
    assert_field_changes_key(off, eight, "int8_attention.bits")
    assert_field_changes_key(eight, zit_engine.fingerprint(make_request()), "int8_attention.bits")
    assert eight.fields["int8_attention.fields_version"] == 2


def test_turned_off_it_leaves_old_entries_warm(zit_engine, make_zit_engine):
    without = make_zit_engine(disabled_plugins="int8_attention")
    assert_same_key(zit_engine.fingerprint(make_request()), without.fingerprint(make_request()))


def test_speech_is_not_its_business(zit_engine, monkeypatch):
    speech = make_request(media_type="audio/wav")
    off = zit_engine.fingerprint(speech)
    monkeypatch.setattr(zit_int8_attention, "BITS", 8)
    assert_same_key(off, zit_engine.fingerprint(speech))


RENDER = """
import sys
from pathlib import Path
from zit_ext import ModelRef, Request
from zit_ext.testing_engine import TrialEngine
folder = Path(sys.argv[1])
with TrialEngine(folder / "cache", real_weights=True, device="cpu", dtype="float32") as engine:
    model = ModelRef(source=sys.argv[2])
    request = Request(prompt="a fox", seed=1, width=64, height=64, steps=2, model=model)
    result = engine.generate(request)
    print(result.status.outcome.value, result.digest)
"""


def test_it_changes_pixels_and_no_entry_is_taken_for_another(tmp_path):
    tiny = pytest.importorskip("zit_ext.models.tiny")
    for package in ("torch", "diffusers", "transformers"):
        pytest.importorskip(package)
    model = tiny.build(tmp_path / "model")

    def render(bits):
        told = {**os.environ, "INT8_ATTENTION_BITS": bits}
        command = [sys.executable, "-c", RENDER, str(tmp_path), str(model)]
        done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    exact, four, four_again, exact_again = [render(bits) for bits in ("", "4", "4", "")]
    assert exact[0] == four[0] == "miss"
    assert exact[1] != four[1]
    assert four_again == ["hit", four[1]]
    assert exact_again == ["hit", exact[1]]
