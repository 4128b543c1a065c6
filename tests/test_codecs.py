"""Codecs are exact: what comes out is what went in, or an error; never something near it."""

from __future__ import annotations

import binascii
import hashlib
import io
import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zit_ext.codecs import CodecError, Pixels, check_png, decode_png, encode_png, encode_png_plainly

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", binascii.crc32(kind + body))


def png(width: int, height: int, raw: bytes, *, depth: int = 8, color: int = 2, interlace: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


@st.composite
def pictures(draw):
    width, height = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    channels = draw(st.sampled_from((1, 2, 3, 4)))
    seed = draw(st.integers(0, 2**32))
    kind = draw(st.sampled_from(("noise", "flat", "ramp")))
    size = width * height * channels
    if kind == "noise":
        data = random.Random(seed).randbytes(size)
    elif kind == "flat":
        data = bytes([seed % 256]) * size
    else:
        data = bytes(index * 7 % 256 for index in range(size))
    return Pixels(width, height, channels, data)


@given(pictures())
def test_every_picture_comes_back_to_the_bit(picture):
    assert decode_png(encode_png(picture)) == picture
    assert decode_png(encode_png_plainly(picture)) == picture


@given(pictures())
@settings(max_examples=50)
def test_other_programs_read_the_same_pixels(picture):
    image_module = pytest.importorskip("PIL.Image")
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    for data in (encode_png(picture), encode_png_plainly(picture)):
        with image_module.open(io.BytesIO(data)) as image:
            assert (image.mode, image.size) == (modes[picture.channels], (picture.width, picture.height))
            assert image.tobytes() == picture.data


@given(pictures())
@settings(max_examples=50)
def test_what_other_programs_write_is_read_whatever_filters_they_choose(picture):
    image_module = pytest.importorskip("PIL.Image")
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    file = io.BytesIO()
    size = (picture.width, picture.height)
    image_module.frombytes(modes[picture.channels], size, picture.data).save(file, "PNG", optimize=True)
    check_png(file.getvalue())
    assert decode_png(file.getvalue()) == picture


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
def test_each_row_filter_of_the_specification_is_undone(kind):
    width, height, channels = 5, 4, 3
    data = random.Random(kind).randbytes(width * height * channels)
    stride = width * channels
    raw, before = b"", bytes(stride)
    for at in range(0, len(data), stride):
        row = data[at : at + stride]
        out = bytearray()
        for index, value in enumerate(row):
            left = row[index - channels] if index >= channels else 0
            corner = before[index - channels] if index >= channels else 0
            up = before[index]
            paeth = left + up - corner
            distances = [(abs(paeth - each), order) for order, each in enumerate((left, up, corner))]
            nearest = (left, up, corner)[min(distances)[1]]
            guess = (0, left, up, (left + up) // 2, nearest)[kind]
            out.append((value - guess) % 256)
        raw += bytes([kind]) + out
        before = row
    assert decode_png(png(width, height, raw)).data == data


def test_the_digest_is_of_shape_and_pixels():
    flat, tall = Pixels(4, 1, 3, bytes(12)), Pixels(1, 4, 3, bytes(12))
    assert flat.digest != tall.digest
    assert flat.digest == hashlib.sha256(b"pixels 4 1 3\n" + bytes(12)).hexdigest()


@given(pictures(), st.data())
def test_no_flipped_bit_passes(picture, data):
    whole = encode_png_plainly(picture)
    place = data.draw(st.integers(0, len(whole) * 8 - 1))
    damaged = bytearray(whole)
    damaged[place // 8] ^= 1 << place % 8
    for read in (decode_png, check_png):
        with pytest.raises(CodecError):
            read(bytes(damaged))


@given(pictures(), st.data())
def test_no_truncated_picture_passes(picture, data):
    whole = encode_png(picture)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for read in (decode_png, check_png):
        with pytest.raises(CodecError):
            read(whole[:cut])


@given(st.binary(max_size=200))
def test_nonsense_is_an_error_of_its_own_kind(data):
    for candidate in (data, SIGNATURE + data):
        for read in (decode_png, check_png):
            with pytest.raises(CodecError):
                read(candidate)


def test_a_small_file_that_unpacks_to_a_mountain_is_refused_without_unpacking_it():
    bomb = png(2, 2, bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(CodecError, match="more pixels"):
        decode_png(bomb)


@pytest.mark.parametrize(
    ("width", "height", "channels", "size"),
    [(0, 1, 3, 0), (1, 0, 3, 0), (1, 1, 5, 5), (1, 1, 3, 4), (70_000, 1, 1, 70_000), (-1, -1, 1, 1)],
)
def test_impossible_pictures_are_refused(width, height, channels, size):
    with pytest.raises(CodecError):
        Pixels(width, height, channels, bytes(size))


@pytest.mark.parametrize("changes", [{"depth": 16}, {"color": 3}, {"interlace": 1}])
def test_kinds_of_png_that_are_not_ours_are_refused_to_decode_but_are_whole(changes):
    other = png(1, 1, bytes(4), **changes)
    with pytest.raises(CodecError, match="only 8-bit"):
        decode_png(other)
    check_png(other)
