"""Which files the inputs of a node name. Looks at the disk, knows of the host only where its folders are.

Every text is taken for a name: one that is no file costs a few microseconds, one that was overlooked
would cost a stale answer.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .graph import NotKeyableError

_LONGEST_NAME = 1000
_EMBEDDING = re.compile(r"embedding:\s*(\S*)")
_LORA_TAG = re.compile(r"<(?:lora|lyco|hypernet):([^:>]+)")
_EMBEDDING_ENDS = ("", ".safetensors", ".pt", ".bin")  # as comfy.sd1_clip.load_embed tries them
_PLACES = re.compile(r"\s?\[(input|output|temp)\]$")


@dataclass(frozen=True)
class Folders:
    """Where the host looks for files."""

    models: Mapping[str, tuple[Sequence[str], frozenset[str]]]
    """By kind: folders, and the endings of names that count; "folder" stands for whole folders."""
    input: str
    output: str
    temp: str

    @functools.cached_property
    def by_ending(self) -> Mapping[str, Sequence[str]]:
        """Where files with an ending may lie, in the host's order."""
        found: dict[str, list[str]] = {}
        for places, endings in self.models.values():
            for ending in endings:
                found.setdefault(ending, []).extend(places)
        return found

    @functools.cached_property
    def of_folders(self) -> Sequence[tuple[Sequence[str], frozenset[str]]]:
        """The kinds of which a whole folder may be named."""
        return [kind for kind in self.models.values() if "folder" in kind[1]]


def named_files(class_type: str, literals: Mapping[str, Any], folders: Folders) -> Iterator[tuple[str, Path]]:
    """Yield input name and path of each file that these inputs name. Raises NotKeyableError for a folder."""
    for name in sorted(literals):
        seen: set[Path] = set()
        for text in _texts(literals[name]):
            for path in _named_by(class_type, text, folders):
                if path not in seen:
                    seen.add(path)
                    yield name, path


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _named_by(class_type: str, text: str, folders: Folders) -> Iterator[Path]:
    if "embedding:" in text:
        for word in _EMBEDDING.findall(text):
            yield from _embedding(class_type, word, folders)
    if "<" in text:
        for name in _LORA_TAG.findall(text):
            yield from _tagged(name, folders)
    if "\n" in text:
        for line in text.splitlines():
            yield from _in_lines(line.strip(), folders)
        return
    if not text.strip("./ ") or len(text) > _LONGEST_NAME or "\0" in text:
        return
    if text.startswith(("http://", "https://")):
        raise NotKeyableError(f"{class_type} names an address on the network")
    ending = os.path.splitext(text)[1].lower()  # noqa: PTH122 - once for every text of a graph
    if ending in folders.by_ending:
        inside = os.path.relpath(os.path.join("/", text), "/") if ending else text  # noqa: PTH118 - as the host does
        yield from _in(folders.by_ending[ending], inside)
    for places, endings in folders.of_folders:
        if ending not in endings and any(os.path.isdir(os.path.join(each, text)) for each in places):  # noqa: PTH112, PTH118
            raise NotKeyableError(f"{class_type} names the folder {text}")
    if class_type == "VAELoader" and not ending:
        yield from _starting_with(text, folders)
    yield from _loose(class_type, text, folders)


def _in_lines(line: str, folders: Folders) -> Iterator[Path]:
    """Yield the model files that a line of a longer text names: packs have lists of them, prompts do not."""
    ending = os.path.splitext(line)[1].lower()  # noqa: PTH122
    if ending in folders.by_ending and len(line) <= _LONGEST_NAME:
        yield from _in(folders.by_ending[ending], os.path.relpath(os.path.join("/", line), "/"))  # noqa: PTH118


def _in(places: Sequence[str], inside: str) -> Iterator[Path]:
    for place in places:
        path = os.path.join(place, inside)  # noqa: PTH118
        if _is_there(path) and os.path.isfile(path):  # noqa: PTH113
            yield Path(path)


def _is_there(path: str) -> bool:
    """Say whether there is anything of this name: most texts name nothing, and to hear that is cheap here."""
    try:
        return os.access(path, os.F_OK)
    except ValueError:
        return False


def _embedding(class_type: str, word: str, folders: Folders) -> Iterator[Path]:
    """Yield each file that the host might take this for; it looks into all folders below.

    Raises NotKeyableError if there is none: the name may be put together while the graph runs.
    """
    places, _ = folders.models.get("embeddings", ((), frozenset()))
    below = [folder for place in places for folder, _, _ in os.walk(place, followlinks=True)]
    found = dict.fromkeys(
        path for name in _spellings(word) for end in _EMBEDDING_ENDS for path in _in(below, name + end)
    )
    if not found:
        raise NotKeyableError(f"{class_type} names an embedding that was not found: embedding:{word}")
    yield from found


def _spellings(word: str) -> Iterator[str]:
    """Yield what the name may be: weights, brackets and commas may be its own or those of the prompt."""
    plain = re.sub(r"\\([()])", r"\1", word)
    yield from dict.fromkeys(
        name
        for whole in (
            plain,
            re.split(r"[<\[]", plain, maxsplit=1)[0],
            re.split(r"[():,<\[]", plain, maxsplit=1)[0],
        )
        for name in (whole, whole.strip(","), whole.rstrip(",)"), whole.rpartition(":")[0])
        if name.strip("./")
    )


def _tagged(name: str, folders: Folders) -> Iterator[Path]:
    """Yield each file that a tag such as <lora:name:1> may mean. Packs read these tags, the host does not."""
    meant = os.path.basename(name.strip().replace("\\", "/")).lower()  # noqa: PTH119
    places = [place for kind in ("loras", "hypernetworks") for place in folders.models.get(kind, ((),))[0]]
    for place in places:
        for folder, _, files in os.walk(place, followlinks=True):
            for file in sorted(files):
                if meant in (file.lower(), os.path.splitext(file)[0].lower()):  # noqa: PTH122
                    yield Path(folder, file)


def _starting_with(text: str, folders: Folders) -> Iterator[Path]:
    """Yield the files of a small VAE such as taesd, which is named by their beginning."""
    places, _ = folders.models.get("vae_approx", ((), frozenset()))
    for place in places:
        if Path(place).is_dir():
            yield from sorted(each for each in Path(place).iterdir() if each.name.startswith(text))


def _loose(class_type: str, text: str, folders: Folders) -> Iterator[Path]:
    """Yield what a name means outside of the model folders: an upload, an output, a path."""
    marked = _PLACES.search(text) if text.endswith("]") else None
    name = text[: marked.start()] if marked else text
    place = getattr(folders, marked[1]) if marked else folders.input
    path = os.path.join(place, name)  # noqa: PTH118 - an absolute name stays as it is
    if not _is_there(path):
        return
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return
    if stat.S_ISREG(mode):
        yield Path(path)
    elif stat.S_ISDIR(mode):
        raise NotKeyableError(f"{class_type} names the folder {text}")
