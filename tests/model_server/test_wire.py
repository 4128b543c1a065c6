"""What travels arrives as it was, and nothing else does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zit_ext.codecs import Pixels
from zit_ext.errors import (
    EngineClosedError,
    FieldClashError,
    GenerationStoppedError,
    HookHangsError,
    ModelError,
    ModelMissingError,
    NotCachedError,
    OutOfMemoryError,
    PluginError,
    QueueFullError,
    RequestError,
    SettingError,
    ZitError,
)
from zit_ext.model_server.agreement import disagreement
from zit_ext.model_server.protocol import (
    MAX_GREETING,
    PREFIX,
    ProtocolError,
    newer,
    pack,
    read_header,
    unpack,
)
from zit_ext.model_server.records_on_wire import error_from_wire, error_to_wire, from_wire, to_wire
from zit_ext.models.holdings import HeldModel, HeldPart, Holdings
from zit_ext.pipeline import Rendered, WeightTier
from zit_ext.records import CacheMode, Encoded, FileRef, InputImage, LoraRef, ModelRef, SchedulerRef
from zit_ext.testing import FAKE_ENVIRONMENT, make_request

FULL = make_request(
    prompt="ein Leuchtturm \u2603 \ud83d\ude00",
    seed=2**64 - 1,
    model=ModelRef(
        source="m",
        digest="d" * 64,
        path=Path("/weights/m"),
        identity="i",
        text_encoder=FileRef(source="q"),
        vae=FileRef(source="ae", path=Path("ae.safetensors")),
    ),
    guidance=0.1,
    sigmas=(1.0, 0.1 + 0.2),
    scheduler=SchedulerRef(name="S", config={"shift": 3.0, "flags": [True, None]}),
    loras=(LoraRef(source="ink", strength=0.8),),
    image=InputImage.of(b"\x89PNG picture"),
    extra={"host.mask": b"\0\xff", "host.list": (1, [2.5, {"a": None}])},
    cache=CacheMode.REFRESH,
    keep_alive=-1.0,
    context="c 1",
)
RENDERED = Rendered(Pixels(2, 1, 3, b"abcdef"), 1.25, FAKE_ENVIRONMENT, False, ("cut",))
HELD = Holdings(
    device="cpu",
    models=(
        HeldModel(
            key="k",
            source="m",
            parts=(HeldPart(name="vae", bytes=7, tier=WeightTier.VRAM, leases=1, shared=True),),
            used_at=1.5,
            keep_alive=-1,
        ),
    ),
    running="m",
)


def over_the_wire(told: Any) -> Any:
    return read_header(pack({"what": told}, 0)[PREFIX.size :])["what"]


@pytest.mark.parametrize("record", [FULL, RENDERED, HELD, Encoded("audio/wav", b"RIFF"), FULL.model, None, 7])
def test_records_arrive_as_they_were(record: Any) -> None:
    told, body = to_wire(record)
    arrived = from_wire(over_the_wire(told), body)
    assert arrived == record
    assert repr(arrived) == repr(record)  # fields that do not compare travel too


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=20)
    | st.builds(Path, st.just("a/b")),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(plain)
def test_values_arrive_with_their_types(value: Any) -> None:
    told, body = to_wire(value)
    assert repr(from_wire(over_the_wire(told), body)) == repr(value)


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["b", "e", "l", "m", "p", "r", "t", "Request", "x"]), inner, max_size=2
        )
    ),
    max_leaves=10,
)


@given(anything, st.binary(max_size=8))
def test_nonsense_is_refused_by_one_error_or_is_a_plain_value(told: Any, body: bytes) -> None:
    try:
        from_wire(told, body)
    except ProtocolError:
        return


def test_only_known_records_are_made() -> None:
    for told in ({"r": ["Path", {}]}, {"r": ["Settings", {}]}, {"r": ["Rendered", {}]}, {"e": ["Kind", 1]}):
        with pytest.raises(ProtocolError):
            from_wire(told, b"")
    with pytest.raises(ProtocolError, match="a set cannot be sent"):
        to_wire({"a": {1, 2}})


@pytest.mark.parametrize(
    "error",
    [
        SettingError("device", "abacus", "this machine has cpu"),
        RequestError("width", 500, "give a multiple of 16"),
        ModelMissingError("m", "give a folder"),
        OutOfMemoryError(needed=10, free=1, device="cuda:0"),
        QueueFullError(limit=3, retry_after=12.5),
        PluginError("int8", "no such kernel"),
        GenerationStoppedError("stopped by the watcher"),
        EngineClosedError("the model server is about to end"),
        ModelError("the file is damaged"),
    ],
)
def test_errors_arrive_with_their_kind_words_and_facts(error: ZitError) -> None:
    arrived = error_from_wire(over_the_wire(error_to_wire(error)))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (HookHangsError("slow", "zit_open_pipeline"), PluginError),
        (FieldClashError("seed", ("one", "other")), PluginError),
        (NotCachedError("k", "there is none"), RequestError),
        (ZitError("something"), ModelError),
        (ValueError("not ours"), ModelError),
    ],
)
def test_other_errors_arrive_as_the_nearest_kind_with_their_words(
    error: Exception, kind: type[ZitError]
) -> None:
    arrived = error_from_wire(error_to_wire(error))
    assert type(arrived) is kind
    assert str(error) in str(arrived)


@pytest.mark.parametrize("told", [{}, {"kind": "QueueFullError"}, {"kind": "os.system", "words": "rm"}])
def test_an_error_without_its_facts_is_a_model_error(told: dict[str, Any]) -> None:
    assert type(error_from_wire(told)) is ModelError


def test_lengths_that_nobody_may_claim_are_refused() -> None:
    for header, body, greeting in [
        (MAX_GREETING + 1, 0, True),
        (10, 1, True),
        (2**31, 0, False),
        (0, 2**40, False),
    ]:
        with pytest.raises(ProtocolError):
            unpack(PREFIX.pack(b"ZIT1", header, body), greeting=greeting)
    assert unpack(pack({"a": 1}, 5)[: PREFIX.size]) == (7, 5)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("0.2.0", "0.1.9", True), ("0.1.0", "0.1.0", False), ("0.9", "0.10", False), ("1.0", "0.99.99", True)],
)
def test_versions_are_compared_as_numbers(one: str, other: str, expected: bool) -> None:
    assert newer(one, other) is expected


def test_plugins_agree_when_they_say_the_same() -> None:
    assert disagreement({"a.b": 1, "a.c": [1, 2]}, {"a.c": (1, 2), "a.b": 1.0}) is None
    assert disagreement({"a.b": 1}, {"a.b": 2}) == "a.b is 1 in this program and 2 in the model server"
    assert disagreement({}, {"a.b": 2}) == "a.b is absent in this program and 2 in the model server"
    assert disagreement({"a.b": None}, {}) == "a.b is None in this program and absent in the model server"


def test_infinity_is_no_trouble() -> None:
    assert math.isinf(from_wire(*to_wire(math.inf)))
