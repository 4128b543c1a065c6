"""What cannot be rendered is refused by field, value and remedy, before anything is loaded."""

import sqlite3

import pytest

from zit_ext import Request
from zit_ext.errors import RequestError
from zit_ext.plugins import find_plugins
from zit_ext.results.layout import Layout
from zit_ext.runtime import Runtime
from zit_ext.testing import FakeRenderer

LONG = "x" * 100_001

BAD = [
    (["--width", "500"], "width = 500", "give a multiple of 16; 496 is the nearest"),
    (["--height", "8200"], "height = 8200", "give a whole number from 16 to 8192"),
    (["--width", "0"], "width = 0", "give a whole number from 16 to 8192"),
    (["--width", "12.5"], "width = 12.5", "give a whole number"),
    (["--steps", "0"], "steps = 0", "give a whole number from 1"),
    (["--steps", "-3"], "steps = -3", "give a whole number from 1"),
    (["--steps", "1001"], "steps = 1001", "to 1000"),
    (["--guidance", "nan"], "guidance = nan", "give a finite number"),
    (["--guidance", "inf"], "guidance = inf", "give a finite number"),
    (["--guidance", "high"], "guidance = 'high'", "give a finite number"),
    (["--seed", str(2**64)], f"seed = {2**64}", "give a whole number from -9223372036854775808"),
    (["--max-sequence-length", "0"], "max_sequence_length = 0", "give a whole number from 1"),
    (["--sigmas", "0.5,1"], "sigmas = (0.5, 1)", "give numbers that fall"),
    (["--strength", "0"], "strength = 0", "give a number above 0 up to 1"),
    (["--negative-prompt", LONG], "negative_prompt = ", "give at most 100,000 characters"),
    (
        ["--scheduler", "DPMSolverMultistepScheduler"],
        "scheduler = 'DPMSolverMultistepScheduler'",
        "Z-Image runs",
    ),
    (["--generator-device", "tpu"], "generator_device = 'tpu'", "give one of cpu, cuda"),
    (["--dtype", "int8"], "model.dtype = 'int8'", "give one of auto, bfloat16"),
    (["--offload", "disk"], "model.offload = 'disk'", "give one of none, model, group"),
    (["--cache", "maybe"], "cache = 'maybe'", "give one of use, refresh, bypass, only"),
    (["--namespace", ""], "namespace = ''", "give a name of 1 to 128"),
    (["--count", "0"], "count = 0", "give a whole number from 1"),
    (["--count", "x"], "count = 'x'", "give a whole number from 1"),
    (["--lora", "gone.safetensors"], "loras[0] = 'gone.safetensors'", "there is no such LoRA"),
    (["--lora", "ink:nan"], "loras[0].strength = nan", "give a finite number"),
    (["--image", "gone.png"], "image = 'gone.png'", "name a file that can be read"),
    (["--out", "boat.jpg"], "out = 'boat.jpg'", "name boat.png or a folder"),
    (["--request", "gone.json"], "request = 'gone.json'", "name a JSON file"),
    (["--request", "deep.json"], "request = 'deep.json'", "nested too deep"),
    (["--model", "weights.ckpt"], "model = 'weights.ckpt'", "safetensors"),
]


@pytest.mark.parametrize(("arguments", "named", "remedy"), BAD, ids=[" ".join(each[0])[:40] for each in BAD])
def test_it_is_refused_by_name_with_a_remedy(cli, model, home, weights, arguments, named, remedy):
    (home / "weights.ckpt").write_bytes(b"pickled")
    (home / "deep.json").write_text("[" * 200_000)
    ran = cli("generate", "a boat", "--seed", "7", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"zit-ext: {named}")
    assert remedy in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not weights.started.is_set()


def test_a_prompt_beyond_all_bounds_is_refused(cli, model, weights):
    ran = cli("generate", LONG, "--seed", "7")
    assert ran.code == 2
    assert "give at most 100,000 characters; these are 100,001" in ran.err
    assert not weights.started.is_set()


@pytest.mark.parametrize("source", ["no/where/at/all", "org/no-such-model", "no_such_name"])
def test_a_model_that_is_not_there_says_what_to_do(cli, home, weights, source):
    ran = cli("generate", "a boat", "--seed", "7", "--model", source, "--settings", "offline=on")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"zit-ext: no weights for {source!r}: ")
    assert len(ran.err.splitlines()) == 1
    assert not weights.started.is_set()


def test_a_bad_picture_late_in_a_batch_costs_no_render(cli, model, weights):
    ran = cli("generate", "a boat", "--seed", str(2**64 - 2), "--count", "3")
    assert ran.code == 2
    assert "seed = 18446744073709551614" in ran.err
    assert not weights.started.is_set()


@pytest.mark.parametrize("prompt", [None, 3, b"bytes", ["a", "list"]])
def test_a_prompt_that_is_no_text_is_refused(settings, weights, prompt):
    with (
        Runtime(
            settings, plugins=find_plugins(entry_points=False), renderer=FakeRenderer(weights)
        ) as runtime,
        pytest.raises(RequestError, match=r"^prompt = .*: give a text$") as caught,
    ):
        runtime.generate_blocking(Request(prompt=prompt, seed=1))
    assert (caught.value.field, caught.value.remedy) == ("prompt", "give a text")
    assert not weights.started.is_set()


# A store that cannot be used


@pytest.fixture
def newer(kept, tmp_path):
    """A store whose index a newer version wrote."""
    kept("a boat")
    path = Layout(tmp_path / "cache" / "results").indexes()[-1]
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 999")
    database.commit()
    database.close()
    return path


def test_a_newer_schema_is_not_written_to_and_renders_go_on(cli, newer, rendered, home):
    ran = cli("generate", "a boat", "--seed", "7", "--json")
    row = ran.lines()[0]
    assert (ran.code, row["outcome"], row["stored"]) == (0, "bypass", False)
    assert (home / row["file"]).is_file()
    assert "the index has schema 999" in ran.err
    assert "Traceback" not in ran.err
    database = sqlite3.connect(newer)
    assert database.execute("PRAGMA user_version").fetchone() == (999,)
    assert database.execute("SELECT entries FROM totals").fetchone() == (1,)
    database.close()


@pytest.mark.parametrize(
    "command", [["ls"], ["stats"], ["prune"], ["clear", "--yes"], ["verify"], ["show", "a"]]
)
def test_commands_say_that_the_schema_is_newer(cli, newer, command):
    ran = cli(*command)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("zit-ext: the index has schema 999; this version knows ")
    assert "upgrade zit_ext, or choose another cache_dir" in ran.err


def test_commands_say_that_the_cache_folder_cannot_be_used(cli, model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    ran = cli("ls", "--cache-dir", str(tmp_path / "file" / "below"))
    assert (ran.code, ran.out) == (1, "")
    assert str(tmp_path / "file") in ran.err
    assert len(ran.err.splitlines()) == 1


def test_explain_says_that_a_store_that_cannot_be_used_is_bypassed(cli, newer):
    ran = cli("explain", "a boat", "--seed", "7", "--json")
    assert ran.code == 0
    assert (ran.json()["verdict"], ran.json()["reason"]) == ("bypass", "the result store could not be opened")
    assert "the index has schema 999" in ran.err
