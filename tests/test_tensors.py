"""Tensors at rest: the numbers of a float32 or float16 result, exactly."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zit_ext.codecs import CodecError
from zit_ext.tensors import BITS, Tensor, check_tensors, decode_tensors, encode_tensors


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(sorted(BITS)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    size = math.prod(shape) * BITS[dtype] // 8
    return Tensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(NAMES, tensors(), max_size=4), st.dictionaries(st.text(), st.text(), max_size=3))
def test_every_number_comes_back_to_the_bit(given_tensors, notes):
    data = encode_tensors(given_tensors, notes)
    assert decode_tensors(data) == (given_tensors, notes)
    assert encode_tensors(dict(reversed(given_tensors.items())), notes) == data


def test_the_bits_of_not_a_number_are_kept():
    strange = struct.pack("<3I", 0x7FC00001, 0xFF800000, 0x80000000)
    assert decode_tensors(encode_tensors({"x": Tensor("F32", (3,), strange)}))[0]["x"].data == strange


def test_other_programs_read_the_same_numbers():
    numpy = pytest.importorskip("numpy")
    safetensors = pytest.importorskip("safetensors.numpy")
    image = numpy.random.default_rng(1).random((1, 8, 8, 3), numpy.float32)
    half = image.astype(numpy.float16)
    ours = encode_tensors(
        {
            "image": Tensor("F32", image.shape, image.tobytes()),
            "half": Tensor("F16", half.shape, half.tobytes()),
        },
        {"made": "here"},
    )
    theirs = safetensors.load(ours)
    assert theirs["image"].tobytes() == image.tobytes()
    assert theirs["half"].tobytes() == half.tobytes()
    assert decode_tensors(safetensors.save({"image": image}))[0]["image"].data == image.tobytes()


@given(tensors(), st.data())
def test_no_truncated_or_longer_file_passes(tensor, data):
    whole = encode_tensors({"x": tensor})
    for damaged in (whole[: data.draw(st.integers(0, len(whole) - 1))], whole + b"\0"):
        with pytest.raises(CodecError):
            check_tensors(damaged)


def _file(header: object, body: bytes = b"") -> bytes:
    spelled = json.dumps(header).encode()
    return struct.pack("<Q", len(spelled)) + spelled + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 5) + b"{nope",
        _file({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 3]}}, bytes(3)),
        _file({"x": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        _file({"x": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}}, bytes(1)),
        _file({"x": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, bytes(1)),
        _file({"x": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, bytes(2)),
        _file({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, bytes(1)),
        _file({"x": 1}),
        _file({"__metadata__": {"a": 1}}),
        _file(
            {
                "x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                "y": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]},
            },
            bytes(3),
        ),
    ],
)
def test_doubtful_files_are_refused(data):
    with pytest.raises(CodecError):
        decode_tensors(data)


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_refused():
    with pytest.raises(CodecError):
        Tensor("F32", (2,), bytes(4))
