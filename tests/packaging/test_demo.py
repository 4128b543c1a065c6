"""The demo as a newcomer runs it, read back from the file that it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.demo, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
COLUMNS = {"name", "outcome", "tier", "seconds", "loads", "key", "digest", "torch_imported", "identical"}


def run_demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # In the environment that runs this test: setting one up has tests of its own.
    return subprocess.run(
        [sys.executable, "-m", "zit_ext.demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("demo")
    done = run_demo("--out", str(folder / "out"), "--json", str(folder / "demo.json"))
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith(f"ZIT_MODEL={folder / 'out' / 'tiny-model'}")
    assert (folder / "out" / "sheet.png").read_bytes().startswith(b"\x89PNG\r\n")
    return {row["name"]: row for row in json.loads((folder / "demo.json").read_text(encoding="utf-8"))}


def test_each_row_says_what_was_measured(rows):
    assert list(rows) == ["cold", "resident", "hit", "restart", "bypass", "audit"]
    for row in rows.values():
        assert row.keys() >= COLUMNS, row
        assert row["seconds"] > 0


def test_weights_are_loaded_once_in_the_first_process(rows):
    assert [rows[name]["loads"] for name in ("cold", "resident", "hit")] == [1, 1, 1]


def test_the_same_request_is_a_hit_and_after_a_restart_no_torch_is_needed(rows):
    assert rows["hit"]["outcome"] == rows["restart"]["outcome"] == "hit"
    assert rows["hit"]["key"] == rows["cold"]["key"] == rows["restart"]["key"]
    assert rows["restart"]["torch_imported"] is False
    assert rows["restart"]["loads"] == 0


def test_a_hit_is_what_a_render_without_the_cache_gives_to_the_bit(rows):
    assert rows["audit"]["identical"] is True
    assert rows["audit"]["digest"] == rows["hit"]["digest"] == rows["restart"]["digest"]


def test_a_random_seed_is_neither_looked_up_nor_kept(rows):
    assert rows["bypass"]["outcome"] == "bypass"
    assert rows["bypass"]["digest"] != rows["cold"]["digest"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("no/such-model", "copy the folder models--no--such-model from there into"),
        ("./no such folder", "give the path of a folder or of a .safetensors file"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line_that_says_what_to_do(tmp_path, model, words):
    done = run_demo(
        "--model", model, "--out", str(tmp_path / "out"), HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf")
    )
    assert done.returncode == 2
    assert words in done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.count("The demo stopped") == 1


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_rendered(tmp_path, option):
    (tmp_path / "file").write_text("no folder")
    place = tmp_path / "file" if option == "--out" else tmp_path / "file" / "rows.json"
    done = run_demo("--out", str(tmp_path / "out"), option, str(place))
    assert done.returncode == 2
    assert "Traceback" not in done.stdout
    assert done.stdout.startswith("The demo stopped: ")


def test_damaged_weights_are_one_line_too(tmp_path):
    (tmp_path / "ae.safetensors").write_bytes(b"torn")
    done = run_demo("--model", str(tmp_path / "ae.safetensors"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "ae.safetensors is damaged" in done.stdout
    assert "Traceback" not in done.stdout
