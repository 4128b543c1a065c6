"""Finds and keeps samples in zit_ext's result store, as soon as the weights they came from are hashed."""

from __future__ import annotations

import functools
import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from zit_ext.codecs import SAFETENSORS
from zit_ext.errors import ModelError, StoreError
from zit_ext.models.digests import Digests
from zit_ext.models.weight_files import look_again
from zit_ext.records import Encoded, Fingerprint
from zit_ext.results.store import Found

from . import convert, host
from .native_key import BypassedError, Question

log = logging.getLogger("zit_ext")

MAX_WAITING_BYTES = 500_000_000
"""How much may wait in memory for the first digest of new weights."""


class Keeper:
    """The way to the store. The webui's threads ask; weights are hashed on a thread of its own."""

    def __init__(self) -> None:
        self._hasher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="zit-a1111-hash")
        self._waiting_bytes = 0
        self._lock = Lock()

    def find(self, asked: Question) -> Found | None:
        """Return the samples kept for this. Raises BypassedError if the store cannot be asked at all."""
        settings = host.engine().settings
        if settings.disable_cache or settings.debug:
            raise BypassedError("settings", "the settings switch the cache off")
        files = list(asked.files.values())
        known = _digests().known(files)
        identity = asked.fingerprint(known)
        if identity is None:
            self._hasher.submit(self._hash, asked)  # while the render goes on
            return None
        try:
            return host.engine().store.find(identity)
        except StoreError as error:
            raise BypassedError("store_unavailable", str(error)) from error

    def keep(self, asked: Question, data: bytes, seconds: float, *, prompt: str) -> str | None:
        """Keep samples; return their key, None if it will be known when the weights are hashed.

        Raises StoreError if they are not kept.
        """
        if any(look_again(each) != each for each in asked.files.values()):
            raise StoreError("a file of weights changed while it was rendered")
        identity = asked.fingerprint(_digests().known(list(asked.files.values())))
        if identity is not None:
            _keep(identity, data, seconds, prompt)
            return identity.key
        with self._lock:
            if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                raise StoreError("too many results wait for the weights to be hashed")
            self._waiting_bytes += len(data)
        self._hasher.submit(self._keep_when_hashed, asked, data, seconds, prompt)
        return None

    def _hash(self, asked: Question) -> Fingerprint | None:
        files = list(asked.files.values())
        digests = dict(_digests().known(files))
        missing = [each for each in dict.fromkeys(files) if each not in digests]
        try:
            if missing:
                if not _digests().wait_until_settled(missing):
                    return None
                digests |= _digests().hash(missing) or {}
        except ModelError as error:
            log.warning("weights cannot be hashed: %s", error)
        return asked.fingerprint(digests)

    def _keep_when_hashed(self, asked: Question, data: bytes, seconds: float, prompt: str) -> None:
        try:
            identity = self._hash(asked)
            if identity is None:
                log.warning("a result was shown, but is not kept: its weights changed meanwhile")
            else:
                _keep(identity, data, seconds, prompt)
        except StoreError as error:
            log.warning("a result was shown, but is not kept: %s", error)
        finally:
            with self._lock:
                self._waiting_bytes -= len(data)


def _keep(identity: Fingerprint, data: bytes, seconds: float, prompt: str) -> None:
    engine = host.engine()
    engine.store.keep(
        identity,
        Encoded(SAFETENSORS, data),
        namespace=convert.namespace(engine.settings.namespace, host.LABEL),
        cost=seconds,
        ttl_seconds=None,
        model=host.LABEL,
        prompt=prompt,
    )


@functools.cache
def _digests() -> Digests:
    return Digests(host.engine().settings.cache_dir)
