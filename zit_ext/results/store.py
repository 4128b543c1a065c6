"""The result store: find an answer, keep an answer, render it once. The doors to the room of results.

Blocking, and callable from any thread. Only StoreErrors leave here, and never doubtful bytes. `keep`
returns at once: encoding, digesting and writing happen behind the caller's back, on the one thread
that writes; look-ups read through connections of their own and never wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from concurrent.futures import TimeoutError as FutureTimeoutError

from ..codecs import CodecError, Pixels
from ..errors import PluginError, StoreError, StoreFullError
from ..records import Content, Fingerprint
from .administration import Administration
from .claims import Busy, Claim, Claims
from .database import IndexMalformedError
from .desk import Desk, is_out_of_space
from .lookup import Found, Lookup
from .memory import Held
from .running import store_errors
from .selection import Selection
from .usage import Usage
from .waiting import Ready, Waiting, choose_ttl

__all__ = ["Busy", "Claim", "Found", "ResultStore", "Selection", "Usage"]

log = logging.getLogger(__name__)

_COURTESY_SECONDS = 0.004
"""How long a result waits before it is encoded: the time that a miss takes from there to its caller."""


class ResultStore(Administration):
    """Answers by key, shared by every process that opens the same folder."""

    _lookup: Lookup
    _claims: Claims

    # Looking

    def peek(self, fingerprint: Fingerprint) -> Found | None:
        """Return the answer if it is at hand in memory; quick enough for an event loop."""
        self._must_be_open()
        try:
            return self._lookup.peek(fingerprint)
        except (OSError, StoreError):
            return None  # `find` will meet the same trouble, and say so

    def find(self, fingerprint: Fingerprint) -> Found | None:
        """Return the answer kept for this, if it is there, fresh and whole."""
        self._must_be_open()
        with store_errors:
            try:
                return self._lookup.find(fingerprint)
            except IndexMalformedError as error:
                self._replace_later(error)
            except FileNotFoundError:
                self._replace_later(None)  # somebody deleted the folder under us
            return None

    def note_saved_before(self, key: str, seconds: float) -> None:
        """Say that the hit just now saved so many seconds less than its entry cost: others did before."""
        self._must_be_open()
        self._uses.note_saved_before(key, seconds, self._place.time.wall(), self._place.time.now())

    def was_stale(self, fingerprint: Fingerprint) -> bool:
        """Tell whether the last `find` of this met an answer whose time was over."""
        self._must_be_open()
        return self._lookup.was_stale(fingerprint)

    # Keeping

    def keep(
        self,
        fingerprint: Fingerprint,
        content: Content,
        *,
        namespace: str,
        cost: float,
        ttl_seconds: float | None,
        model: str = "",
        prompt: str | None = None,
        pinned: bool = False,
    ) -> None:
        """Accept an answer; it is found from now on, and written behind the caller's back.

        `cost` is in seconds of rendering; a `ttl_seconds` of None is the namespace's or the setting, 0
        is for ever. Raises StoreFullError if too many results wait, or this one can never fit.
        """
        self._must_be_open()
        size = len(content.data)
        if self._queued >= self._settings.write_queue:
            self._count("queue_full")
            raise StoreFullError(size, f"{self._queued} results wait to be written already")
        # Pixels shrink when they are encoded: the writer will see by how much.
        if not isinstance(content, Pixels) and 0 < self._caps.max_bytes < size:
            self._count("larger_than_cap")
            raise StoreFullError(size, f"the store holds {self._caps.max_bytes:,} bytes in all")
        waiting = Waiting(
            fingerprint,
            content,
            namespace=namespace,
            cost=cost,
            ttl_seconds=ttl_seconds,
            model=model,
            prompt=prompt,
            pinned=pinned,
            created_at=self._place.time.wall(),
            now=self._place.time.now(),
        )
        with self._door:
            self._must_be_open()
            self._queued += 1
            self._waiting[fingerprint.key] = waiting
            self._put(lambda: self._write_down(waiting))

    # Rendering once

    def try_claim(self, fingerprint: Fingerprint) -> Claim | Busy | Found:
        """Return the right to render this, the answer that came meanwhile, or who is at it. Never waits."""
        self._must_be_open()
        with store_errors:
            try:
                return self._claims.take(fingerprint.key, lambda: self.find(fingerprint))
            except IndexMalformedError as error:
                self._replace_later(error)
                raise

    def release(self, claim: Claim) -> None:
        """Let go of a claim, once everything that was kept before is written. Returns at once."""
        with self._door:
            self._must_be_open()
            self._put(lambda: self._claims.release(claim))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything kept so far is written, and the use counts; tell whether it is.

        `timeout` is in seconds; None waits for ever.
        """
        with self._door:
            self._must_be_open()
            flushed = self._writer.ask(lambda: self._at_desk(self._flush_uses))
        with store_errors:
            try:
                flushed.result(timeout)
            except FutureTimeoutError:
                return False
        return True

    # On the writer's thread

    def _write_down(self, waiting: Waiting) -> None:
        key = waiting.fingerprint.key
        if waiting.has_to_be_encoded:
            # The caller goes first: encoding holds the interpreter for some milliseconds, and whoever
            # waits for the picture would wait for that, too.
            time.sleep(_COURTESY_SECONDS)
        try:
            ready = waiting.get_ready()
            held = self._at_desk(lambda desk: self._write_at(desk, waiting, ready))
            self._memory.put(key, held)
        except Exception as error:
            # Whatever it was, it is counted: nothing is lost silently, and the next one is written.
            self._dropped(error)
        finally:
            with self._door:
                self._queued -= 1
                if self._waiting.get(key) is waiting:
                    del self._waiting[key]

    def _write_at(self, desk: Desk, waiting: Waiting, ready: Ready) -> Held:
        # First who was used: the caps may have to choose who goes.
        self._flush_uses(desk)
        return desk.scribe.write(waiting, ready)

    def _dropped(self, error: Exception) -> None:
        cause = error.__cause__ or error
        if isinstance(error, CodecError):
            self._count("undecodable")
        elif isinstance(error, PluginError):
            self._count("not_scored")
        elif is_out_of_space(cause):
            self._count("disk_full")
        elif not isinstance(error, StoreFullError):
            self._count("write_failed")
        self._count("dropped")
        log.warning("a result was answered, but is not kept: %s", error)

    # Parts

    def _started(self) -> None:
        self._lookup = Lookup(
            quick=self._quick,
            readers=self._readers,
            blobs=self._blobs,
            memory=self._memory,
            uses=self._uses,
            waiting=self._waiting,
            dictionaries=self._place.dictionaries,
            time=self._place.time,
            ttl_of=self._ttl_of,
            sliding_ttl=self._settings.sliding_ttl,
            count=self._count,
            report=self._report,
        )
        self._claims = Claims(
            self._claimers,
            owner=self._owner.token,
            is_alive=self._owner.is_alive,
            lease_seconds=self._settings.claim_seconds,
            clock=self._clock,
        )

    def _stopping(self) -> None:
        with contextlib.suppress(OSError, sqlite3.Error, StoreError):
            self._claims.close()

    def _ttl_of(self, waiting: Waiting) -> float | None:
        of_namespace = self._place.namespace_ttls.get(waiting.namespace)
        return choose_ttl(waiting, of_namespace, self._settings.ttl_seconds)
