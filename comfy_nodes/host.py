"""All that we use of ComfyUI, in one place. When ComfyUI changes, this is the file to mend.

Which versions it was seen with: docs/hosts.md.
"""

from __future__ import annotations

import functools
import inspect
import ipaddress
import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import execution
import folder_paths
import nodes
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from comfy_api.internal import _ComfyNodeInternal, first_real_override
from comfy_api.v0_0_2 import ComfyExtension, io
from comfy_execution.progress import ProgressHandler, get_progress_state
from PIL import Image

from zit_ext import Settings, hookimpl
from zit_ext.models.installation import installation
from zit_ext.models.torch_environment import live_flags
from zit_ext.models.weight_files import SeenFile
from zit_ext.runtime import Runtime
from zit_ext.shared_runtime import shared

from .arguments import arguments_that_count
from .graph import NodeClass, NotKeyableError
from .memory_troubles import MemoryTroubles
from .naming import Folders
from .patches import patching_packs
from .places import Places
from .work import Work

__all__ = [
    "ComfyExtension",
    "ModelPatcher",
    "add_route",
    "are_older",
    "caching",
    "changed",
    "dequeue",
    "engine",
    "enqueue",
    "environment",
    "file_mark",
    "folders",
    "held_since_memory_ran_out",
    "interrupted",
    "io",
    "is_local",
    "is_output_node",
    "is_queued",
    "model_management",
    "model_names",
    "model_path",
    "node_class",
    "own_files",
    "pack_files",
    "patched_by",
    "preview",
    "progress_bar",
    "raise_if_interrupted",
    "running_graph",
    "schema",
    "show_text",
    "tell_page",
    "torch",
    "version",
    "watch",
]

_PLACES = Places(
    time.time(),
    [
        folder_paths.__file__,
        *(place for kind in folder_paths.folder_names_and_paths.values() for place in kind[0]),
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
    ],
)
"""No prompt ran before: what was on disk by then is what the host reads."""


interrupted = model_management.processing_interrupted
raise_if_interrupted = model_management.throw_exception_if_processing_interrupted
progress_bar = comfy.utils.ProgressBar


def schema(**described: Any) -> io.Schema:
    """Return a node's schema, without what this version of ComfyUI does not know (search aliases)."""
    known = inspect.signature(io.Schema).parameters
    return io.Schema(**{name: value for name, value in described.items() if name in known})


def model_names(kind: str) -> list[str]:
    """Return the files that the host knows of a kind, as its own loaders offer them."""
    return list(folder_paths.get_filename_list(kind))


def model_path(kind: str, name: str) -> str:
    """Return where such a file is. Raises FileNotFoundError."""
    return str(folder_paths.get_full_path_or_raise(kind, name))


def file_mark(kind: str, name: str) -> str:
    """Return what changes when such a file is written or replaced; empty if there is none."""
    path = folder_paths.get_full_path(kind, name)
    if path is None:
        return ""
    found = Path(path).stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns};"


def preview(png: bytes) -> tuple[str, Any, None]:
    """Return a picture as the host's progress bar takes it."""
    return "PNG", Image.open(BytesIO(png)), None


class _Watch(ProgressHandler):
    """Hears which nodes run in one prompt."""

    def __init__(self) -> None:
        super().__init__("zit_ext")
        self.work = Work(time.perf_counter)
        self.marks: dict[str, Any] = {}
        """What IS_CHANGED of the host's own nodes came to, by node id."""
        self.patched_by: tuple[str, ...] | None = None

    def start_handler(self, node_id: str, state: Any, prompt_id: str) -> None:
        self.work.began(node_id)

    def finish_handler(self, node_id: str, state: Any, prompt_id: str) -> None:
        self.work.ended(node_id)


def watch() -> Work:
    """Return the work of the prompt that runs now; nodes that run from now on are written into it."""
    return _watch().work


def _watch() -> _Watch:
    registry = get_progress_state()
    known = registry.handlers.get("zit_ext")
    if known is None:
        known = _Watch()
        registry.register_handler(known)
    return known


def _ooms() -> int:
    """Return how often torch had no memory left on a GPU."""
    if not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.memory_stats(each).get("num_ooms", 0) for each in range(torch.cuda.device_count()))


_TROUBLES = MemoryTroubles(time.perf_counter, _ooms)
logging.getLogger().addHandler(_TROUBLES)


def held_since_memory_ran_out(classes: Iterable[tuple[str, str]], ran: Mapping[str, float]) -> str | None:
    """Return the class of a node that may have computed its numbers while memory ran out; None if none may.

    `classes` are ids and classes of nodes, `ran` says when they began in the prompt that runs.
    """
    return _TROUBLES.touched(classes, ran, lambda name: nodes.NODE_CLASS_MAPPINGS[name].RETURN_TYPES)


def running_graph() -> Any:
    """Return the graph of the prompt that runs now."""
    return get_progress_state().dynprompt


def is_output_node(class_type: str) -> bool:
    return bool(getattr(nodes.NODE_CLASS_MAPPINGS[class_type], "OUTPUT_NODE", False))


def caching() -> tuple[Any, Any] | None:
    """Return the host's kinds for cache providers, and how one is registered; None before 0.18."""
    try:
        from comfy_api.latest import Caching, ComfyAPI
    except ImportError:
        return None
    return Caching, ComfyAPI().caching.register_provider


def _server() -> Any:
    from server import PromptServer

    return PromptServer.instance


def add_route(path: str, answer: Callable[[Any], Awaitable[Any]]) -> None:
    """Have the host's server answer under a path (aiohttp's spelling), whatever the method."""
    _server().routes.route("*", path)(answer)


def is_local() -> bool:
    """Say whether only this machine can reach the host's server."""
    return all(_is_loopback(each.strip()) for each in str(args.listen).split(","))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def tell_page(event: str, told: Mapping[str, Any]) -> None:
    """Send an event to the page whose prompt runs now, over the host's websocket. From any thread."""
    server = _server()
    if server is not None and server.client_id is not None:
        server.send_sync(event, {**told, "prompt_id": server.last_prompt_id}, server.client_id)


def show_text(node_id: str, text: str) -> None:
    """Write a text on a node, on the page whose prompt runs now; it stays there until the next one."""
    server = _server()
    if server is not None and server.client_id is not None:
        server.send_progress_text(text, node_id, server.client_id)


def enqueue(graph: Mapping[str, Any], outputs: Sequence[str]) -> str:
    """Put a graph that is known to be right into the host's queue; return its id. On the server's loop."""
    server, prompt_id = _server(), str(uuid.uuid4())
    number = server.number
    server.number += 1
    more = {"create_time": int(time.time() * 1000)}
    server.prompt_queue.put((number, prompt_id, dict(graph), more, list(outputs), {}))
    return prompt_id


def is_queued(prompt_id: str) -> bool:
    """Say whether a prompt waits or runs."""
    running, waiting = _server().prompt_queue.get_current_queue_volatile()  # the other copies every graph
    return any(each[1] == prompt_id for each in (*running, *waiting))


def is_busy() -> bool:
    """Say whether any prompt waits or runs."""
    return any(_server().prompt_queue.get_current_queue_volatile())


def dequeue(prompt_id: str) -> None:
    """Take a prompt out of the queue, if it still waits there."""
    _server().prompt_queue.delete_queue_item(lambda each: each[1] == prompt_id)


@functools.lru_cache(maxsize=4096)
def _known_class(node: type) -> NodeClass:
    hidden = node.INPUT_TYPES().get("hidden") or {}
    asks = frozenset(str(each[0] if isinstance(each, (tuple, list)) else each) for each in hidden.values())
    module = getattr(node, "RELATIVE_PYTHON_MODULE", None)
    if module is None:
        own = node.__module__ == "nodes"
        return NodeClass(pack="" if own else node.__module__.partition(".")[0], asks=asks)
    kind, _, name = module.partition(".")
    if kind == "custom_nodes":
        return NodeClass(pack=name, asks=asks, is_ours=node.__module__.partition(".")[0] == __package__)
    return NodeClass(asks=asks, remote=kind != "comfy_extras")


def node_class(class_type: str) -> NodeClass:
    """Return where a class of nodes comes from, and what it asks for."""
    return _known_class(nodes.NODE_CLASS_MAPPINGS[class_type])


async def changed(node_id: str, node: Mapping[str, Any]) -> Any:
    """Return what IS_CHANGED of this node comes to, computed as the host computes it.

    The host keeps it at the node, but not with every kind of its own cache. And it takes one from there
    that came with the prompt: what it writes into pictures has it, and it may be of another day. So it is
    asked again, and raises NotKeyableError if the two differ. Nodes of packs are asked each time.
    """
    kind = nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
    if issubclass(kind, _ComfyNodeInternal):
        name = "fingerprint_inputs" if first_real_override(kind, "fingerprint_inputs") else None
    else:
        name = "IS_CHANGED" if hasattr(kind, "IS_CHANGED") else None
    if name is None:
        return None
    marks = {} if node_class(node["class_type"]).pack else _watch().marks
    if node_id not in marks:
        marks[node_id] = await _mark(kind, name, node_id, node)
    now = marks[node_id]
    given = node.get("is_changed", now)
    if _is_restless(now) or _is_restless(given):
        return float("nan")
    if given != now:
        raise NotKeyableError(f"{node['class_type']} no longer says of its changes what the prompt says")
    return now


async def _mark(kind: Any, name: str, node_id: str, node: Mapping[str, Any]) -> Any:
    try:
        given = execution.get_input_data(node["inputs"], kind, node_id, None)[0]
        as_list = getattr(kind, "INPUT_IS_LIST", False)
        answer = getattr(kind, name)(**{each: v if as_list else v[0] for each, v in given.items()})
        return [await answer if inspect.isawaitable(answer) else answer]
    except Exception:  # as the host does: a node that cannot say is never the same twice
        return float("nan")


def _is_restless(mark: Any) -> bool:
    """Say whether a change mark is not even equal to itself (NaN)."""
    return any(each != each for each in (mark if isinstance(mark, list) else [mark]))


def folders() -> Folders:
    """Return where the host looks for files."""
    kinds = {
        kind: (tuple(places), frozenset(str(each).lower() for each in endings))
        for kind, (places, endings, *_) in folder_paths.folder_names_and_paths.items()
        if kind not in ("custom_nodes", "datasets")
    }
    return Folders(
        kinds,
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )


def are_older(files: Iterable[SeenFile]) -> bool:
    """Say whether these files are as they were when the host started."""
    return _PLACES.are_older(files)


def version() -> str:
    """Return the host's version, as it says it."""
    return str(getattr(sys.modules.get("comfyui_version"), "__version__", "unknown"))


def own_files() -> Sequence[Path]:
    """Return the host's own code, files and folders."""
    home = Path(folder_paths.__file__).parent
    names = (
        "comfy", "comfy_extras", "comfy_execution", "comfy_api", "nodes.py", "node_helpers.py",
        "folder_paths.py", "latent_preview.py", "execution.py",
    )  # fmt: skip
    return [home / name for name in names if (home / name).exists()]


def pack_files(pack: str) -> Sequence[Path]:
    """Return where a pack of custom nodes lies."""
    for place in folder_paths.get_folder_paths("custom_nodes"):
        for path in (Path(place) / pack, Path(place) / f"{pack}.py"):
            if path.exists():
                return [path]
    return []


def patched_by(*, afresh: bool) -> tuple[str, ...]:
    """Return the packs whose code stands in the place of the host's own; looked for once in each prompt."""
    watch = _watch()
    if watch.patched_by is None or afresh:
        watch.patched_by = patching_packs(dict(sys.modules), folder_paths.get_folder_paths("custom_nodes"))
    return watch.patched_by


def environment() -> dict[str, Any]:
    """Return what the host runs on, as far as it changes numbers."""
    return {
        "installation": installation("comfyui"),
        "flags": live_flags(),
        "arguments": arguments_that_count(vars(args)),
        "device": str(model_management.get_torch_device()),
        "memory_mode": str(model_management.vram_state),
    }


class HostPlugin:
    """What the host does for us: it puts its own models aside before ours move to the GPU."""

    @hookimpl
    def zit_make_room(self, bytes_needed: int, device: str) -> int:
        from .memory import Manners

        if "manners" not in _STATE:
            _STATE["manners"] = Manners()
        return _STATE["manners"].make_room(_STATE["runtime"].renderer, bytes_needed, device)


_STATE: dict[str, Any] = {}


def engine() -> Runtime:
    """Return this process's engine. Its weights stay near the GPU until the host asks for the room."""
    running = _STATE.get("runtime")
    if running is not None and running.is_open:
        return running
    settings = Settings.load()
    if "model_dirs" not in settings.origin:
        settings = settings.with_values({"model_dirs": [folder_paths.models_dir]}, "ComfyUI")
    _STATE["runtime"] = shared({"comfyui": HostPlugin()}, settings, label="comfyui")
    return _STATE["runtime"]
