"""Lets go of a store as a crash would: nothing is flushed, and the system drops its locks."""

from __future__ import annotations

import os

from zit_ext.results.store import ResultStore


def crash(store: ResultStore) -> None:
    """Abandon the store; its file locks go, as they do when a process dies."""
    store._is_open = False
    store._writer.close()
    store._claims._closing.set()
    for pool in (store._quick, store._readers, store._claimers):
        pool.close()
    store._desk.close()
    os.close(store._owner._descriptor)
