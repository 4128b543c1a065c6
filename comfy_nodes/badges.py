"""Tells the page what became of a node: which were answered from the cache, and each one's status in words.

The page draws the first on the nodes itself (web/zit_ext.js); the second is the host's own way to show text.
"""

from __future__ import annotations

from . import host

EVENT = "zit.answered"


def tell(node_id: str, *, hits: int, of: int, saved_seconds: float) -> None:
    """Say that of so many values of a node some were hits, and the seconds that this saved."""
    host.tell_page(EVENT, {"node": _shown(node_id), "hits": hits, "of": of, "saved_seconds": saved_seconds})


def say(node_id: str, text: str) -> None:
    """Write on a node what became of it."""
    host.show_text(_shown(node_id), text)


def _shown(node_id: str) -> str:
    graph = host.running_graph()
    return node_id if graph is None else str(graph.get_display_node_id(node_id))
