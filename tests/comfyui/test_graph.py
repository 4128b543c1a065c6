"""What a graph computes, without a host: equal keys for equal work, other keys for any doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfy_nodes.graph import Described, NodeClass, NotKeyableError, describe, upstream
from comfy_nodes.naming import Folders, named_files
from zit_ext.fingerprint import canonical_bytes

Graph = dict[str, dict[str, Any]]

PLAIN: Graph = {
    "1": {"class_type": "Load", "inputs": {"name": "a"}},
    "2": {"class_type": "Sample", "inputs": {"model": ["1", 0], "seed": 1, "cfg": 1.0}},
    "3": {"class_type": "Decode", "inputs": {"samples": ["2", 0], "vae": ["1", 2]}},
}


def described(graph: Graph, link: list[Any] | None = None, **known: Any) -> Described:
    options: dict[str, Any] = {
        "class_of": lambda name: NodeClass(),
        "changed": {},
        "files_of": lambda name, literals: iter(()),
        "trusted": frozenset(),
        **known,
    }
    return describe(link or ["3", 0], node_of=graph.__getitem__, **options)


def key(graph: Graph, link: list[Any] | None = None, **known: Any) -> bytes:
    told = described(graph, link, **known)
    return canonical_bytes([list(told.nodes), list(told.start)])


def changed(graph: Graph, node: str, **inputs: Any) -> Graph:
    return {**graph, node: {**graph[node], "inputs": {**graph[node]["inputs"], **inputs}}}


def test_other_ids_in_another_order_are_the_same_graph():
    other = {
        "9": {"class_type": "Decode", "inputs": {"vae": ["x:1", 2], "samples": ["5", 0]}},
        "5": {"class_type": "Sample", "inputs": {"cfg": 1.0, "seed": 1, "model": ["x:1", 0]}},
        "x:1": {"class_type": "Load", "inputs": {"name": "a"}},
    }
    assert key(PLAIN) == key(other, ["9", 0])


@pytest.mark.parametrize(
    "other",
    [
        changed(PLAIN, "2", seed=2),
        changed(PLAIN, "2", seed=1.0),
        changed(PLAIN, "2", seed=True),
        changed(PLAIN, "2", cfg=1),
        changed(PLAIN, "2", seed="1"),
        changed(PLAIN, "2", more=None),
        changed(PLAIN, "3", vae=["1", 1]),
        changed(PLAIN, "3", vae=["2", 2]),
        {**PLAIN, "2": {**PLAIN["2"], "class_type": "Other"}},
    ],
)
def test_whatever_differs_is_another_graph(other):
    assert key(other) != key(PLAIN)


def test_another_output_and_another_change_mark_are_other_keys():
    assert key(PLAIN, ["3", 1]) != key(PLAIN)
    assert key(PLAIN, changed={"1": ["digest"]}) != key(PLAIN)


def test_two_loaders_alike_are_not_one_loader():
    twice = changed({**PLAIN, "4": PLAIN["1"]}, "3", vae=["4", 2])
    assert key(twice) != key(PLAIN)


def test_what_is_not_above_does_not_count():
    assert key({**PLAIN, "8": {"class_type": "Save", "inputs": {"images": ["3", 0]}}}) == key(PLAIN)


def test_a_cache_is_looked_through_and_its_status_is_not():
    graph = {**PLAIN, "m": {"class_type": "ZitCacheAny", "inputs": {"value": ["3", 0], "pin": True}}}
    assert key(graph, ["m", 0]) == key(PLAIN)
    with pytest.raises(NotKeyableError, match="status"):
        key(graph, ["m", 1])


@pytest.mark.parametrize("mark", [float("nan"), [float("nan")], {"a": float("inf")}, object()])
def test_what_is_never_the_same_twice_or_has_no_spelling_is_refused(mark):
    with pytest.raises(NotKeyableError):
        key(PLAIN, changed={"1": mark})


def test_a_graph_that_goes_round_in_circles_is_refused():
    with pytest.raises(NotKeyableError, match="circles"):
        key(changed(PLAIN, "1", back=["3", 0]))


def test_a_deep_graph_is_refused_and_not_a_crash():
    deep: Graph = {"0": {"class_type": "A", "inputs": {}}}
    for index in range(1, 1500):
        deep[str(index)] = {"class_type": "A", "inputs": {"a": [str(index - 1), 0]}}
    with pytest.raises(NotKeyableError, match="too large"):
        upstream(deep.__getitem__, ["1499", 0])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (NodeClass(pack="strangers"), 'add "strangers"'),
        (NodeClass(remote=True), "network"),
        (NodeClass(pack="friends", is_ours=True), "keeps its own results"),
        (NodeClass(pack="friends", asks=frozenset({"PROMPT"})), "whole workflow"),
    ],
)
def test_who_is_not_trusted_is_refused_with_the_remedy(kind, words):
    with pytest.raises(NotKeyableError, match=words):
        key(PLAIN, class_of=lambda name: kind, trusted=frozenset({"friends"}))


def test_a_trusted_node_that_knows_its_id_keeps_it_in_the_key():
    def of_pack(name: str) -> NodeClass:
        return NodeClass(pack="friends", asks=frozenset({"UNIQUE_ID"}) if name == "Load" else frozenset())

    told = described(PLAIN, class_of=of_pack, trusted=frozenset({"friends"}))
    assert [node.get("id") for node in told.nodes] == [None, None, "1"]
    assert told.packs == ("friends",)


# Files


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    for name in ("loras/style.safetensors", "embeddings/mood.pt", "embeddings/old/rain.pt",
                 "embeddings/fog(2).pt", "loras/people/Ann.safetensors",
                 "vae_approx/taesd_decoder.safetensors",
                 "vae_approx/taesd_encoder.safetensors", "input/a.png", "input/batch/b.png",
                 "output/old.png", "loose/x.bin", "other/style.safetensors"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    weights = frozenset({".safetensors", ".pt"})
    kinds = ("loras", "embeddings", "vae_approx")
    models = {kind: ((str(tmp_path / kind),), weights) for kind in kinds}
    models["loras"] = ((str(tmp_path / "loras"), str(tmp_path / "other")), weights)
    models["diffusers"] = ((str(tmp_path),), frozenset({"folder"}))
    return Folders(models, *(str(tmp_path / name) for name in ("input", "output", "temp")))


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("LoraLoader", "style.safetensors", ["loras/style.safetensors", "other/style.safetensors"]),
        ("LoraLoader", "missing.safetensors", []),
        ("CLIPTextEncode", "a cat, (embedding:mood:1.2)\nin the rain", ["embeddings/mood.pt"]),
        ("CLIPTextEncode", "a cat, embedding:rain, wet", ["embeddings/old/rain.pt"]),
        ("CLIPTextEncode", "embedding: old/rain", ["embeddings/old/rain.pt"]),
        ("CLIPTextEncode", "(embedding:mood.pt, embedding:rain:0.5)",
         ["embeddings/mood.pt", "embeddings/old/rain.pt"]),
        ("CLIPTextEncode", "embedding:fog\\(2\\) embedding:mood[a]",
         ["embeddings/fog(2).pt", "embeddings/mood.pt"]),
        ("Tags", "a face <lora:ann:0.8>\n<lora:style:1><lora:none:1>",
         ["loras/people/Ann.safetensors", "loras/style.safetensors", "other/style.safetensors"]),
        ("Stack", "# two of them\nstyle.safetensors\n  people/Ann.safetensors \nbatch\nhttps://example.org",
         ["loras/style.safetensors", "other/style.safetensors", "loras/people/Ann.safetensors"]),
        ("VAELoader", "taesd", [f"vae_approx/taesd_{half}.safetensors" for half in ("decoder", "encoder")]),
        ("LoadImage", "a.png", ["input/a.png"]),
        ("LoadImage", "old.png [output]", ["output/old.png"]),
        ("KSampler", "euler", []),
        ("CLIPTextEncode", "", []),
        ("CLIPTextEncode", "..", []),
    ],
)  # fmt: skip
def test_files_are_found_as_the_host_finds_them(folders, tmp_path, kind, text, found):
    paths = [path.relative_to(tmp_path).as_posix() for _, path in named_files(kind, {"x": text}, folders)]
    assert paths == found


def test_a_path_a_list_of_names_and_a_name_in_a_mapping_count_too(folders, tmp_path):
    loose = str(tmp_path / "loose" / "x.bin")
    inputs = {"path": loose, "files": ["a.png", {"deep": "style.safetensors"}]}
    found = [(name, path.name) for name, path in named_files("Any", inputs, folders)]
    assert found == [
        ("files", "a.png"), ("files", "style.safetensors"), ("files", "style.safetensors"), ("path", "x.bin")
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["batch", "https://example.org/a.png", "loose"])
def test_a_folder_or_an_address_is_refused(folders, text):
    with pytest.raises(NotKeyableError):
        list(named_files("Any", {"x": text}, folders))


@pytest.mark.parametrize("text", ["a {style} embedding:{name}", "embedding:", "embedding:gone"])
def test_an_embedding_whose_file_is_not_found_is_refused(folders, text):
    with pytest.raises(NotKeyableError, match="embedding"):
        list(named_files("StringReplace", {"x": text}, folders))
