"""Tells the page which nodes were answered from the cache; it draws that on them (web/zit_ext.js)."""

from __future__ import annotations

from . import host

EVENT = "zit.answered"


def tell(node_id: str, *, hits: int, of: int, saved_seconds: float) -> None:
    """Say that of so many values of a node some were hits, and the seconds that this saved."""
    graph = host.running_graph()
    shown = node_id if graph is None else graph.get_display_node_id(node_id)
    host.tell_page(EVENT, {"node": shown, "hits": hits, "of": of, "saved_seconds": saved_seconds})
