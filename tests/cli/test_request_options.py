"""What the options say is what the request asks for, and nothing else."""

import argparse
import json
from dataclasses import fields

import pytest

from zit_ext import CacheMode, LoraRef, ModelRef, Request, policy
from zit_ext.cli.request_options import add_request_options, request_from
from zit_ext.errors import RequestError

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def request(*arguments, prompt="a lighthouse"):
    parser = argparse.ArgumentParser()
    add_request_options(parser)
    return request_from(parser.parse_args(arguments), prompt)


def test_without_options_it_is_turbos_own_defaults_with_a_seed_to_be_drawn():
    assert request() == Request(prompt="a lighthouse", seed=-1)


def test_every_field_of_a_request_and_of_a_model_has_an_option():
    parser = argparse.ArgumentParser()
    add_request_options(parser)
    there = {name.lstrip("-").replace("-", "_") for each in parser._actions for name in each.option_strings}
    called_otherwise = {"loras": "lora", "ttl_seconds": "ttl", "source": "model"}
    filled_in_by_the_engine = {"digest", "path", "identity", "believed", "context"}
    wanted = (
        {each.name for each in (*fields(Request), *fields(ModelRef))} - filled_in_by_the_engine - {"prompt"}
    )
    assert {called_otherwise.get(name, name) for name in wanted} <= there


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("--seed 7", "seed", 7),
        ("--seed -5", "seed", -5),
        ("--width 512", "width", 512),
        ("--height 256", "height", 256),
        ("--steps 4", "steps", 4),
        ("--guidance 2.5", "guidance", 2.5),
        ("--negative-prompt fog", "negative_prompt", "fog"),
        ("--cfg-normalization 1", "cfg_normalization", 1),
        ("--cfg-truncation 0.5", "cfg_truncation", 0.5),
        ("--sigmas 1.0,0.5,0", "sigmas", (1.0, 0.5, 0)),
        ("--max-sequence-length 77", "max_sequence_length", 77),
        ("--generator-device cuda", "generator_device", "cuda"),
        ("--strength 0.3", "strength", 0.3),
        ("--media-type audio/wav", "media_type", "audio/wav"),
        ("--namespace ann", "namespace", "ann"),
        ("--priority -1", "priority", -1),
        ("--comment hello", "comment", "hello"),
        ("--ttl 24h", "ttl_seconds", 86_400.0),
        ("--ttl 0", "ttl_seconds", 0.0),
        ("--keep-alive -1", "keep_alive", -1.0),
        ("--debug", "debug", True),
        ("--cache only", "cache", "only"),
        ("--no-cache", "cache", "bypass"),
        ("--extra a.b=3 --extra a.c=x", "extra", {"a.b": 3, "a.c": "x"}),
    ],
)
def test_an_option_sets_its_field(arguments, name, value):
    assert getattr(request(*arguments.split()), name) == value


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("--model mine", "source", "mine"),
        ("--dtype bfloat16", "dtype", "bfloat16"),
        ("--attention native", "attention", "native"),
        ("--offload group", "offload", "group"),
        ("--vae-tiling", "vae_tiling", True),
    ],
)
def test_an_option_of_the_model_sets_it(arguments, name, value):
    assert getattr(request(*arguments.split()).model, name) == value


def test_parts_of_the_model_are_replaced_by_their_files():
    model = request("--vae", "ae", "--text-encoder", "qwen_3_4b", "--tokenizer", "mine").model
    assert {name: part.source for name, part in model.parts.items()} == {
        "text_encoder": "qwen_3_4b",
        "vae": "ae",
        "tokenizer": "mine",
    }


def test_loras_keep_their_order_and_strengths():
    loras = request("--lora", "ink:0.8", "--lora", "C:\\fog.safetensors", "--lora", "d:\\ash:1e-1").loras
    assert [(each.source, each.strength) for each in loras] == [
        ("ink", 0.8),
        ("C:\\fog.safetensors", 1.0),
        ("d:\\ash", 0.1),
    ]
    assert all(isinstance(each, LoraRef) for each in loras)


def test_a_scheduler_takes_its_config():
    scheduler = request("--scheduler", "euler", "--scheduler-config", "shift=3.0").scheduler
    assert (scheduler.name, scheduler.config) == ("euler", {"shift": 3.0})


def test_a_picture_to_start_from_is_read(tmp_path):
    (tmp_path / "start.png").write_bytes(PNG_HEAD + b"...")
    assert request("--image", str(tmp_path / "start.png")).image.data == PNG_HEAD + b"..."


@pytest.mark.parametrize("name", ["missing.png", "text.png", "."])
def test_what_is_no_picture_is_refused(tmp_path, name):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(RequestError, match=r"image = .*: (name|give) "):
        request("--image", str(tmp_path / name))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--steps", "eight"], "steps"),
        (["--width", "wide"], "width"),
        (["--guidance", "nan"], "guidance"),
        (["--seed", "1.5"], "seed"),
        (["--sigmas", "1,x"], "sigmas"),
        (["--lora", "ink:nan"], "loras[0].strength"),
        (["--cache", "maybe"], "cache"),
        (["--ttl", "-1"], "ttl_seconds"),
        (["--ttl", "soon"], "ttl_seconds"),
        (["--keep-alive", "x"], "keep_alive"),
        (["--scheduler-config", "shift"], "scheduler_config"),
        (["--extra", "=3"], "extra"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_field(arguments, field):
    with pytest.raises(RequestError) as caught:
        policy.at_the_door(request("--model", "m", *arguments))
    assert caught.value.field == field
    assert caught.value.remedy


def test_without_prompt_it_says_so():
    with pytest.raises(RequestError, match="prompt = None: give a prompt"):
        request(prompt=None)


def test_a_request_comes_from_a_file_and_options_win(tmp_path):
    (tmp_path / "start.png").write_bytes(PNG_HEAD)
    written = {
        "prompt": "a boat",
        "seed": 3,
        "model": {"source": "mine", "dtype": "float32", "vae": "ae"},
        "loras": ["ink", {"source": "fog", "strength": 0.5}],
        "scheduler": {"name": "euler", "config": {"shift": 2}},
        "sigmas": [1.0, 0.5],
        "image": "start.png",
        "cache": "refresh",
    }
    (tmp_path / "request.json").write_text(json.dumps(written))
    asked = request("--request", str(tmp_path / "request.json"), "--seed", "4", prompt=None)
    assert (asked.prompt, asked.seed, asked.sigmas) == ("a boat", 4, (1.0, 0.5))
    assert (asked.model.source, asked.model.dtype, asked.model.vae.source) == ("mine", "float32", "ae")
    assert [(each.source, each.strength) for each in asked.loras] == [("ink", 1.0), ("fog", 0.5)]
    assert asked.image.data == PNG_HEAD
    assert policy.at_the_door(asked).cache is CacheMode.REFRESH


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ("[1]", "request"),
        ("{", "request"),
        ('{"seed": 1}', "prompt"),
        ('{"prompt": "a", "sed": 1}', "sed"),
        ('{"prompt": "a", "context": "x"}', "context"),
        ('{"prompt": "a", "model": {"digest": "x"}}', "model.digest"),
        ('{"prompt": "a", "model": 3}', "model"),
        ('{"prompt": "a", "loras": "ink"}', "loras"),
        ('{"prompt": "a", "loras": [{"strength": 1}]}', "loras[0].source"),
        ('{"prompt": "a", "image": 3}', "image"),
        ('{"prompt": "a", "image": "gone.png"}', "image"),
        ('{"prompt": 3}', "prompt"),
        ('{"prompt": "a", "steps": "8"}', "steps"),
        ('{"prompt": "a", "width": NaN}', "width"),
        ('{"prompt": "a", "scheduler": {"name": "DDIM"}}', "scheduler"),
    ],
)
def test_a_file_that_is_no_request_is_refused_by_the_name_of_its_field(tmp_path, written, field):
    (tmp_path / "request.json").write_text(written)
    with pytest.raises(RequestError) as caught:
        policy.at_the_door(request("--request", str(tmp_path / "request.json"), "--model", "m", prompt=None))
    assert caught.value.field == field
