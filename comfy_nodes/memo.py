"""The lazy memo: the value at the end of a graph, kept under what the graph computes.

Asks the host through `host`, the store through the runtime. Law 1 decides every doubt: what cannot be
keyed for certain passes through, and the words say why.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zit_ext import Settings
from zit_ext.codecs import SAFETENSORS, CodecError
from zit_ext.errors import ModelError, PluginError, StoreError
from zit_ext.fingerprint import fingerprint
from zit_ext.models.digests import Digests, digest_of
from zit_ext.models.weight_files import SeenFile, identity_of, look
from zit_ext.records import Encoded, Fingerprint, Outcome, Request, Result, ResultTier, Status
from zit_ext.runtime import Runtime
from zit_ext.workers import Worker

from . import host
from .graph import CHECKS_CONTENT, READS_AFRESH, Described, NotKeyableError, describe, upstream
from .naming import named_files
from .values import NotStorableError, decode_value, encode_value

log = logging.getLogger(__name__)

_END_SECONDS = 5.0

SCHEMA = 1
"""Raise it when equal fields would no longer mean equal values."""


@dataclass(frozen=True)
class Options:
    """What one Cache (any) node says."""

    mode: str = "use"
    ttl_hours: float = 0.0
    """0 is the setting."""
    pinned: bool = False
    namespace: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked of the store: fields without the bytes of files, and the files."""

    fields: Mapping[str, Any]
    seen: tuple[tuple[int, str, SeenFile], ...]
    """Node's number, input and file."""
    described: Described

    @property
    def nodes(self) -> list[str]:
        """The ids of the nodes whose work the answer stands for."""
        return [node_id for node_id, _ in self.described.classes]

    def same_as(self, other: Question) -> bool:
        return self.fields == other.fields and self.seen == other.seen


@dataclass(frozen=True)
class Answer:
    """A value from the store."""

    value: Any
    status: Status
    saved_seconds: float
    """Without what other hits of the prompt saved already."""


class Memo:
    """Values by graph. One for each engine; called on the host's thread."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings: Settings = runtime.settings
        self._digests = Digests(runtime.settings.cache_dir)
        self._worker = Worker("zit-memo")
        # The host ends without a word. This runs before what the runtime registered before it.
        atexit.register(self._worker.close, _END_SECONDS)
        self._read: dict[str, tuple[SeenFile, ...]] = {}
        """By a node's class and literals: the files as they were when the host read them last, before us."""
        self._code: dict[str, str] = {}
        self._host: str | None = None
        self._patches: dict[str, str] = {}
        self._environment: Mapping[str, Any] | None = None

    def is_of(self, runtime: Runtime) -> bool:
        return self._runtime is runtime

    async def ask(
        self,
        dynprompt: Any,
        link: list[Any],
        options: Options,
        *,
        all_outputs: bool = False,
        has_run: bool = False,
    ) -> Question:
        """Return what this link computes, or its whole node. Raises NotKeyableError, with the reason.

        Once it `has_run`, what the nodes may have changed meanwhile is looked at again.
        """
        if self._settings.disable_cache or self._settings.debug:
            raise NotKeyableError("the cache is switched off in the settings")
        try:
            order = upstream(dynprompt.get_node, link)
            host.held_since_memory_ran_out((), {})  # whatever ran out before shows now, and not later
            folders = host.folders()
            described = describe(
                link,
                node_of=dynprompt.get_node,
                class_of=host.node_class,
                changed={each: await host.changed(each, dynprompt.get_node(each)) for each in order},
                files_of=lambda name, literals: named_files(name, literals, folders),
                trusted=frozenset(self._settings.trusted_packs),
            )
            return self._question(described, options, all_outputs, host.patched_by(afresh=has_run))
        except NotKeyableError:
            raise
        except ModelError as error:  # a file or folder that cannot be read
            raise NotKeyableError(str(error)) from error
        except Exception as error:  # whatever it is, it costs a hit and not what the graph computes
            log.exception("zit_ext: the graph has no key")
            raise NotKeyableError(f"{type(error).__name__}: {error}") from error

    def _question(
        self, described: Described, options: Options, all_outputs: bool, patched_by: Sequence[str]
    ) -> Question:
        fields: dict[str, Any] = {
            "kind": "comfyui.node" if all_outputs else "comfyui.graph",
            "memo_schema": SCHEMA,
            "nodes": list(described.nodes),
            "start": list(described.start),
            "packs": {pack: self._pack_digest(pack) for pack in described.packs},
            "host": {"version": host.version(), "code": self._host_digest()},
            "namespace": options.namespace or self._settings.namespace,
        }
        if patched_by:
            fields["patched_by"] = {pack: self._patch_digest(pack) for pack in patched_by}
        if self._settings.consistency == "exact":
            fields["environment"] = self._unchanged_environment()
        seen = tuple((each.index, each.input, file) for each in described.files for file in look(each.path))
        return Question(fields, seen, described)

    def find(self, question: Question, saves: Callable[[float], float]) -> Answer | None:
        """Return what is kept for this, if the bytes of its files are known and an answer is there.

        `saves` is told what the answer cost, and says how much of that no other hit has saved already.
        """
        known = self._fingerprint(question)
        if known is None:
            return None
        started = time.perf_counter()
        try:
            found = self._runtime.store.find(known)
            if found is None:
                return None
            value = decode_value(found.content.data)
        except (StoreError, CodecError, MemoryError) as error:
            log.warning("zit_ext: %s; the graph runs instead", error)
            self._runtime.metrics.event(type(error).__name__)
            return None
        expires = found.entry.expires_at
        ttl = None if expires is None else max(0.0, expires - time.time())
        status = Status(outcome=Outcome.HIT, tier=found.tier, key=known.key, ttl=ttl)
        cost = found.entry.cost
        saved = saves(cost)
        if saved < cost:
            with contextlib.suppress(StoreError):  # it counts; the value is here
                self._runtime.store.note_saved_before(known.key, cost - saved)
        self._count(status, time.perf_counter() - started, saved)
        return Answer(value, status, saved)

    def keep(
        self,
        begun: Question,
        now: Question,
        value: Any,
        *,
        cost: float,
        ran: Mapping[str, float],
        options: Options,
    ) -> Status:
        """Offer a value that the host has just computed; return what became of it.

        `begun` is the question as it was asked before the graph ran, `ran` tells which nodes did run since.
        """
        status = Status(outcome=Outcome.MISS, detail=self._doubt(begun, now, ran))
        if status.detail is None:
            try:
                data = encode_value(value)
            except NotStorableError as error:
                status = replace(status, detail=f"not kept: {error}")
            except Exception as error:  # no memory for a copy, a device that fails: the value is computed
                log.exception("zit_ext: a value is handed on, but not kept")
                status = replace(status, detail=f"not kept: {type(error).__name__}: {error}")
            else:
                status = self._offer(now, data, cost, options)
        self._count(status, cost, 0.0)
        return status

    def bypassed(self, why: str, seconds: float) -> Status:
        """Count a value that passed through, and return its status."""
        status = Status(outcome=Outcome.BYPASS, detail=why, reason="comfyui")
        self._count(status, seconds, 0.0)
        return status

    # Keeping

    def _doubt(self, begun: Question, now: Question, ran: Mapping[str, float]) -> str | None:
        """Say why this value might come from other files than the key says.

        The host keeps what its nodes computed by the names of files, not by their bytes. So a file that
        changed while the host runs counts only if the node that reads it ran after the change.
        """
        if not begun.same_as(now):
            return "not kept: a file or the graph changed while it ran"
        if held := host.held_since_memory_ran_out(now.described.classes, ran):
            return (
                f"not kept: memory ran out, and ComfyUI may have computed {held} in another way (tiles, "
                "slices); computed once more, it is kept"
            )
        by_id = dict(now.described.classes)
        for named in now.described.files:
            files = tuple(
                file for index, name, file in now.seen if (index, name) == (named.index, named.input)
            )
            name = by_id[named.node]
            signature = now.described.signatures[named.node]
            if name in READS_AFRESH and ran.get(named.node):
                self._read[signature] = files
            if host.are_older(files) or name in CHECKS_CONTENT:
                continue
            if name in READS_AFRESH and self._read.get(signature) == files:
                continue
            return (
                f"not kept: {named.path.name} is newer than this run of ComfyUI, which may still hold what "
                "was there before; after a restart it will be kept"
            )
        return None

    def _offer(self, question: Question, data: bytes, cost: float, options: Options) -> Status:
        known = self._fingerprint(question)
        if known is not None:
            return self._store(known, question, data, cost, options)
        self._worker.submit(self._store_when_hashed, question, data, cost, options)
        return Status(
            outcome=Outcome.MISS, stored=True, detail="kept as soon as the files of the graph are hashed"
        )

    def _store_when_hashed(self, question: Question, data: bytes, cost: float, options: Options) -> None:
        files = [file for _, _, file in question.seen]
        try:
            unknown = list(dict.fromkeys(each for each in files if each not in self._digests.known(files)))
            if not self._digests.wait_until_settled(unknown) or self._digests.hash(unknown) is None:
                self._runtime.metrics.event("not_hashed")
                return
            known = self._fingerprint(question)
        except ModelError as error:
            log.warning("zit_ext: %s; the result is not kept", error)
            return
        if known is not None:
            self._store(known, question, data, cost, options)

    def _store(
        self, known: Fingerprint, question: Question, data: bytes, cost: float, options: Options
    ) -> Status:
        ttl = options.ttl_hours * 3600 if options.ttl_hours > 0 else None
        models = dict.fromkeys(each.path.name for each in question.described.files)
        try:
            self._runtime.store.keep(
                known,
                Encoded(SAFETENSORS, data),
                namespace=str(question.fields["namespace"]),
                cost=cost,
                ttl_seconds=ttl,
                model=", ".join(models),
                prompt=max(question.described.texts, key=len, default=""),
                pinned=options.pinned,
            )
        except (StoreError, PluginError) as error:
            log.warning("zit_ext: %s; the result is not kept", error)
            self._runtime.metrics.event(type(error).__name__)
            return Status(outcome=Outcome.MISS, key=known.key, detail=f"not kept: {error}")
        kept_for = self._settings.ttl_seconds if ttl is None else ttl
        return Status(outcome=Outcome.MISS, key=known.key, stored=True, ttl=kept_for or None)

    # The key

    def _fingerprint(self, question: Question) -> Fingerprint | None:
        files = [file for _, _, file in question.seen]
        known = self._digests.known(files)
        if any(file not in known for file in files):
            return None
        digests = [[index, name, known[file]] for index, name, file in question.seen]
        try:
            return fingerprint({**question.fields, "files": digests})
        except PluginError as error:
            raise NotKeyableError(str(error)) from error

    def _unchanged_environment(self) -> Mapping[str, Any]:
        """Return what the host runs on. What it holds of earlier prompts was computed in just that."""
        now = host.environment()
        if self._environment is None:
            self._environment = now
        elif self._environment != now:
            raise NotKeyableError("torch's switches were changed since ComfyUI started; start it again")
        return now

    def _pack_digest(self, pack: str) -> str:
        paths = host.pack_files(pack)
        if not paths:
            raise NotKeyableError(f"the files of the pack {pack} were not found")
        return self._digest_of_code(tuple(file for path in paths for file in look(path)), f"the pack {pack}")

    def _patch_digest(self, pack: str) -> str:
        """Return the digest of a pack's code alone: it may keep its settings beside it."""
        if pack not in self._patches:  # what is imported stays as it was, as with the host
            files = tuple(file for path in host.pack_files(pack) for file in look(path))
            code = tuple(file for file in files if file.path.endswith(".py"))
            self._patches[pack] = self._digest_of_code(code, f"the pack {pack}, which changes ComfyUI,")
        return self._patches[pack]

    def _host_digest(self) -> str:
        if self._host is None:  # what is imported stays as it was: one look for each run of the host
            files = tuple(file for path in host.own_files() for file in look(path))
            self._host = self._digest_of_code(files, "ComfyUI")
        return self._host

    def _digest_of_code(self, files: tuple[SeenFile, ...], whose: str) -> str:
        """Return the digest of code that is imported already."""
        if not host.are_older(files):
            raise NotKeyableError(f"files of {whose} changed since ComfyUI started; start it again")
        identity = identity_of(files)
        if identity not in self._code:
            known = self._digests.known(files)
            hashed = self._digests.hash([file for file in files if file not in known])
            digest = None if hashed is None else digest_of(files, known | hashed)
            if digest is None:
                raise NotKeyableError(f"files of {whose} changed while they were read")
            self._code[identity] = digest
        return self._code[identity]

    def _count(self, status: Status, seconds: float, saved: float) -> None:
        request = Request(prompt="", seed=0, media_type=SAFETENSORS)
        content = Encoded(SAFETENSORS, b"")
        self._runtime.metrics.answered(
            Result(content=content, status=status, request=request, seconds=seconds, saved_seconds=saved)
        )


def told(status: Status, seconds: float, saved: float) -> str:
    """Return a status as one line for people."""
    parts: list[str] = [status.outcome.value]
    if status.outcome is Outcome.HIT and status.tier is not ResultTier.RENDER:
        parts.append(status.tier.value)
    if status.detail:
        parts.append(status.detail)
    parts.append(f"{seconds:.3f} s")
    if saved:
        parts.append(f"saved {saved:.1f} s")
    if status.key:
        parts.append(f"key {status.key[:12]}")
    return ", ".join(parts)
