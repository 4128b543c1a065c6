"""Why a request would hit, miss or be bypassed. Looks at everything that the engine would look at, and
neither loads, renders nor counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from . import policy
from .errors import BlobCorruptError, PluginError, StoreError
from .fingerprint import canonical_bytes, differing_fields, read_canonical
from .questions import Questions
from .records import NO_ENVIRONMENT, CacheMode, Entry, FieldValue, Fingerprint, Request
from .results.fields import redacted
from .runtime import Runtime

Differences = Mapping[str, tuple[FieldValue, FieldValue]]
"""Fields by name: what the request has, and what the entry has."""


def differences(
    one: Mapping[str, FieldValue], other: Mapping[str, FieldValue], *, readable: bool = True
) -> Differences:
    """Return the fields that differ. If one side kept only digests of its texts, those are compared."""
    if readable:
        return differing_fields(one, other)
    return differing_fields(*(read_canonical(redacted(canonical_bytes(each))) for each in (one, other)))


class Verdict(str, Enum):
    """What would become of the request."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would become of a request, and why."""

    verdict: Verdict
    reason: str
    key: str | None = None
    entry: Entry | None = None
    """What would answer it, or what is there under its key and may not."""
    nearest: Entry | None = None
    """Of a miss: the entry that differs in the fewest fields."""
    differences: Differences | None = None
    """Between the request and the nearest entry."""


class Explainer:
    """Asks the rooms of a runtime what its engine would ask, in the same order."""

    def __init__(self, runtime: Runtime) -> None:
        self._settings = runtime.settings
        self._hooks = runtime.hooks
        self._files = runtime.files
        self._store = runtime.store
        self._questions = Questions(runtime.settings, runtime.hooks, runtime.environments)

    def explain(self, request: Request, now: float) -> Explanation:
        """Return what would become of the request. Raises RequestError, ModelError, StoreError."""
        asked = policy.at_the_door(policy.with_defaults(request, self._settings))
        try:
            reason = self._bypass(asked)
            if reason is not None:
                return Explanation(Verdict.BYPASS, reason)
            question = self._questions.of(self._files.resolve(asked))
        except PluginError as error:
            return Explanation(Verdict.BYPASS, str(error))
        if question.known is None:
            reason = question.unknown or "its key is not known yet"
            if reason == NO_ENVIRONMENT:
                reason += ": render once, and there is something to look up"
            return Explanation(Verdict.MISS, reason)
        return self._looked_up(asked, question.known, now)

    def _bypass(self, asked: Request) -> str | None:
        own = policy.own_bypass(asked, self._settings)
        if own is not None:
            return own.words
        try:
            self._store.usage()
        except StoreError:
            return "the result store could not be opened"
        bypass = self._hooks.bypass(asked)
        return None if bypass is None else bypass.words

    def _looked_up(self, asked: Request, known: Fingerprint, now: float) -> Explanation:
        details = self._store.entry(known.key)
        entry = None if details is None else details.entry
        fault = "refresh renders without looking" if asked.cache is CacheMode.REFRESH else None
        if entry is not None and fault is None:
            fault = self._fault(entry, now)
            if fault is None:
                return Explanation(Verdict.HIT, "an entry has every field of the request", known.key, entry)
        if entry is not None:
            return Explanation(Verdict.MISS, fault or "", known.key, entry)
        reason = fault or "no entry has every field of the request"
        for nearest in self._store.nearest(known.fields, limit=1):
            return Explanation(
                Verdict.MISS,
                reason,
                known.key,
                nearest=nearest.entry,
                differences=differences(known.fields, nearest.fields, readable=not nearest.redacted),
            )
        return Explanation(Verdict.MISS, "the store is empty", known.key)

    def _fault(self, entry: Entry, now: float) -> str | None:
        """Return why an entry may not answer."""
        if entry.expires_at is not None and entry.expires_at <= now:
            return f"its entry is stale: its time was over {now - entry.expires_at:,.0f} seconds ago"
        try:
            self._store.read_blob(entry.blob.digest)
        except BlobCorruptError as error:
            return str(error)
        return None
