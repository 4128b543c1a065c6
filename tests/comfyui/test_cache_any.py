"""Cache (any) in the real host: what ran, what did not, and what arrived, to the bit."""

from __future__ import annotations

import hashlib
import itertools
import time
from typing import Any

import pytest

from zit_ext.codecs import Pixels, encode_png

from .host import Host, Ran, RefusedError

_numbers = itertools.count(1000)


def cached(*above: dict[str, Any], slot: int = 0, **options: Any) -> dict[str, Any]:
    """A graph of these nodes, each fed by the one before where it says "above"; the last is cached."""
    graph: dict[str, Any] = {}
    for number, node in enumerate(above, 1):
        inputs = {
            name: [str(number - 1), 0] if value == "above" else value
            for name, value in node.items()
            if name != "class_type"
        }
        graph[str(number)] = {"class_type": node["class_type"], "inputs": inputs}
    graph["memo"] = {"class_type": "ZitCacheAny", "inputs": {"value": [str(len(above)), slot], **options}}
    graph["out"] = {"class_type": "TestNote", "inputs": {"anything": ["memo", 0]}}
    return graph


def slow(value: float, **more: Any) -> dict[str, Any]:
    return {"class_type": "TestSlow", "value": value, "seconds": 0.0, **more}


def run(host: Host, graph: dict[str, Any]) -> Ran:
    ran = host.run(graph)
    assert ran.ending == "execution_success", ran.error
    return ran


def run_again(host: Host, graph: dict[str, Any]) -> Ran:
    """Run the same graph under other ids, after the host forgot what it knew; nodes note that they ran."""
    host.notes()
    for _ in range(10):
        host.forget()
        ran = run(host, _renumbered(graph))
        if ran.executed:
            return ran
    raise AssertionError("the host does not forget")


def _renumbered(graph: dict[str, Any]) -> dict[str, Any]:
    new = {name: name if name in ("memo", "out") else str(next(_numbers)) for name in graph}
    return {
        new[name]: {
            **node,
            "inputs": {
                each: [new[value[0]], value[1]] if isinstance(value, list) else value
                for each, value in node["inputs"].items()
            },
        }
        for name, node in reversed(graph.items())
    }


def run_only_the_cache_again(host: Host, graph: dict[str, Any]) -> Ran:
    """Run the cache node again, while the host still holds what the nodes above came to."""
    graph["memo"]["inputs"]["ttl_hours"] = float(next(_numbers))
    return run(host, graph)


def status(ran: Ran) -> str:
    return ran.texts("memo")[0]


def test_on_a_hit_nothing_above_runs_also_after_a_restart_and_under_other_ids(host):
    graph = cached(slow(0.25), slow(0.5, image="above"), {"class_type": "ImageInvert", "image": "above"})
    host.notes()
    first = run(host, graph)
    assert status(first).startswith("miss"), status(first)
    assert host.notes() == ["slow 0.25", "slow 0.5"]

    again = run_again(host, graph)
    assert status(again).startswith("hit")
    assert host.notes() == []
    assert again.texts("out") == first.texts("out")

    host.restart()
    later = run_again(host, graph)
    assert status(later).startswith("hit, disk")
    assert "saved" in status(later)
    assert host.notes() == []
    assert later.executed == ["memo", "out"]
    assert later.texts("out") == first.texts("out")


def test_another_literal_is_a_miss(host):
    assert status(run(host, cached(slow(0.75)))).startswith("miss")
    assert status(run(host, cached(slow(0.7500001)))).startswith("miss")
    assert status(run_again(host, cached(slow(0.75)))).startswith("hit")


def test_a_replaced_input_picture_is_a_miss(host):
    picture = host.base / "input" / "a.png"
    picture.write_bytes(_png(10))
    graph = cached({"class_type": "LoadImage", "image": "a.png"})
    first = run(host, graph)
    assert status(first).startswith("miss")
    time.sleep(2.5)  # from now on its time stamp proves something, and what it holds is known
    assert status(run_again(host, graph)).startswith("hit")

    picture.write_bytes(_png(200))
    third = run_again(host, graph)
    assert status(third).startswith("miss")
    assert third.texts("out") != first.texts("out")


def test_a_replaced_model_file_never_gives_the_old_answer(host):
    graph = cached({"class_type": "TestLoader", "vae_name": "grey.safetensors"})
    host.notes()
    first = run(host, graph)
    assert status(first).startswith("miss")
    assert host.notes() == ["loader 64"]

    (host.base / "models" / "vae" / "grey.safetensors").write_bytes(b"\x80" * 64)
    # The host's own cache still holds what the loader made of the old file, and hands that on.
    second = run_only_the_cache_again(host, graph)
    assert host.notes() == []
    assert second.texts("out") == first.texts("out")
    assert "grey.safetensors is newer than this run of ComfyUI" in status(second)

    host.restart()
    third = run(host, graph)
    assert status(third).startswith("miss")
    assert host.notes() == ["loader 128"]
    assert third.texts("out") != first.texts("out")


def test_a_change_mark_that_came_with_the_prompt_is_not_believed(host):
    """Pictures carry the graph with its change marks, and programs send it again as they found it."""
    picture = host.base / "input" / "marked.png"
    picture.write_bytes(_png(10))
    graph = cached({"class_type": "LoadImage", "image": "marked.png"})
    graph["1"]["is_changed"] = [hashlib.sha256(picture.read_bytes()).hexdigest()]
    first = run(host, graph)
    assert status(first).startswith("miss")
    picture.write_bytes(_png(200))
    second = run_only_the_cache_again(host, graph)
    assert second.texts("out") == first.texts("out")  # the host believes it
    assert "no longer says of its changes what the prompt says" in status(second)

    del graph["1"]["is_changed"]
    third = run(host, graph)
    assert third.texts("out") != first.texts("out")


def test_what_the_host_holds_of_the_file_that_a_link_led_to_is_not_kept_under_another(host):
    folder = host.base / "models" / "vae"
    for name, byte in (("old.safetensors", b"\x20"), ("new.safetensors", b"\x60")):
        (folder / name).write_bytes(byte * 64)
    (folder / "now.safetensors").symlink_to("old.safetensors")
    host.restart()  # all of them are older than this run
    graph = cached({"class_type": "TestLoader", "vae_name": "now.safetensors"})
    host.notes()
    first = run(host, graph)
    (folder / "now.safetensors").unlink()
    (folder / "now.safetensors").symlink_to("new.safetensors")
    second = run_only_the_cache_again(host, graph)
    assert host.notes() == ["loader 32"]
    assert second.texts("out") == first.texts("out")
    assert "now.safetensors is newer than this run of ComfyUI" in status(second)

    host.restart()
    third = run(host, graph)
    assert host.notes() == ["loader 96"]
    assert third.texts("out") != first.texts("out")


def test_a_pack_that_changes_comfyui_itself_is_in_the_key_of_every_graph(host):
    graph = cached(slow(0.3125))
    first = run(host, graph)
    pack = host.base / "custom_nodes" / "zit_patching.py"
    pack.write_text(
        "import node_helpers\n"
        "def pillow(fn, arg):\n"
        "    return fn(arg)\n"
        "node_helpers.pillow = pillow\n"
        "NODE_CLASS_MAPPINGS = {}\n"
    )
    try:
        host.restart()
        host.notes()
        assert status(run(host, graph)).startswith("miss")
        assert host.notes() == ["slow 0.3125"]
        assert status(run_again(host, graph)).startswith("hit")
    finally:
        pack.unlink()
        host.restart()
    again = run(host, graph)
    assert status(again).startswith("hit")
    assert again.texts("out") == first.texts("out")


def test_what_is_never_the_same_twice_passes_through_with_the_reason(host):
    graph = cached({"class_type": "TestRestless"})
    host.notes()
    first, second = run(host, graph), run(host, graph)
    assert "never the same twice" in status(first)
    assert status(second).startswith("bypass")
    assert host.notes() == ["restless", "restless"]
    assert first.texts("out") != second.texts("out")


def test_what_was_computed_in_another_way_since_memory_ran_out_is_not_kept(host):
    graph = cached(slow(0.8), {"class_type": "TestTight", "image": "above"})
    try:
        host.notes()
        first = run(host, graph)
        assert "not kept: memory ran out" in status(first)
        # What the host holds of that is not kept later, either.
        assert "not kept: memory ran out" in status(run_only_the_cache_again(host, graph))
        assert host.notes() == ["slow 0.8", "tight"]

        second = run_again(host, graph)
        assert host.notes() == ["slow 0.8", "tight"]
        assert status(second).startswith("miss, ")
        assert "not kept" not in status(second)
        assert second.texts("out") != first.texts("out")
        third = run_again(host, graph)
        assert status(third).startswith("hit")
        assert third.texts("out") == second.texts("out")
    finally:
        host.restart()  # it never forgets that memory ran out


def test_what_cannot_be_stored_passes_through_and_its_type_is_named(host):
    ran = run(host, cached({"class_type": "TestOdd"}))
    assert "not kept: the value holds a object" in status(ran)
    assert ran.texts("out") == ["object"]


def test_a_list_is_kept_whole(host):
    graph = cached({"class_type": "TestMany", "count": 3})
    first = run(host, graph)
    again = run_again(host, graph)
    assert status(again).startswith("hit")
    assert host.notes() == []
    assert again.texts("out") == first.texts("out")
    assert len(first.texts("out")) == 3


@pytest.mark.parametrize(
    "above",
    [
        [{"class_type": "EmptyLatentImage", "width": 64, "height": 64, "batch_size": 2}],
        [{"class_type": "SolidMask", "value": 0.3, "width": 24, "height": 16}],
        [{"class_type": "EmptyAudio", "duration": 0.1, "sample_rate": 44100, "channels": 2}],
        [
            {"class_type": "EmptyImage", "width": 40, "height": 24, "batch_size": 1, "color": 16711680},
            {"class_type": "ImageScale", "image": "above", "upscale_method": "bicubic", "width": 64,
             "height": 32, "crop": "disabled"},
        ],
    ],
    ids=["latent", "mask", "audio", "image"],
)  # fmt: skip
def test_each_kind_of_value_is_the_same_on_a_hit(host, above):
    graph = cached(*above)
    first = run(host, graph)
    assert status(first).startswith("miss"), status(first)
    again = run_again(host, graph)
    assert status(again).startswith("hit")
    assert again.executed == ["memo", "out"]
    assert again.texts("out") == first.texts("out")


def test_a_cache_in_a_graph_that_a_node_made_while_it_ran_works_too(host):
    graph = {
        "1": {"class_type": "TestExpands", "inputs": {"value": 0.125}},
        "out": {"class_type": "TestNote", "inputs": {"anything": ["1", 0]}},
    }
    host.notes()
    first = run(host, graph)
    assert host.notes() == ["slow 0.125"]
    again = run_again(host, graph)
    assert host.notes() == []
    assert again.texts("out") == first.texts("out")


def test_a_cache_above_a_cache_is_looked_through(host):
    graph = cached(slow(0.375), {"class_type": "ZitCacheAny", "value": "above"})
    assert status(run(host, graph)).startswith("miss")
    assert status(run_again(host, cached(slow(0.375)))).startswith("hit")
    assert host.notes() == []


def test_only_answers_from_the_store_or_stops_with_the_reason(host):
    host.notes()
    ran = host.run(cached(slow(0.999), cache="only"))
    assert ran.ending == "execution_error"
    assert "nothing is kept for this graph" in ran.error
    assert host.notes() == []


@pytest.mark.parametrize(("mode", "outcome"), [("refresh", "miss"), ("bypass", "bypass")])
def test_refresh_and_bypass_run_the_graph(host, mode, outcome):
    run(host, cached(slow(0.5625)))
    assert status(run_again(host, cached(slow(0.5625), cache=mode))).startswith(outcome)
    assert host.notes() == ["slow 0.5625"]


def test_another_namespace_is_another_entry(host):
    run(host, cached(slow(0.6875)))
    assert status(run_again(host, cached(slow(0.6875), namespace="alice"))).startswith("miss")
    assert status(run_again(host, cached(slow(0.6875), namespace="alice"))).startswith("hit")


def test_a_damaged_entry_is_a_miss_and_the_graph_runs(host):
    host.settle()
    before, entries = host.blobs(), host.entries()
    first = run(host, cached(slow(0.8125)))
    host.wait_for_entries(entries)
    (blob,) = host.blobs() - before
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)

    again = run_again(host, cached(slow(0.8125)))
    assert status(again).startswith("miss")
    assert host.notes() == ["slow 0.8125"]
    assert again.texts("out") == first.texts("out")


def test_a_pack_that_nobody_trusts_passes_through_and_the_setting_is_named(host):
    ran = run(host, cached({"class_type": "StrangeSlow", "value": 0.5, "seconds": 0.0}))
    assert 'add "zit_strangers" to the setting trusted_packs' in status(ran)


def test_a_pack_that_was_updated_while_the_host_runs_passes_through(host):
    code = host.base / "custom_nodes" / "zit_test_pack" / "more.py"
    code.write_text("# an update\n")
    try:
        assert "changed since ComfyUI started" in status(run(host, cached(slow(0.4375))))
    finally:
        code.unlink()


def test_a_value_that_is_not_linked_is_refused_by_the_host(host):
    graph = cached(slow(0.5))
    del graph["memo"]["inputs"]["value"]
    with pytest.raises(RefusedError, match="Required input is missing"):
        host.run(graph)


def _png(grey: int) -> bytes:
    return encode_png(Pixels(8, 8, 3, bytes([grey]) * 192))
