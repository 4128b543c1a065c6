"""Entries by the beginning of their key, as people name them."""

from __future__ import annotations

from ..errors import RequestError
from ..results.details import EntryDetails
from ..results.store import ResultStore


def entry_by_key(store: ResultStore, key: str) -> EntryDetails:
    """Return the entry. Raises RequestError if none, or more than one, begins so."""
    found = store.entry(key)
    if found is None:
        raise RequestError("key", key, "no entry's key begins so; `zit-ext ls` lists them")
    return found
