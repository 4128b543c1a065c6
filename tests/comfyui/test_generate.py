"""Z-Image (cached) in the real host: what a user of the web page would see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from .host import Host, Ran, RefusedError
from .test_cache_any import cached, run, run_again, slow, status


def picture(model: str, **changes: Any) -> dict[str, Any]:
    """A graph that renders with the tiny model and saves what comes out."""
    inputs = {
        "prompt": "a lighthouse at dusk", "negative_prompt": "", "seed": 7, "width": 64, "height": 64,
        "steps": 4, "guidance": 0.0, "batch_size": 1, "model": model, "cache": "use", **changes,
    }  # fmt: skip
    return {
        "1": {"class_type": "ZitGenerate", "inputs": inputs},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "zit"}},
        "3": {"class_type": "TestNote", "inputs": {"anything": ["1", 0]}},
        "4": {"class_type": "TestNote", "inputs": {"anything": ["1", 1]}},
    }


def render(host: Host, model: str, **changes: Any) -> Ran:
    """Run the graph to a good end."""
    ran = host.run(picture(model, **changes))
    assert ran.ending == "execution_success", ran.error
    return ran


def outcomes(ran: Ran) -> list[str]:
    """Return how each picture was answered."""
    return [line.split(",")[0] for line in ran.texts("4")[0].strip("'").split("\\n")]


def test_the_nodes_are_there_with_turbos_defaults_and_nothing_heavy_was_imported(host):
    described = host.get("/object_info/ZitGenerate")["ZitGenerate"]
    required = described["input"]["required"]
    assert described["display_name"] == "Z-Image (cached)"
    assert required["steps"][1]["default"] == 8
    assert required["guidance"][1]["default"] == 0.0
    assert required["width"][1]["default"] == 1024
    assert "ZitStatistics" in host.get("/object_info/ZitStatistics")
    told = host.output.read_text(errors="replace")
    assert "IMPORT FAILED): " not in told
    assert "diffusers" not in told


def test_a_miss_then_a_restart_then_a_hit_with_the_same_pixels(host, tiny_model):
    first = render(host, tiny_model, prompt="a story", seed=1)
    assert outcomes(first) == ["miss"]
    steps = [data for kind, data in first.events if kind == "progress" and data["node"] == "1"]
    assert steps[-1]["value"] == steps[-1]["max"] == 4

    host.restart()

    second = render(host, tiny_model, prompt="a story", seed=1)
    assert outcomes(second) == ["hit"]
    assert second.texts("3") == first.texts("3")  # the tensor, to the bit
    assert host.pixels(second.images("2")[0]) == host.pixels(first.images("2")[0])


def test_a_batch_is_partly_hits(host, tiny_model):
    render(host, tiny_model, prompt="a batch", seed=11)
    three = render(host, tiny_model, prompt="a batch", seed=10, batch_size=3)
    assert outcomes(three) == ["miss", "hit", "miss"]
    assert len(three.images("2")) == 3


def test_an_interrupt_in_mid_render_ends_it_and_nothing_is_kept(host, tiny_model):
    asked = []

    def interrupt(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and not asked:
            asked.append(data["value"])
            host.post("/interrupt", {})

    ran = host.run(picture(tiny_model, prompt="too long", steps=1000), interrupt)
    assert ran.ending == "execution_interrupted"
    assert asked
    assert asked[0] < 1000
    again = host.run(picture(tiny_model, prompt="too long", steps=1000, cache="only"))
    assert again.ending == "execution_error"
    assert "no stored answer" in again.error


def test_two_prompts_at_once_are_both_answered(host, tiny_model):
    both = host.run_all([picture(tiny_model, prompt=words) for words in ("left", "right")])
    assert [outcomes(ran) for ran in both] == [["miss"], ["miss"]]
    assert both[0].texts("3") != both[1].texts("3")


def test_a_corrupt_store_entry_is_a_miss_and_the_same_picture(host, tiny_model):
    host.settle()
    before, entries = host.blobs(), host.entries()
    first = render(host, tiny_model, prompt="torn")
    host.wait_for_entries(entries)
    (blob,) = host.blobs() - before
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)

    # Without guidance the negative prompt has no effect: another node for the host, the same request for us.
    again = render(host, tiny_model, prompt="torn", negative_prompt="x")
    assert outcomes(again) == ["miss"]
    assert again.texts("3") == first.texts("3")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"width": 65}, "16"), ({"steps": 0}, "steps"), ({"cache": "sometimes"}, "cache")],
)
def test_what_cannot_be_is_refused_with_the_field_named(host, tiny_model, changes, words):
    try:
        ran = host.run(picture(tiny_model, **changes))
    except RefusedError as error:
        told = str(error)
    else:
        assert ran.ending == "execution_error"
        told = ran.error
    assert words in told


def test_weights_that_are_not_there_are_named_with_a_remedy(host):
    ran = host.run(picture("no-such-model-anywhere"))
    assert ran.ending == "execution_error"
    assert "no weights for 'no-such-model-anywhere'" in ran.error


def test_who_has_no_weights_is_told_what_to_do_in_this_host(host):
    ran = host.run(picture("Tongyi-MAI/Z-Image-Turbo"))
    assert ran.error.startswith("the weights of Tongyi-MAI/Z-Image-Turbo are not on this computer: download")
    assert "-m zit_ext.models.download Tongyi-MAI/Z-Image-Turbo` (20 GB)" in ran.error
    command = re.search(r"in (\S+), run `(\S+) -m zit_ext", ran.error)
    assert command is not None
    assert (Path(command[1]) / "zit_ext" / "models" / "download.py").exists()
    assert Path(command[2]).exists()

    own = host.base / "models" / "diffusion_models" / "z_image_turbo_bf16.safetensors"
    own.parent.mkdir(exist_ok=True)
    own.write_bytes(b"x")
    try:
        ran = host.run(picture("Tongyi-MAI/Z-Image-Turbo"))
    finally:
        own.unlink()
    assert "ComfyUI has z_image_turbo_bf16.safetensors: choose it in a Z-Image model node" in ran.error


def test_a_cache_below_it_leaves_keeping_to_it(host, tiny_model):
    graph = picture(tiny_model, seed=70)
    graph["memo"] = {"class_type": "ZitCacheAny", "inputs": {"value": ["1", 0]}}
    graph["3"]["inputs"]["anything"] = ["memo", 0]
    ran = run(host, graph)
    assert status(ran).startswith("bypass, ZitGenerate is above, which keeps its own results")


def test_the_statistics_node_tells_what_was_saved(host, tiny_model):
    ran = host.run({"1": {"class_type": "ZitStatistics", "inputs": {}}})
    assert "hits" in ran.texts("1")[0]


def with_more(graph: dict[str, Any], **nodes: dict[str, Any]) -> dict[str, Any]:
    """The graph with these nodes, each linked to the input of its name."""
    graph["1"]["inputs"] |= {name: [name, 0] for name in nodes}
    return {**graph, **nodes}


def test_what_describes_is_part_of_the_request_and_loads_nothing(host, tiny_model):
    plain = render(host, tiny_model, prompt="described")
    described = host.run(
        with_more(
            picture("", prompt="described"),
            zit_model={
                "class_type": "ZitModel",
                "inputs": {
                    "file": "(by name)", "source": tiny_model, "dtype": "auto", "text_encoder": "(by name)",
                    "offload": "none", "vae_tiling": False,
                },
            },
        )
    )  # fmt: skip
    assert outcomes(described) == ["hit"], described.error
    assert described.texts("3") == plain.texts("3")

    shift = {"class_type": "ZitScheduler", "inputs": {"shift": 5.0, "sigmas": "plain"}}
    shifted = host.run(with_more(picture(tiny_model, prompt="described"), scheduler=shift))
    assert outcomes(shifted) == ["miss"], shifted.error
    assert shifted.texts("3") != plain.texts("3")


def test_image_to_image_is_a_miss_then_a_hit_and_depends_on_picture_and_strength(host, tiny_model):
    def start(color: int) -> dict[str, Any]:
        return {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": color},
        }

    def ran(color: int, **changes: Any) -> Ran:
        done = host.run(
            with_more(picture(tiny_model, prompt="from a picture", **changes), image=start(color))
        )
        assert done.ending == "execution_success", done.error
        return done

    first = ran(0xFF0000, strength=0.5)
    assert outcomes(first) == ["miss"]
    assert outcomes(ran(0xFF0000, strength=0.5, negative_prompt="x")) == ["hit"]
    assert outcomes(ran(0x00FF00, strength=0.5)) == ["miss"]
    assert outcomes(ran(0xFF0000, strength=0.9)) == ["miss"]


def test_a_lora_that_is_not_there_is_refused_with_its_name(host, tiny_model):
    lora = {"class_type": "ZitLora", "inputs": {"lora": "no.safetensors", "strength": 1.0}}
    graph = with_more(picture(tiny_model), loras=lora)
    try:
        told = host.run(graph).error
    except RefusedError as error:
        told = str(error)
    assert "no.safetensors" in told


def test_weights_are_preloaded_and_unloaded_by_nodes(host, tiny_model):
    model = {
        "class_type": "ZitModel",
        "inputs": {
            "file": "(by name)", "source": tiny_model, "dtype": "auto", "text_encoder": "(by name)",
            "offload": "none", "vae_tiling": False,
        },
    }  # fmt: skip
    graph = {
        "m": model,
        "p": {"class_type": "ZitPreload", "inputs": {"zit_model": ["m", 0]}},
        "u": {"class_type": "ZitUnload", "inputs": {"after": ["p", 1], "zit_model": ["m", 0]}},
    }
    ran = host.run(graph)
    assert ran.ending == "execution_success", ran.error
    assert ran.texts("p") == ["the weights are here"]
    assert ran.texts("u") == ["1 model unloaded"]
    again = host.run({"u": {"class_type": "ZitUnload", "inputs": {}}})
    assert again.texts("u") == ["0 models unloaded"]


def test_what_a_render_imports_and_sets_does_not_spoil_what_other_nodes_keep(host, tiny_model):
    graph = cached(slow(0.03125))
    assert status(run(host, graph)).startswith("miss")
    render(host, tiny_model, prompt="in between")
    assert status(run_again(host, graph)).startswith("hit")
