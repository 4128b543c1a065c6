"""Weights are read into memory of our own, exactly, by several threads, while somebody waits for them."""

from __future__ import annotations

import os
import struct
import threading

import pytest

from zit_ext.errors import GenerationStoppedError, ModelError
from zit_ext.models import weight_reading
from zit_ext.models.weight_reading import read_tensors
from zit_ext.pipeline import load_is_wanted

pytestmark = pytest.mark.pipeline


@pytest.fixture
def saved(tmp_path):
    """Tensors of many shapes and number formats, in two files."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    shapes = [(), (1,), (3, 5), (0, 4), (1000, 7), (2, 3, 4, 5)]
    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn]
    tensors = {
        f"{kind}.{index}": torch.randn(shape).to(kind) for kind in kinds for index, shape in enumerate(shapes)
    }
    names = sorted(tensors)
    for part in (0, 1):
        save_file({name: tensors[name] for name in names[part::2]}, tmp_path / f"{part}.safetensors")
    return tensors, sorted(tmp_path.iterdir())


@pytest.mark.parametrize(("piece", "slab"), [(16 * 1024**2, 1024**3), (100, 3000), (7, 1)])
def test_what_is_read_is_what_was_saved(saved, monkeypatch, piece, slab):
    import torch

    tensors, files = saved
    monkeypatch.setattr(weight_reading, "PIECE", piece)
    monkeypatch.setattr(weight_reading, "SLAB", slab)

    read = read_tensors(files)

    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name].double(), tensor.double())
        assert read[name].data_ptr() % 64 == 0


def test_pieces_are_read_side_by_side(saved, monkeypatch):
    _, files = saved
    monkeypatch.setattr(weight_reading, "PIECE", 100)
    together = threading.Barrier(2)
    first = iter(range(2))

    def wanted():
        if next(first, None) is not None:
            together.wait(60)  # one thread alone never gets past it
        return True

    assert read_tensors(files, wanted=wanted)
    assert not together.broken


def test_another_number_format_is_that_of_torch(saved):
    import torch

    tensors, files = saved
    for name, tensor in read_tensors(files, torch.bfloat16).items():
        assert torch.equal(tensor, tensors[name].to(torch.bfloat16))


def test_what_is_left_out_is_not_read(saved):
    tensors, files = saved
    read = read_tensors(files, leave_out=lambda name: "float8" in name)
    assert read.keys() == {name for name in tensors if "float8" not in name}


def test_who_waits_no_longer_stops_the_reading(saved):
    _, files = saved
    asked = []

    def wanted():
        asked.append(1)
        return len(asked) < 5

    with pytest.raises(GenerationStoppedError, match="nobody waits"):
        read_tensors(files, wanted=wanted)


def test_a_load_that_nobody_wants_ends_by_itself(open_zimage, tiny):
    token = load_is_wanted.set(lambda: False)
    try:
        with pytest.raises(GenerationStoppedError, match="nobody waits"):
            open_zimage(tiny)
    finally:
        load_is_wanted.reset(token)
    assert open_zimage(tiny).parts


def test_a_file_that_is_cut_short_while_it_is_read_is_damaged(saved, monkeypatch):
    _, files = saved
    real = weight_reading._fill

    def cut_first(handle, offset, piece, path, wanted):
        os.truncate(path, offset)
        real(handle, offset, piece, path, wanted)

    monkeypatch.setattr(weight_reading, "_fill", cut_first)
    with pytest.raises(ModelError, match=r"safetensors is damaged: it ends early"):
        read_tensors(files)


@pytest.mark.parametrize(
    "entry",
    [
        b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[-2],"data_offsets":[8,0]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    ],
    ids=["too short for its shape", "before the file", "backwards"],
)
def test_a_header_that_contradicts_itself_is_damage(tmp_path, entry):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(entry)) + entry + bytes(8))
    with pytest.raises(ModelError, match="contradicts itself about a"):
        read_tensors([path])
