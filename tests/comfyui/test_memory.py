"""Who makes room for whom: the host's memory manager and our holder."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from . import getting
from .host import python_for
from .test_generate import render

HERE = Path(__file__).parent


def test_what_unload_models_asks_for_leaves_the_device_and_comes_back_when_needed(host, tiny_model):
    def residents() -> str:
        return host.run({"1": {"class_type": "ZitStatistics", "inputs": {}}}).texts("1")[0].split("\n", 1)[1]

    render(host, tiny_model, prompt="in memory", cache="bypass")
    before = residents()
    assert tiny_model in before
    assert " 0.0 MB on cpu" not in before
    host.post("/free", {"unload_models": True})
    for _ in range(20):
        host.forget()
        if " 0.0 MB on cpu" in residents():
            break
    assert f"{tiny_model}: 0.0 MB on cpu" in residents()
    render(host, tiny_model, prompt="in memory again", cache="bypass")
    assert f"{tiny_model}: 0.0 MB on cpu" not in residents()


def test_both_sides_give_way_on_a_device_that_is_too_small_for_both(checkout):
    python, paths = python_for(checkout, getting.get)
    done = subprocess.run(
        [*python, str(HERE / "competing.py")],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, done.stdout + done.stderr
    told = {each["what"]: each for each in json.loads(lines[0][5:])}

    assert told["theirs alone"]["theirs"] == [6e9, 0]
    assert told["we rendered"]["theirs"] == [0, 0]  # theirs was put aside for ours
    assert told["we rendered"]["ours"] == 9.2e9
    assert told["we rendered again"]["ours"] == 9.2e9  # and ours stayed
    assert told["they needed room"]["theirs"] == [0, 7e9]
    assert told["they needed room"]["ours"] < 3e9  # ours gave way
    assert told["we rendered after that"]["ours"] > 5e9
    assert told["unload all"]["ours"] == 0
    assert told["unload all"]["theirs"] == [0, 0]
    assert all(each["free"] >= 0 for each in told.values())
