"""The cache provider in the real host: existing workflows, no new node. Needs ComfyUI 0.18 or newer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import getting
from .host import Host, Ran, python_for
from .test_cache_any import slow


@pytest.fixture(scope="module")
def keeping(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with the setting switched on, for classes of the tests' own."""
    if not (checkout / "comfy_execution" / "cache_provider.py").exists():
        pytest.skip("this ComfyUI knows no cache providers")
    python, paths = python_for(checkout, getting.get)
    host = Host(checkout, python, paths, tmp_path_factory.mktemp("comfyui"))
    host.environ = {
        "ZIT_NODE_CACHE": "1",
        "ZIT_NODE_CACHE_CLASSES": "TestSlow,TestLoader,TestRestless,SaveImage",
    }
    host.start()
    yield host
    host.stop()


def plain(*above: dict[str, Any]) -> dict[str, Any]:
    graph: dict[str, Any] = {}
    for number, node in enumerate(above, 1):
        inputs = {
            name: [str(number - 1), 0] if value == "above" else value
            for name, value in node.items()
            if name != "class_type"
        }
        graph[str(number)] = {"class_type": node["class_type"], "inputs": inputs}
    last = str(len(above))
    graph["out"] = {"class_type": "TestNote", "inputs": {"anything": [last, 0]}}
    graph["save"] = {"class_type": "SaveImage", "inputs": {"images": [last, 0], "filename_prefix": "kept"}}
    return graph


def run(host: Host, graph: dict[str, Any]) -> Ran:
    ran = host.run(graph)
    assert ran.ending == "execution_success", ran.error
    return ran


def test_costly_nodes_are_answered_after_a_restart_and_outputs_are_written_again(keeping):
    graph = plain(slow(0.25), slow(0.5, image="above"))
    loader = plain({"class_type": "TestLoader", "vae_name": "grey.safetensors"})
    keeping.notes()
    first, of_file = run(keeping, graph), run(keeping, loader)
    restless = run(keeping, plain({"class_type": "TestRestless"}))
    assert keeping.notes() == ["slow 0.25", "slow 0.5", "loader 64", "restless"]

    keeping.stop()
    (keeping.base / "models" / "vae" / "grey.safetensors").write_bytes(b"\x80" * 64)
    keeping.start()

    again = run(keeping, graph)
    assert keeping.notes() == []
    assert again.texts("out") == first.texts("out")
    assert len(again.images("save")) == 1
    assert again.images("save") != first.images("save")  # a new file: output nodes always run

    # The host's key knows the name of the file only; ours knows its bytes.
    assert run(keeping, loader).texts("out") != of_file.texts("out")
    assert run(keeping, plain({"class_type": "TestRestless"})).texts("out") != restless.texts("out")
    assert keeping.notes() == ["loader 128", "restless"]


def test_what_two_caches_answer_is_saved_once(keeping):
    graph = plain(slow(0.0625), slow(0.0625, image="above"))
    for node in ("1", "2"):
        graph[node]["inputs"]["seconds"] = 0.3
    graph["memo"] = {"class_type": "ZitCacheAny", "inputs": {"value": ["2", 0]}}
    graph["out"]["inputs"]["anything"] = graph["save"]["inputs"]["images"] = ["memo", 0]
    keeping.settle()
    before = costs(keeping)
    run(keeping, graph)
    keeping.settle()
    kept = {key: cost for key, cost in costs(keeping).items() if key not in before}
    assert len(kept) == 3  # both nodes, and the memo, which answers for both
    whole = max(kept.values())
    assert whole >= 0.6

    keeping.restart()
    stored = keeping.get("/zit/v1/stats?namespace=default")["store"]["saved_seconds"]
    again = run(keeping, graph)
    assert again.texts("memo")[0].startswith("hit")
    told = [data["saved_seconds"] for kind, data in again.events if kind == "zit.answered"]
    assert len(told) == 3
    engine = keeping.get("/zit/v1/stats")["engine"]
    assert engine["requests"]["hit"] == 3
    # The parts are measured a moment before the whole is.
    assert sum(kept.values()) - whole == pytest.approx(engine["saved_seconds"]) == pytest.approx(sum(told))
    keeping.restart()  # uses are written down at the end
    usage = keeping.get("/zit/v1/stats?namespace=default")["store"]
    assert usage["saved_seconds"] - stored == pytest.approx(engine["saved_seconds"])


def costs(host: Host) -> dict[str, float]:
    """Return what each result costs, by key."""
    return {each["key"]: each["cost"] for each in host.get("/zit/v1/entries?limit=500")["entries"]}
