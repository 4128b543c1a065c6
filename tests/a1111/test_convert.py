"""What needs no webui: values to fields, names in prompts, where weights came from."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from a1111_extension import convert
from a1111_extension.provenance import Provenance, UntraceableError, begun_before
from zit_ext.fingerprint import canonical_bytes

ROOT = Path(__file__).parents[2]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
@settings(suppress_health_check=[HealthCheck.too_slow])  # of the machine, not of the values
def test_whatever_is_plain_becomes_a_field_with_one_spelling(value):
    try:
        spelling = canonical_bytes(convert.spelled(value))
    except Exception as error:
        assert "half a character" in str(error)  # noqa: PT017 (what the key refuses anyway)
    else:
        assert spelling == canonical_bytes(convert.spelled(value))


@dataclasses.dataclass
class Unit:
    enabled: bool = False
    weight: float = 1.0


def test_records_of_other_extensions_are_spelled_by_class_and_values():
    assert convert.spelled(Unit()) == convert.spelled(Unit())
    assert convert.spelled(Unit()) != convert.spelled(Unit(weight=0.5))


@pytest.mark.parametrize("value", [object(), print, [lambda: 1], {"a": iter([])}])
def test_what_has_no_one_spelling_is_refused_by_its_path(value):
    with pytest.raises(convert.UnspellableError, match=r"p\.x"):
        convert.spelled(value, "p.x")


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("EasyNegative", "(easynegative:1.2)"),
        ("bad-hands-5", "ugly, bad - hands - 5"),
        ("bad_prompt", "[bad_prompt:0.5]"),
        ("ﬁne", "fine"),
        ("a&b", "a&amp;b"),
        ("★", "anything at all"),
        ("bad-feet", "ugly, bad [hands|feet]"),
        ("bad-feet", "(bad:1.2)(-feet:1.2)"),
        ("bad hands", "bad [x:hands:0.5]"),
        ("bad hands", "[bad::9][good [feet|[x:hands:3]]:5]"),
    ],
)
def test_an_embedding_is_seen_however_the_prompt_writes_it(name, prompt):
    assert convert.named_in([name], ["a cat", prompt]) == [name]


def test_other_embeddings_are_not():
    assert convert.named_in(["easynegative"], ["a cat", "negative"]) == []
    assert convert.named_in(["feet-bad", "bad eet"], ["bad [hands|feet]"]) == []


def test_only_a_seed_of_variation_that_is_used_counts():
    job = {"subseeds": [1], "subseed_strength": 0.0, "outpath_samples": "x", "unknown": 3}
    assert convert.job_fields(job) == {"subseed_strength": 0.0, "unknown": 3}
    assert convert.job_fields({**job, "subseed_strength": 0.1})["subseeds"] == [1]


class Thing:
    """Something that was loaded."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


def test_a_file_that_is_older_than_the_process_is_traced_until_it_changes(weights):
    provenance, thing = Provenance(time.time() + 10), Thing()
    provenance.note(thing, [str(weights)])

    assert provenance.file_of(thing, str(weights)).size == 7
    weights.write_bytes(b"other weights")
    with pytest.raises(UntraceableError, match="has changed since it was loaded"):
        provenance.file_of(thing, str(weights))


def test_a_file_that_was_written_meanwhile_is_not_traced(weights):
    provenance, thing = Provenance(time.time() - 10), Thing()
    provenance.note(thing, [str(weights)])

    with pytest.raises(UntraceableError, match="written while the webui runs"):
        provenance.file_of(thing, str(weights))
    with pytest.raises(UntraceableError, match="restart"):
        provenance.file_since_start(str(weights))


def test_a_file_that_was_written_before_its_loading_began_is_traced(weights):
    provenance, thing = Provenance(time.time() - 10), Thing()
    provenance.note(thing, [str(weights)], loaded_after=time.time() + 5)

    assert provenance.file_of(thing, str(weights)).size == 7


def test_being_told_of_the_same_weights_again_does_not_whitewash_a_file_that_changed(weights):
    provenance, thing = Provenance(time.time() + 10), Thing()
    provenance.note(thing, [str(weights)])
    weights.write_bytes(b"other weights")
    provenance.note(thing, [str(weights)], loaded_after=time.time() + 10)

    with pytest.raises(UntraceableError):
        provenance.file_of(thing, str(weights))


def test_a_thing_that_holds_other_weights_by_now_is_noted_anew(weights, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"x")
    provenance, thing = Provenance(time.time() + 10), Thing()
    provenance.note(thing, [str(weights)])
    weights.write_bytes(b"other weights")
    provenance.note(thing, [str(other)])
    provenance.note(thing, [str(weights)])

    assert provenance.file_of(thing, str(weights)).size == 13


def test_nothing_is_traced_by_its_loading_if_nobody_watched_from_the_start(weights):
    provenance, thing = Provenance(time.time() - 10, watched_from_start=False), Thing()
    provenance.note(thing, [str(weights)], loaded_after=time.time() + 5)

    with pytest.raises(UntraceableError, match="written while the webui runs"):
        provenance.file_of(thing, str(weights))


def test_a_second_file_under_one_name_is_not_trusted(weights):
    provenance, old, new = Provenance(time.time() + 10), Thing(), Thing()
    provenance.note_named("style", old, str(weights))
    provenance.must_be_first("style", provenance.file_of(old, str(weights)))
    weights.write_bytes(b"other weights")
    provenance.note_named("style", new, str(weights))

    with pytest.raises(UntraceableError, match="another name"):
        provenance.must_be_first("style", provenance.file_of(new, str(weights)))


def test_the_bigger_a_file_the_longer_it_may_have_been_loading(weights):
    now = time.time()
    big = weights.with_name("big")
    with big.open("wb") as file:
        file.truncate(5_000_000_000)

    assert begun_before(str(weights), now) < now
    assert now - begun_before(str(big), now) > 100


def test_the_script_says_in_one_line_that_its_packages_are_not_there_yet(tmp_path):
    code = f"import runpy; runpy.run_path({str(ROOT / 'scripts' / 'zit_script.py')!r})"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        env={"ZIT_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "online at the next launch" in done.stdout


def test_the_command_line_gets_one_option_of_ours():
    import argparse
    import runpy

    parser = argparse.ArgumentParser()
    runpy.run_path(str(ROOT / "preload.py"))["preload"](parser)

    assert parser.parse_args([]).zit_native_cache is False
    assert parser.parse_args(["--zit-native-cache"]).zit_native_cache is True
