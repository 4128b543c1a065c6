"""What a graph computes, as fields of a key. Pure: what it has to know of the host is handed in.

Nodes are numbered in the order in which they are reached, so other ids are the same graph. Literals
keep their type: a node may well tell 8 from 8.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_NODES = 2000
MAX_DEPTH = 400

TRANSPARENT: Mapping[str, str] = {"ZitCacheAny": "value"}
"""Nodes whose first output is one of their inputs, unchanged: looked through."""

READS_AFRESH = frozenset(
    {
        "CheckpointLoader", "CheckpointLoaderSimple", "unCLIPCheckpointLoader", "UNETLoader", "VAELoader",
        "CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "QuadrupleCLIPLoader", "CLIPVisionLoader",
        "ControlNetLoader", "DiffControlNetLoader", "StyleModelLoader", "UpscaleModelLoader",
        "GLIGENLoader", "ModelPatchLoader", "AudioEncoderLoader", "LoadVideo", "CLIPTextEncode",
    }
)  # fmt: skip
"""Core nodes that read their file whenever they run, and remember nothing of it (read in 0.3.75, 0.33)."""

CHECKS_CONTENT = frozenset({"LoadImage", "LoadImageMask", "LoadImageOutput", "LoadLatent", "LoadAudio"})
"""Core nodes that the host runs again whenever the bytes of their file change (read in 0.3.75, 0.33)."""


class NotKeyableError(Exception):
    """What the graph computes cannot be told from the graph; the words say why."""


@dataclass(frozen=True)
class NodeClass:
    """What there is to know of a class of nodes."""

    pack: str = ""
    """The pack it comes from; empty for ComfyUI's own."""
    asks: frozenset[str] = frozenset()
    """What it is told beside its inputs, by the host's names: UNIQUE_ID, PROMPT, ..."""
    is_ours: bool = False
    """It belongs to this pack."""
    remote: bool = False
    """It asks a service on the network."""


@dataclass(frozen=True)
class NamedFile:
    """A file that a node names in one of its inputs."""

    node: str
    """The node's id, in this run of the host."""
    index: int
    """The node's number in the key."""
    input: str
    path: Path


@dataclass(frozen=True)
class Described:
    """A graph as fields, and the files whose bytes belong to them."""

    nodes: tuple[Mapping[str, Any], ...]
    start: tuple[int, int]
    files: tuple[NamedFile, ...]
    packs: tuple[str, ...]
    texts: tuple[str, ...]
    """What people wrote, for people."""
    classes: tuple[tuple[str, str], ...]
    """Id and class of each node."""
    signatures: Mapping[str, str]
    """Of each node by id: its class and literals, as one text. Without its files' bytes."""


def is_link(value: Any) -> bool:
    """Say whether an input comes from another node. As the host says it (comfy_execution.graph_utils)."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
    )


def upstream(node_of: Callable[[str], Mapping[str, Any]], link: list[Any]) -> list[str]:
    """Return the ids of everything that a link depends on, in the order of the key.

    Raises NotKeyableError for more nodes than any graph has, or a graph that goes round in circles.
    """
    order: dict[str, None] = {}
    _reach(node_of, _through(node_of, link)[0], order, ())
    return list(order)


def describe(
    link: list[Any],
    *,
    node_of: Callable[[str], Mapping[str, Any]],
    class_of: Callable[[str], NodeClass],
    changed: Mapping[str, Any],
    files_of: Callable[[str, Mapping[str, Any]], Iterator[tuple[str, Path]]],
    trusted: frozenset[str],
) -> Described:
    """Return what this link computes.

    `changed` is what the host's IS_CHANGED came to, by node id. Raises NotKeyableError.
    """
    order = upstream(node_of, link)
    number = {node_id: index for index, node_id in enumerate(order)}
    nodes: list[Mapping[str, Any]] = []
    files: list[NamedFile] = []
    packs: dict[str, None] = {}
    texts: list[str] = []
    signatures: dict[str, str] = {}
    for node_id in order:
        node = node_of(node_id)
        name, inputs = node["class_type"], node["inputs"]
        known = class_of(name)
        _must_be_trusted(name, known, trusted)
        if known.pack:
            packs[known.pack] = None
        literals: dict[str, Any] = {}
        spelled: dict[str, Any] = {}
        for each, value in inputs.items():
            if is_link(value):
                spelled[each] = ["link", *_place(node_of, number, value)]
            else:
                literals[each] = value
                spelled[each] = _spelled(value, name)
        fields: dict[str, Any] = {
            "class": name,
            "inputs": spelled,
            "changed": _spelled(changed.get(node_id), name),
        }
        if known.pack and "UNIQUE_ID" in known.asks:
            fields["id"] = node_id  # it may do with it what it likes
        nodes.append(fields)
        signatures[node_id] = repr((name, sorted((each, repr(literals[each])) for each in literals)))
        files += [NamedFile(node_id, number[node_id], each, path) for each, path in files_of(name, literals)]
        texts += [literals[each] for each in ("text", "prompt") if _says(literals.get(each))]
    start, slot = _place(node_of, number, link)
    return Described(
        tuple(nodes),
        (start, slot),
        tuple(files),
        tuple(packs),
        tuple(texts),
        tuple((node_id, node_of(node_id)["class_type"]) for node_id in order),
        signatures,
    )


def _must_be_trusted(name: str, known: NodeClass, trusted: frozenset[str]) -> None:
    if known.remote:
        raise NotKeyableError(f"{name} asks a service on the network")
    if "Folder" in name or "Dataset" in name:
        raise NotKeyableError(f"{name} reads a folder")
    if known.is_ours:
        # Its model may be that of the settings, or an id: no file that its inputs name.
        raise NotKeyableError(f"{name} is above, which keeps its own results")
    if not known.pack:
        return
    if known.pack not in trusted:
        raise NotKeyableError(
            f"{name} belongs to the pack {known.pack}, which is not known to name every file that it reads; "
            f'to trust it, add "{known.pack}" to the setting trusted_packs and start ComfyUI again'
        )
    if told := known.asks & {"PROMPT", "DYNPROMPT", "EXTRA_PNGINFO"}:
        raise NotKeyableError(f"{name} reads the whole workflow ({', '.join(sorted(told))})")


def _reach(
    node_of: Callable[[str], Mapping[str, Any]], node_id: str, order: dict[str, None], above: tuple[str, ...]
) -> None:
    if node_id in above:
        raise NotKeyableError("the graph goes round in circles")
    if node_id in order:
        return
    if len(order) >= MAX_NODES or len(above) >= MAX_DEPTH:
        raise NotKeyableError("the graph above is too large")
    order[node_id] = None
    inputs = node_of(node_id)["inputs"]
    links = {name: value for name, value in inputs.items() if is_link(value)}
    for name in sorted(links):
        _reach(node_of, _through(node_of, links[name])[0], order, (*above, node_id))


def _through(node_of: Callable[[str], Mapping[str, Any]], link: list[Any]) -> tuple[str, int]:
    """Return where a link really comes from: a cache hands on what it is given."""
    for _ in range(MAX_DEPTH):
        node = node_of(link[0])
        value = node["inputs"].get(TRANSPARENT.get(node["class_type"], ""))
        if value is None:
            return link[0], int(link[1])
        if int(link[1]) != 0 or not is_link(value):
            raise NotKeyableError("the status of a Cache (any) differs from run to run")
        link = value
    raise NotKeyableError("the graph above is too large")


def _place(
    node_of: Callable[[str], Mapping[str, Any]], number: Mapping[str, int], link: list[Any]
) -> tuple[int, int]:
    node_id, slot = _through(node_of, link)
    return number[node_id], slot


def _says(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _spelled(value: Any, where: str) -> Any:
    """Return a literal so that its type cannot be mistaken."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return ["int", value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotKeyableError(f"{where} says that it is never the same twice (NaN)")
        return ["float", value.hex()]
    if isinstance(value, bytes):
        return ["bytes", value]
    if isinstance(value, (list, tuple)):
        return ["list", [_spelled(each, where) for each in value]]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return ["map", {name: _spelled(each, where) for name, each in value.items()}]
    raise NotKeyableError(f"{where} has an input or a change mark that is a {type(value).__name__}")
