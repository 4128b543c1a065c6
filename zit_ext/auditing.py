"""Renders stored answers again and compares the pixels: does the second law hold on this machine?

The store keeps digests of files and not their places. Weights are looked for where the entry says its
model came from, and other files where their digests were seen last; what is not found, or is not what
it was, cannot be audited, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from .errors import ModelError, PluginError, RequestError, ZitError
from .fingerprint import differing_fields, fingerprint
from .questions import environment_digest, environment_name, is_unread
from .records import (
    CacheMode,
    Entry,
    FieldValue,
    FileRef,
    LoraRef,
    ModelRef,
    Request,
    Result,
    SchedulerRef,
)
from .results.details import EntryDetails
from .runtime import Runtime
from .settings import Settings

FindSource = Callable[[str], "str | None"]
"""Where a file with this digest was seen last."""


class Finding(str, Enum):
    """What an audit of one entry came to."""

    SAME = "same"
    DIFFERS = "differs"
    NOT_AUDITABLE = "not auditable"


@dataclass(frozen=True, slots=True)
class Audit:
    """One entry, rendered again."""

    entry: Entry
    finding: Finding
    words: str = ""


def neutral(settings: Settings) -> Settings:
    """Return settings that add nothing to a request: a stored one says everything itself."""
    return replace(
        settings, dtype="auto", attention="auto", offload="none", vae_tiling=False, namespace="default",
        long_prompts="cut", preload=(),
    )  # fmt: skip


class NotAuditableError(LookupError):
    """What the entry was made from is not known or not the same any more. The message says what."""


def audit(details: EntryDetails, runtime: Runtime, find_source: FindSource) -> Audit:
    """Render the entry's request again, and compare. The runtime's settings are `neutral`. Blocks."""
    entry = details.entry
    try:
        request = request_again(details, runtime, find_source)
    except (NotAuditableError, ModelError, PluginError, RequestError) as error:
        return Audit(entry, Finding.NOT_AUDITABLE, str(error))
    try:
        result = runtime.generate_blocking(request)
    except ZitError as error:
        return Audit(entry, Finding.NOT_AUDITABLE, f"the render failed: {error}")
    return judged(entry, result)


def request_again(details: EntryDetails, runtime: Runtime, find_source: FindSource) -> Request:
    """Return the request that renders the entry again under this runtime's settings, past the cache. Blocks.

    Raises NotAuditableError, and what the files, the plugins and the door raise.
    """
    entry, stored = details.entry, details.fields
    if details.redacted:
        raise NotAuditableError("its prompt is not stored")
    try:
        request = request_of_fields(stored, entry.model, find_source)
    except (KeyError, TypeError, ValueError):
        # What a host's own nodes made, or another version: its fields are not those of a request.
        raise NotAuditableError("it was not made from a request that can be asked again here") from None
    # What the settings add, they would add to the render too.
    changed = _changed(runtime.engine.at_the_door(request), stored, entry.key, runtime)
    if changed:
        raise NotAuditableError(changed)
    return replace(request, cache=CacheMode.AUDIT)


def judged(entry: Entry, result: Result) -> Audit:
    """Return what the new render says of the entry."""
    if result.digest == entry.content_digest:
        return Audit(entry, Finding.SAME)
    return Audit(entry, Finding.DIFFERS, f"rendered again, its digest is {result.digest}")


def request_of_fields(stored: Mapping[str, FieldValue], model: str, find_source: FindSource) -> Request:
    """Return the request that has these fields. Raises NotAuditableError.

    Fields of plugins stay out: the plugins give them again.
    """
    made: dict[str, Any] = {each.name: stored[each.name] for each in fields(Request) if each.name in stored}
    if made.get("image") is not None:
        raise NotAuditableError("the picture that it started from is not stored")
    made["extra"] = {
        name.removeprefix("extra."): value for name, value in stored.items() if name.startswith("extra.")
    }
    made["model"] = _model(made["model"], model, find_source)
    made["loras"] = tuple(
        LoraRef(source=_source("LoRA", each["digest"], find_source), strength=each["strength"])
        for each in made["loras"]
    )
    made["scheduler"] = SchedulerRef(**made["scheduler"])
    if made.get("sigmas") is not None:
        made["sigmas"] = tuple(made["sigmas"])
    return Request(**made)


def _model(stored: Mapping[str, Any], source: str, find_source: FindSource) -> ModelRef:
    made = {name: value for name, value in stored.items() if name != "digest"}
    for part, words in (("text_encoder", "text encoder"), ("vae", "VAE"), ("tokenizer", "tokenizer")):
        if made.get(part) is not None:
            made[part] = FileRef(source=_source(words, made[part]["digest"], find_source))
    return ModelRef(**made, source=source)


def _source(words: str, digest: str, find_source: FindSource) -> str:
    source = find_source(digest)
    if source is None:
        raise NotAuditableError(f"its {words} {digest[:12]} is not known on this machine any more")
    return source


def _changed(request: Request, stored: Mapping[str, FieldValue], key: str, runtime: Runtime) -> str | None:
    """Return what is not any more as it was when the entry was made, or None."""
    resolved: Request | None = runtime.files.resolve(request)
    if resolved is not None and is_unread(resolved):
        resolved = runtime.files.complete(resolved, lambda: False)
    if resolved is None:
        return "the files of the weights change just now"
    now = dict(runtime.hooks.fingerprint_fields(resolved))
    if stored["environment"] == "portable":
        now["environment"] = "portable"
    else:
        record = runtime.environments.find(environment_name(resolved))
        now["environment"] = None if record is None else environment_digest(record)
    if fingerprint(now).key == key:
        return None
    return "changed since: " + (", ".join(differing_fields(now, stored)) or "the key's schema")
