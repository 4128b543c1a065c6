"""The tiny model: the same files every time, all of them or none."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from zit_ext.errors import ModelError
from zit_ext.models import tiny as tiny_model

pytestmark = pytest.mark.pipeline


def digests(folder: Path):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_builds_are_the_same_files(tiny, tmp_path):
    built = tiny_model.build(tmp_path / "again")

    assert digests(built) == digests(tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_a_whole_folder_is_left_as_it_is_and_needs_no_torch(tiny):
    code = (
        "import sys; from pathlib import Path; from zit_ext.models import tiny; "
        f"tiny.build(Path({str(tiny)!r})); print('torch' in sys.modules)"
    )
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "False"
    assert before == {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}


def cut(folder: Path) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def lose(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()


@pytest.mark.parametrize("damage", [cut, flip, lose])
def test_a_damaged_folder_is_mended(tiny, tmp_path, damage):
    built = tiny_model.build(tmp_path / "model")
    damage(built)
    assert not tiny_model.is_whole(built)

    tiny_model.build(built)

    assert digests(built) == digests(tiny)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "novel.txt").write_text("It was a dark and stormy night")

    with pytest.raises(ModelError, match="other files"):
        tiny_model.build(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["novel.txt"]


def test_the_processs_random_state_is_as_it_was(tmp_path):
    import torch

    before = torch.random.get_rng_state()

    tiny_model.components()

    assert bool((torch.random.get_rng_state() == before).all())


def test_builds_at_the_same_time_do_not_disturb_each_other(tiny, tmp_path):
    target = tmp_path / "model"
    builders = [
        subprocess.Popen(
            [sys.executable, "-m", "zit_ext.models.tiny", str(target)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        ended = [(*builder.communicate(timeout=240), builder.returncode) for builder in builders]
    finally:
        for builder in builders:
            builder.kill()
            builder.wait()

    assert [code for _, _, code in ended] == [0, 0], ended
    assert digests(target) == digests(tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
