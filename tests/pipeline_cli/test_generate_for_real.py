"""`zit-ext` on a real pipeline: the tiny model, in processes of their own and in this one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zit_ext.cli import main

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).parents[2]
SMALL = ("--seed", "7", "--width", "64", "--height", "64")

ASK_AND_TELL = """
import sys
from zit_ext.cli import main
code = main(sys.argv[1:])
print("imported:", *sorted({"torch", "diffusers", "numpy", "PIL"} & sys.modules.keys()), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def cli(home, capsys):
    def run(*arguments):
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def in_a_process(*arguments):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", ASK_AND_TELL, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        timeout=280,
        check=False,
    )


def test_the_second_process_has_the_same_bytes_and_no_torch(home):
    first = in_a_process("generate", "a lighthouse", *SMALL, "--json", "--out", "first.png")
    second = in_a_process("generate", "a lighthouse", *SMALL, "--json", "--out", "second.png")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    one, other = json.loads(first.stdout), json.loads(second.stdout)
    assert (one["outcome"], other["outcome"]) == ("miss", "hit")
    assert one["key"] == other["key"]
    assert (home / "first.png").read_bytes() == (home / "second.png").read_bytes()
    assert first.stderr.splitlines()[-1] == b"imported: PIL diffusers numpy torch"
    assert second.stderr.splitlines() == [b"imported:"]


def test_a_render_says_nothing_beside_its_line(home):
    done = in_a_process("generate", "a lighthouse", *SMALL)
    assert done.returncode == 0
    assert done.stderr.decode().splitlines() == ["imported: PIL diffusers numpy torch"]
    assert done.stdout.decode().startswith("zit-7.png  rendered in ")


def test_an_audit_renders_again_and_finds_the_same_pixels(cli):
    cli("generate", "a lighthouse", *SMALL, "--count", "2")
    cli("generate", "a boat", *SMALL, "--guidance", "2", "--negative-prompt", "fog", "--sigmas", "1,0.6,0.2")
    code, out, err = cli("verify", "--audit", "5")
    assert (code, err) == (0, "")
    assert out.endswith("rendered again: 3 same\n")


def test_image_to_image_starts_from_a_file(cli):
    cli("generate", "a lighthouse", *SMALL, "--out", "start.png")
    arguments = ("generate", "in winter", *SMALL, "--image", "start.png", "--json", "--out", "winter.png")
    rows = [json.loads(cli(*arguments)[1]) for _ in range(2)]
    assert [row["outcome"] for row in rows] == ["miss", "hit"]


# Bad input that only the model's own files and configs can show


def test_a_prompt_that_was_cut_is_told(cli):
    code, out, err = cli("generate", "x" * 600, *SMALL)
    assert code == 0
    assert "kept" in out
    assert err.startswith("zit-ext: warning: the end of the prompt was not read: 'xxx")


def test_a_prompt_that_is_too_long_is_refused_if_the_setting_says_so(cli):
    code, out, err = cli("generate", "x" * 600, *SMALL, "--settings", "long_prompts=refuse")
    assert (code, out) == (2, "")
    assert err.startswith("zit-ext: prompt = 'xxx")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x10\0\0\0\0\0\0\0" + b"x" * 16])
def test_corrupt_weights_are_named(cli, tiny, tmp_path, content):
    model = shutil.copytree(tiny, tmp_path / "model")
    path = next((model / "transformer").glob("*.safetensors"))
    path.write_bytes(content)
    code, out, err = cli("generate", "a lighthouse", *SMALL, "--model", str(model))
    assert (code, out) == (1, "")
    assert err.startswith(f"zit-ext: {path} is damaged: ")
    assert "download it again" in err
    assert len(err.splitlines()) == 1


def test_cut_off_weights_are_named(cli, tiny, tmp_path):
    model = shutil.copytree(tiny, tmp_path / "model")
    path = next((model / "text_encoder").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    code, _, err = cli("generate", "a lighthouse", *SMALL, "--model", str(model))
    assert (code, len(err.splitlines())) == (1, 1)
    assert str(path) in err


def test_a_corrupt_lora_is_named(cli, home):
    (home / "ink.safetensors").write_bytes(b"no weights at all")
    code, out, err = cli("generate", "a lighthouse", *SMALL, "--lora", "ink.safetensors")
    assert (code, out) == (2, "")
    assert "ink.safetensors is damaged: " in err
    assert len(err.splitlines()) == 1


def test_a_lora_of_another_model_is_named(cli, home, tiny):
    shutil.copy(next((tiny / "vae").glob("*.safetensors")), home / "ink.safetensors")
    code, out, err = cli("generate", "a lighthouse", *SMALL, "--lora", "ink.safetensors")
    assert (code, out) == (2, "")
    assert err.startswith("zit-ext: loras[0] = 'ink.safetensors': ")
    assert "choose a LoRA for Z-Image" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--scheduler-config", "stochastic_sampling=true"], "scheduler.config.stochastic_sampling = True: "),
        (["--scheduler-config", "nonsense=3"], "scheduler.config.nonsense = 3: it takes "),
        (["--attention", "nonsense"], "model.attention = 'nonsense': "),
        (["--settings", "device=abacus"], "device = 'abacus': "),
        (["--image", "torn.png"], "image = "),
    ],
)
def test_what_the_pipeline_cannot_do_is_refused_by_name(cli, home, arguments, named):
    (home / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nxxxx")
    code, out, err = cli("generate", "a lighthouse", *SMALL, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"zit-ext: {named}")
    assert len(err.splitlines()) == 1
    assert cli("ls", "--json")[1] == "[]\n"
