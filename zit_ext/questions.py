"""What identifies the answer to a request: its files, its fields, its environment, its key.

Asks plugins and the rooms that know files and environments; renders nothing and keeps nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from .errors import PluginError
from .fingerprint import canonical_bytes, fingerprint
from .plugins import Hooks
from .records import NO_ENVIRONMENT, FieldValue, FileRef, Fingerprint, Request
from .settings import Settings

_Ref = TypeVar("_Ref", bound=FileRef)


class Files(Protocol):
    """Whoever knows the files of weights. Both calls block; `complete` may take minutes."""

    def resolve(self, request: Request) -> Request: ...

    def complete(self, request: Request, wants_stop: Callable[[], bool]) -> Request | None: ...


class Environments(Protocol):
    """Whoever remembers what a renderer is made of, without asking it."""

    def find(self, name: str) -> Mapping[str, FieldValue] | None: ...

    def publish(self, name: str, record: Mapping[str, FieldValue]) -> None: ...


@dataclass(frozen=True, slots=True)
class Question:
    """A request that may use the cache, and everything that identifies its answer."""

    request: Request
    """With the files found."""
    fields: Mapping[str, FieldValue]
    """All but the environment."""
    identities: tuple[str, ...]
    """Of the files of weights, as they were when the question was asked."""
    known: Fingerprint | None
    """None while a digest or the environment is not known: then nothing can be looked up."""
    unknown: str | None
    """Why `known` is None."""

    @property
    def flight(self) -> str:
        """Requests with one flight share one run. Who refreshes must not land on somebody's hit."""
        same = canonical_bytes({"fields": self.fields, "identities": self.identities}).hex()
        return f"{self.request.cache.value} {self.known.key if self.known else same}"

    def same_but_files(self, fields: Mapping[str, FieldValue]) -> bool:
        """Tell whether these fields ask for the same, apart from what identities stand for."""
        return canonical_bytes(_beside_files(self.fields)) == canonical_bytes(_beside_files(fields))


class Questions:
    """Turns a request whose files are found into a question. Thread: zit-engine, as the hooks promise."""

    def __init__(self, settings: Settings, hooks: Hooks, environments: Environments) -> None:
        self._settings = settings
        self._hooks = hooks
        self._environments = environments
        self._mixed: Counter[str] = Counter()

    def of(self, resolved: Request) -> Question:
        """Return the question. Raises PluginError."""
        fields = self._hooks.fingerprint_fields(resolved)
        resolved = replace(resolved, context=self._context(fields))
        identities = identities_of(resolved)
        if is_pending(resolved):
            return Question(resolved, fields, identities, None, "the weights are not hashed yet")
        environment = self._environment(resolved)
        if environment is None:
            return Question(resolved, fields, identities, None, NO_ENVIRONMENT)
        return Question(resolved, fields, identities, _identified(fields, environment), None)

    def answered(
        self, question: Question, resolved: Request, environment: Mapping[str, FieldValue]
    ) -> Fingerprint | str:
        """Return what the answer is kept under, or why it may not be kept.

        `resolved` is the request as its files are now, `environment` what the renderer reports of itself:
        a result is never kept under a guess, nor if anything changed since the question was asked.
        """
        fields = self._hooks.fingerprint_fields(resolved)
        if identities_of(resolved) != question.identities or is_unread(resolved):
            return "the files of the weights changed meanwhile"
        if any(
            not one.believed and one.digest not in (None, now.digest)
            for one, now in _pairs(question.request, resolved)
        ):
            # Files that were written just now can change again within one tick of their time stamp.
            return "the files of the weights changed meanwhile"
        if not question.same_but_files(fields):
            return "a plugin's fields changed meanwhile"
        if failed := self._hooks.failed_to_open(resolved.model, fields):
            return f"plugin {failed!r} failed when the weights were opened"
        if self._settings.consistency == "portable":
            return _identified(fields, "portable")
        self._environments.publish(environment_name(resolved), environment)
        return _identified(fields, environment_digest(environment))

    def in_context(self, resolved: Request) -> Request:
        """Return a request that bypasses the cache with the context that its render needs all the same.

        If a plugin cannot say what it does, nothing that is remembered fits.
        """
        try:
            return replace(resolved, context=self._context(self._hooks.fingerprint_fields(resolved)))
        except PluginError:
            return replace(resolved, context=f"unknown {secrets.token_hex(16)}")

    def rendered(self, request: Request) -> None:
        """Notice if a plugin's fields changed while this was rendered, or meant to be.

        What the pipeline remembered on the way was then made in one state and filed under another: the
        context gets a new name, so that nobody finds it.
        """
        before = request.context.partition(" ")[0]
        if self.in_context(request).context.partition(" ")[0] != before:
            self._mixed[before] += 1

    def _context(self, fields: Mapping[str, FieldValue]) -> str:
        said = {name: value for name, value in fields.items() if "." in name}
        digest = hashlib.sha256(canonical_bytes(said)).hexdigest()
        return f"{digest} {self._mixed[digest]}"

    def _environment(self, resolved: Request) -> str | None:
        if self._settings.consistency == "portable":
            return "portable"
        record = self._environments.find(environment_name(resolved))
        return None if record is None else environment_digest(record)


def environment_name(resolved: Request) -> str:
    """Return the name by which the environment of this model, put to use in this way, is remembered.

    In another dtype, or with tiles, the same weights run in another environment: the two are two.
    """
    return hashlib.sha256(canonical_bytes(resolved.model)).hexdigest()


def environment_digest(record: Mapping[str, FieldValue]) -> str:
    """Return the identity of an environment: SHA-256 of the record's canonical bytes."""
    return hashlib.sha256(canonical_bytes(record)).hexdigest()


def files_of(request: Request) -> list[tuple[str, FileRef]]:
    """Return everything in the request that names files of weights, with what it is there for."""
    return [
        ("model", request.model),
        *request.model.parts.items(),
        *(("lora", lora) for lora in request.loras),
    ]


def identities_of(request: Request) -> tuple[str, ...]:
    """Return what the files of a request are, as far as a look at the folder tells."""
    return tuple(f"{role} {ref.identity}" for role, ref in files_of(request))


def with_digests_of(request: Request, hashed: Request) -> Request:
    """Return the request with the digests of another one that names the same files in the same order."""

    def with_digest(one: _Ref, other: FileRef) -> _Ref:
        return replace(one, digest=other.digest, believed=other.believed)

    model = replace(with_digest(request.model, hashed.model), **hashed.model.parts)  # type: ignore[arg-type]
    loras = zip(request.loras, hashed.loras, strict=True)
    return replace(request, model=model, loras=tuple(with_digest(one, other) for one, other in loras))


def is_pending(request: Request) -> bool:
    """Tell whether some file of the request has no digest yet: nothing can be looked up."""
    return any(ref.digest is None for _role, ref in files_of(request))


def is_unread(request: Request) -> bool:
    """Tell whether some file of the request was not read yet: nothing can be kept."""
    return any(ref.digest is None or ref.believed for _role, ref in files_of(request))


def is_misnamed(believed: Request, read: Request) -> bool:
    """Tell whether some file of the request, now that it was read, is not what its name promised."""
    return any(one.believed and one.digest != now.digest for one, now in _pairs(believed, read))


def _pairs(asked: Request, now: Request) -> Iterator[tuple[FileRef, FileRef]]:
    """Return each file as it was asked for, and as it is now; both requests name the same ones."""
    pairs = zip(files_of(asked), files_of(now), strict=True)
    return ((one, other) for (_, one), (_, other) in pairs)


def _identified(fields: Mapping[str, FieldValue], environment: str) -> Fingerprint:
    return fingerprint({**fields, "environment": environment})


def _beside_files(fields: Mapping[str, FieldValue]) -> Mapping[str, FieldValue]:
    return {name: value for name, value in fields.items() if name not in ("model", "loras")}
