"""Finds the files that a request names, and what is in them: paths, identities, digests.

Nothing that a caller filled in is believed: each reference is resolved from its source, every time.
For weights that are known already this takes well under a millisecond.

A source such as "vits:tiny" is a plugin's: it has no files that we know, and its digest is that of the
text. The plugin puts whatever else its weights depend on into its fingerprint fields.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

from ..errors import ModelError, ModelMissingError, RequestError
from ..records import FileRef, LoraRef, ModelRef, Request
from ..settings import Settings
from . import tokenizers, weights
from .digests import Digests, digest_of
from .weight_checks import check
from .weight_files import SeenFile, identity_of, look
from .weights import Kind

AT_ONCE = 256_000_000
"""Bytes that are hashed while the request waits: a LoRA, a VAE, a tiny model."""

_Ref = TypeVar("_Ref", bound=FileRef)


class _Known(NamedTuple):
    """What is known of all files at one place."""

    digest: str | None
    believed: bool = False


_Digest = Callable[[tuple[SeenFile, ...]], _Known]


class Resolver:
    """Resolves requests. Any thread may ask; both calls block."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._digests = Digests(settings.cache_dir, clock=clock)
        self._checked: set[str] = set()

    def resolve(self, request: Request) -> Request:
        """Return the request with path, identity and, where it is known, digest of everything it names.

        Quick: large files that nobody has hashed yet keep None as their digest, or have the one that their
        names promise, and say that it is believed. Raises ModelMissingError and ModelError, and
        RequestError for a LoRA or a name with two meanings.
        """
        return self._resolve(request, self._known_or_small)

    def complete(self, request: Request, wants_stop: Callable[[], bool]) -> Request | None:
        """Return the request with every digest, hashing what nobody has read: that may take minutes.

        None if a file changed or went since the request was resolved, or to stop was wanted. Raises
        ModelError for a file that cannot be read.
        """

        def hashed(files: tuple[SeenFile, ...]) -> _Known:
            known = self._digests.known(files)
            unknown = [each for each in files if each not in known]
            # Young files are waited for: what is hashed here should be remembered.
            if unknown and not self._digests.wait_until_settled(unknown, wants_stop):
                return _Known(None)
            digests = self._digests.hash(unknown, wants_stop)
            return _Known(None if digests is None else digest_of(files, known | digests))

        try:
            completed = self._resolve(request, hashed)
            now = self._resolve(request, lambda _files: _Known(None))
        except (ModelMissingError, RequestError):
            return None  # what was there when the request was resolved is gone
        asked, found, still = (
            [each.identity for each in _refs(each_time)] for each_time in (request, completed, now)
        )
        # A request that comes unresolved has no identities yet, and lacks the tokenizer that is found for
        # it: then only what we saw ourselves counts.
        same = not any(asked) or asked == found
        return completed if same and found == still and not self.pending(completed) else None

    @staticmethod
    def pending(request: Request) -> bool:
        """Tell whether something that the request names was not hashed yet."""
        return any(each.digest is None for each in _refs(request))

    def _resolve(self, request: Request, digest: _Digest) -> Request:
        try:
            return self._resolve_all(request, digest)
        except OSError as error:  # a disk that fails, a folder of another user's
            raise ModelError(f"the weights cannot be looked at: {error}") from error

    def _resolve_all(self, request: Request, digest: _Digest) -> Request:
        def found(ref: _Ref, kind: Kind, field: str) -> _Ref:
            return self._found(ref, kind, field, digest)

        model = request.model
        encoder, vae, tokenizer = model.text_encoder, model.vae, model.tokenizer
        model = replace(
            found(model, Kind.MODEL, "model"),
            text_encoder=encoder and found(encoder, Kind.TEXT_ENCODER, "model.text_encoder"),
            vae=vae and found(vae, Kind.VAE, "model.vae"),
        )
        tokenizer = tokenizer or self._tokenizer_for(model)
        if tokenizer is not None:
            tokenizer = found(tokenizer, Kind.TOKENIZER, "model.tokenizer")
            model = replace(model, tokenizer=tokenizer)
        loras = tuple(self._lora(lora, f"loras[{index}]", digest) for index, lora in enumerate(request.loras))
        return replace(request, model=model, loras=loras)

    def _tokenizer_for(self, model: ModelRef) -> FileRef | None:
        """Return the tokenizer that is at hand, for a model none of whose files brings one."""
        places = [each.path for each in (model, model.text_encoder) if each is not None]
        if not all(path is not None and tokenizers.is_wanted(path) for path in places):
            return None
        folder = tokenizers.at_hand(self._settings.model_dirs)
        return None if folder is None else FileRef(source=str(folder))

    def _lora(self, lora: LoraRef, field: str, digest: _Digest) -> LoraRef:
        try:
            return self._found(lora, Kind.LORA, field, digest)
        except ModelMissingError as error:
            raise RequestError(field, lora.source, f"there is no such LoRA: {error.remedy}") from error
        except ModelError as error:
            raise RequestError(field, lora.source, str(error)) from error

    def _found(self, ref: _Ref, kind: Kind, field: str, digest: _Digest) -> _Ref:
        if weights.is_plugins(ref.source):
            named = hashlib.sha256(ref.source.encode("utf-8", "surrogatepass")).hexdigest()
            return replace(ref, path=None, identity=named, digest=named, believed=False)
        settings = self._settings
        path = weights.find(
            ref.source, kind=kind, model_dirs=settings.model_dirs, offline=settings.offline, field=field
        )
        files = look(path)
        identity = identity_of(files)
        if identity not in self._checked:
            if kind is Kind.TOKENIZER:
                tokenizers.check(path)
            else:
                check(ref.source, path, files)
            if len(self._checked) > 1000:
                self._checked.clear()
            self._checked.add(identity)
        now = digest(files)
        return replace(ref, path=path, identity=identity, digest=now.digest, believed=now.believed)

    def _known_or_small(self, files: tuple[SeenFile, ...]) -> _Known:
        known = self._digests.known(files)
        unknown = [each for each in files if each not in known]
        named: dict[SeenFile, str] = {}
        if sum(each.size for each in unknown) > AT_ONCE:
            named = self._digests.named(unknown)
            unknown = [each for each in unknown if each not in named]
            if sum(each.size for each in unknown) > AT_ONCE:
                return _Known(None)
        if unknown:
            hashed = self._digests.hash(unknown)
            if hashed is None:
                return _Known(None)
            known |= hashed
        return _Known(digest_of(files, known | named), believed=bool(named))


def _refs(request: Request) -> list[FileRef]:
    return [request.model, *request.model.parts.values(), *request.loras]
