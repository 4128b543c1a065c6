"""Values of links as bytes and back, with real tensors: the same numbers, types and order in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfy_nodes.values import NotStorableError, decode_value, encode_value
from zit_ext.codecs import CodecError
from zit_ext.tensors import decode_tensors, encode_tensors

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def same(torch: Any, one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.reshape(-1).view(torch.uint8).tolist() == other.reshape(-1).view(torch.uint8).tolist()
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(torch, one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(map(lambda a, b: same(torch, a, b), one, other))
        )
    return type(one) is type(other) and (one == other or one != one)


def test_conditioning_latent_and_audio_come_back_the_same(torch):
    torch.manual_seed(1)
    for value in (
        [[torch.rand(1, 7, 4), {"pooled_output": torch.rand(1, 4), "guidance": 3.5, "start": 0.0, 3: None}]],
        {"samples": torch.randn(1, 4, 8, 8), "batch_index": [0, 1], "type": "audio"},
        {"waveform": torch.rand(1, 2, 100), "sample_rate": 44100},
        [torch.rand(2, 3), (1, True, "a", float("nan"), float("-inf"), -0.0, 2**70)],
    ):
        assert same(torch, value, decode_value(encode_value(value)))


def test_every_dtype_comes_back_the_same_with_its_odd_numbers(torch):
    for name in ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "uint8", "bool"):
        numbers = torch.tensor([0.0, -0.0, 1.5, float("inf"), float("nan")])
        tensor = (
            numbers.to(getattr(torch, name))
            if name.startswith(("float", "bfloat"))
            else torch.tensor([0, 1, 1]).to(getattr(torch, name))
        )
        assert same(torch, tensor, decode_value(encode_value(tensor)))


def test_scalars_and_empty_tensors_have_a_form_too(torch):
    for tensor in (torch.tensor(2.5), torch.empty(0, 4), torch.tensor(True)):
        assert same(torch, tensor, decode_value(encode_value(tensor)))


def test_the_order_in_memory_is_kept_because_sums_depend_on_it(torch):
    image = torch.rand(1, 3, 8, 6).movedim(1, -1)
    again = decode_value(encode_value(image))
    assert again.stride() == image.stride()
    assert same(torch, image.contiguous(), again.contiguous())
    part = torch.rand(4, 4)[:, :2]
    assert same(torch, part.contiguous(), decode_value(encode_value(part)))


def test_one_tensor_in_two_places_stays_one(torch):
    tensor = torch.rand(3)
    one, other = decode_value(encode_value([tensor, tensor]))
    assert one is other


def test_objects_are_refused_by_name(torch):
    for value, name in (
        (object(), "object"),
        ([{"control": print}], "builtin"),
        (torch.nn.Linear(1, 1), "Linear"),
        (torch.nn.Parameter(torch.rand(1)), "Parameter"),
        (torch.rand(2).to_sparse(), "not dense"),
        (torch.rand(1).to(torch.complex64), "complex64"),
    ):
        with pytest.raises(NotStorableError, match=name):
            encode_value(value)


def test_bytes_that_were_changed_are_an_error_and_never_another_value(torch):
    data = encode_value([torch.rand(2), "x"])
    tensors, _ = decode_tensors(data)
    forms = [
        {"tensor": "9", "order": None, "device": "cpu"},
        {"tensor": "0", "order": [5], "device": "cpu"},
        {"list": 3},
        {"what": 1},
    ]
    for notes in ({}, {"zit_value": "{"}, *({"zit_value": json.dumps(form)} for form in forms)):
        with pytest.raises(CodecError):
            decode_value(encode_tensors(tensors, notes))
    with pytest.raises(CodecError):
        decode_value(data[:-1])
