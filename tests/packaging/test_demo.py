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


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("demo")
    # In the environment that runs this test: setting one up has tests of its own.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "zit_ext.demo",
            "--out",
            str(folder / "out"),
            "--json",
            str(folder / "demo.json"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
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
