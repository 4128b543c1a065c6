"""Fields at rest: back to the bit, small, and silent about prompts where that was asked for."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zit_ext.default_plugins.core_fields import zit_fingerprint_fields
from zit_ext.fingerprint import canonical_bytes, fingerprint, read_canonical
from zit_ext.results import fields
from zit_ext.testing import make_request

from .making import asked, index_file, is_true, keep, kept, there

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.dictionaries(st.text(min_size=1), VALUES, max_size=6)


@given(FIELDS, FIELDS)
def test_packed_fields_come_back_to_the_bit_whatever_the_dictionary(one, other):
    canonical, dictionary = canonical_bytes(one), canonical_bytes(other)
    assert fields.unpack(fields.pack(canonical, dictionary), dictionary) == canonical
    assert fields.unpack(fields.pack(canonical, b""), b"") == canonical


@given(FIELDS)
def test_redacting_is_repeatable_and_once_is_enough(one):
    canonical = canonical_bytes(one)
    once = fields.redacted(canonical)
    assert fields.redacted(canonical) == once
    assert fields.redacted(once) == once


@given(st.text(min_size=4), st.text(min_size=4))
def test_prompts_that_differ_stay_different(one, other):
    silent = [fields.redacted(canonical_bytes({"prompt": each})) for each in (one, other)]
    assert (silent[0] == silent[1]) == (one == other)


SECRETS = ("the queen of nowhere", "Ω mega secret", "xyzzy", "two\nlines of it")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "hide",
    [
        lambda text: {"prompt": text},
        lambda text: {"negative_prompt": text},
        lambda text: {"extra.host.styles": [text]},
        lambda text: {"some_plugin.caption": {"of": {"text": text}}},
        lambda text: {"some_plugin.words": {text: 1}},
        lambda text: {"regional_prompts": {"left": text}},
        lambda text: {"raw": text.encode()},
    ],
)
def test_no_text_of_a_person_is_left(hide, secret):
    silent = fields.redacted(canonical_bytes({"seed": 5, **hide(secret)}))
    assert secret.encode() not in silent
    assert read_canonical(silent)["seed"] == 5


def test_what_explains_a_key_stays_readable():
    canonical = fingerprint({**zit_fingerprint_fields(make_request()), "environment": "ab" * 32}).canonical
    silent = read_canonical(fields.redacted(canonical))
    assert silent["scheduler"] == {"name": "FlowMatchEulerDiscreteScheduler", "config": {}}
    assert silent["environment"] == "ab" * 32
    assert silent["prompt"].startswith("sha256:")
    assert silent["steps"] == 8


def test_without_stored_prompts_hits_are_the_same_and_the_disk_is_silent(make_store, folder, caplog):
    secret = "the queen of nowhere rides at dawn"
    store = make_store(store_prompts=False)
    known = asked(1, prompt=secret)
    kept(store, 1, fingerprint=known, prompt=secret)
    kept(store, 2, fingerprint=asked(2, prompt=secret + " again"), prompt=secret)
    is_true(store.find(known), 1)
    assert store.find(asked(1, prompt=secret.upper())) is None
    details = store.entry(known.key)
    assert (details.entry.prompt, details.redacted, details.fields["seed"]) == (None, True, 1)
    store.close()
    every_byte = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for word in (b"queen", b"nowhere", b"dawn", secret.encode()):
        assert word not in every_byte
    assert "queen" not in caplog.text


def test_entries_of_both_kinds_are_found_by_both_kinds_of_stores(make_store):
    loud, silent = make_store(), make_store(store_prompts=False)
    kept(loud, 1)
    kept(silent, 2)
    assert there(loud, 1, 2) == there(silent, 1, 2) == [1, 2]
    assert loud.entry(asked(1).key).entry.prompt is not None
    assert silent.entry(asked(2).key).entry.prompt is None


def test_a_removed_entrys_prompt_does_not_live_on_in_a_dictionary(make_store, index):
    store = make_store()
    secret = "the queen of nowhere"
    kept(store, 1, fingerprint=asked(1, prompt=secret), prompt=secret)
    store.clear()
    assert index("SELECT count(*) FROM dictionaries") == [(1,)]
    assert secret.encode() not in index("SELECT data FROM dictionaries")[0][0]


def test_fields_of_one_model_take_little_space(make_store, index):
    store = make_store(max_entries=0)
    for number in range(30):
        request = make_request(seed=number, prompt=f"a lighthouse at dusk, number {number}")
        known = fingerprint({**zit_fingerprint_fields(request), "environment": "ab" * 32})
        kept(store, number, fingerprint=known)
    assert len(known.canonical) > 550
    assert index("SELECT max(length(fields)) < 150 FROM details WHERE id > 1") == [(1,)]
    assert index("SELECT count(*) FROM dictionaries") == [(1,)]


def test_a_dictionary_of_another_model_is_added_and_both_are_read(make_store, index, folder):
    store = make_store(max_entries=0)
    kept(store, 1)
    strange = asked(2, **{f"plugin.{n}": hashlib.sha256(bytes([n])).hexdigest() for n in range(60)})
    kept(store, 2, fingerprint=strange)
    kept(store, 3)
    assert index("SELECT count(*) FROM dictionaries") == [(2,)]
    store.close()
    store = make_store()
    assert there(store, 1, 3) == [1, 3]
    is_true(store.find(strange), 2)
    assert index_file(folder).exists()


def test_clearing_and_pruning_leaves_no_word_of_what_was_stored(make_store, folder):
    store = make_store()
    words = "zanzibar pelican"
    for number in range(60):
        keep(store, number, prompt=f"{words} {number} " * 20, fingerprint=asked(number, prompt=words * 9))
        store.flush()
    assert any(words.encode() in path.read_bytes() for path in folder.glob("index-*"))
    store.clear()
    store.prune()
    assert [
        path.name for path in folder.rglob("*") if path.is_file() and words.encode() in path.read_bytes()
    ] == []
