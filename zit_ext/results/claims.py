"""One render for many processes: who may render a key, asked only after a miss.

A claim is a row with an owner and a heartbeat. It is free again when its owner let go, when the owner
is dead (its lock is gone), or when the heart stood still for the lease, by the wall clock or by the
waiter's own steady one: a clock that was set keeps nobody waiting. A claim that is lost all the same
costs a second render, never a wrong answer.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ..errors import StoreError
from .database import Pool, transaction

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 2.0
_BEATS_A_LEASE = 4
_MAX_BEATS = 60 * _BEATS_A_LEASE


class Claim(NamedTuple):
    """The right to render what this key asks for. Give it to `ResultStore.release` afterwards."""

    key: str
    token: str


class Busy(NamedTuple):
    """Another process renders this key. Ask again soon."""

    key: str
    until: float
    """When its lease ends if its heart stops now; Unix seconds."""


@dataclass(slots=True)
class _Mine:
    key: str
    beats: int = 0


class _Seen(NamedTuple):
    token: str
    beat: int
    since: float


class Claims:
    """The claims of one open store. Any thread may call."""

    def __init__(
        self,
        pool: Pool,
        *,
        owner: str,
        is_alive: Callable[[str], bool],
        lease_seconds: float,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._is_alive = is_alive
        self._lease = lease_seconds
        self._clock = clock
        self._steady = steady
        self._seen: dict[str, _Seen] = {}
        self._mine: dict[str, _Mine] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, key: str, look: Callable[[], Answer | None]) -> Claim | Busy | Answer:
        """Return the right to render this key, the answer that is there by now, or who is at it.

        Raises OSError and sqlite3.Error if the index cannot be reached.
        """
        if not self._lease:
            return look() or Claim(key, "")  # a lease of no time: nobody waits for anybody
        with self._pool.lend() as db:
            busy = self._busy(db, key)
            if busy is not None:
                return look() or busy
            with transaction(db, _PATIENCE_SECONDS):
                busy = self._busy(db, key)
                # Inside the claiming transaction: who released the claim had its entry committed before.
                found = look()
                if found is not None:
                    return found
                if busy is not None:
                    return busy
                claim = Claim(key, secrets.token_hex(8))
                self._write(db, claim)
                self._seen.pop(key, None)
        self._hold(claim)
        return claim

    def release(self, claim: Claim) -> None:
        """Let go of a claim; letting go twice is fine."""
        with self._lock:
            self._mine.pop(claim.token, None)
        if claim.token:
            with self._pool.lend() as db, transaction(db):
                db.execute(
                    "DELETE FROM claims WHERE key = ? AND token = ?", (bytes.fromhex(claim.key), claim.token)
                )

    def beat(self) -> None:
        """Renew every claim of this store. Raises OSError, sqlite3.Error and StoreError.

        A render that hangs does not hold the others for ever: after `_MAX_BEATS` they may try.
        """
        with self._lock:
            for claim in self._mine.values():
                claim.beats += 1
            mine = [token for token, claim in self._mine.items() if claim.beats <= _MAX_BEATS]
        if mine:
            with self._pool.lend() as db, transaction(db, _PATIENCE_SECONDS):
                db.executemany(
                    "UPDATE claims SET beat = beat + 1, beat_at = ? WHERE token = ?",
                    [(self._clock(), token) for token in mine],
                )

    def close(self) -> None:
        """Stop the heart, and let go of every claim."""
        self._closing.set()
        if self._heart is not None:
            self._heart.join()
        for token, mine in list(self._mine.items()):
            self.release(Claim(mine.key, token))

    def _busy(self, db: sqlite3.Connection, key: str) -> Busy | None:
        row = db.execute(
            "SELECT owner, token, beat, beat_at FROM claims WHERE key = ?", (bytes.fromhex(key),)
        ).fetchone()
        if row is None or self._is_over(key, *row):
            return None
        return Busy(key, row[3] + self._lease)

    def _is_over(self, key: str, owner: str, token: str, beat: int, beat_at: float) -> bool:
        if not self._is_alive(owner) or not isinstance(beat_at, (int, float)):
            return True
        now, steady = self._clock(), self._steady()
        seen = self._seen.get(key)
        if seen is None or (seen.token, seen.beat) != (token, beat):
            if len(self._seen) > 1000:
                self._seen.clear()  # keys that nobody asks for any more; the others are seen anew
            self._seen[key] = _Seen(token, beat, steady)
            return now >= beat_at + self._lease
        return now >= beat_at + self._lease or steady >= seen.since + self._lease

    def _write(self, db: sqlite3.Connection, claim: Claim) -> None:
        db.execute(
            "INSERT INTO claims (key, owner, token, beat_at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
            "SET owner = excluded.owner, token = excluded.token, beat = 0, beat_at = excluded.beat_at",
            (bytes.fromhex(claim.key), self._owner, claim.token, self._clock()),
        )

    def _hold(self, claim: Claim) -> None:
        with self._lock:
            self._mine[claim.token] = _Mine(claim.key)
            if self._heart is None:
                self._heart = threading.Thread(target=self._keep_beating, name="zit-claims", daemon=True)
                self._heart.start()

    def _keep_beating(self) -> None:
        while not self._closing.wait(self._lease / _BEATS_A_LEASE):
            try:
                self.beat()
            except (OSError, sqlite3.Error, StoreError) as error:
                log.warning("the claims of this process could not be renewed: %s", error)
