"""The same memory under existing workflows, without a new node: a cache provider of the host's (0.18).

Off until the setting `node_cache` is on. Only the classes that `node_cache_classes` names are looked up
and kept, and never an output node. The host's own key knows files by name only; ours is the question that
Cache (any) asks. The host cancels what an `on_store` waits for at the end of a prompt, so values are taken
when it asks whether they should be cached, which is before.
"""

from __future__ import annotations

import logging
from typing import Any

from zit_ext import Settings

from . import badges, host
from .graph import NotKeyableError
from .memo import Options, Question
from .memo_node import memo

log = logging.getLogger(__name__)

_OPTIONS = Options()


async def register() -> None:
    """Offer ourselves to the host, if the user wants it and the host knows of providers."""
    settings = Settings.load()
    if not settings.node_cache:
        return
    api = host.caching()
    if api is None:
        log.warning("zit_ext: node_cache is on, but only ComfyUI 0.18 and newer has cache providers")
        return
    caching, offer = api
    kept = Kept(frozenset(settings.node_cache_classes))

    class Provider(caching.CacheProvider):
        """What the host calls."""

        def should_cache(self, context: Any, value: Any = None) -> bool:
            if value is not None:
                kept.take(context.node_id, context.class_type, value)
                return False
            return kept.is_meant(context.class_type)

        async def on_lookup(self, context: Any) -> Any:
            outputs = await kept.find(context.node_id)
            return None if outputs is None else caching.CacheValue(outputs=outputs)

        async def on_store(self, context: Any, value: Any) -> None:
            """Never called: `should_cache` took the value."""

        def on_prompt_start(self, prompt_id: str) -> None:
            kept.forget()

    await offer(Provider())
    log.info("zit_ext: keeps what these nodes compute: %s", ", ".join(settings.node_cache_classes))


class Kept:
    """What is asked and kept in one prompt after the other. On the host's thread."""

    def __init__(self, classes: frozenset[str]) -> None:
        self._classes = classes
        self._asked: dict[str, Question | None] = {}
        self._found: dict[str, list[Any]] = {}

    def forget(self) -> None:
        """Begin a new prompt."""
        self._asked.clear()
        self._found.clear()

    def is_meant(self, class_type: str) -> bool:
        return class_type in self._classes and not host.is_output_node(class_type)

    async def find(self, node_id: str) -> list[Any] | None:
        """Return the outputs kept for this node of the running prompt."""
        if node_id not in self._asked:
            work = host.watch()
            self._asked[node_id] = None
            try:
                question = await memo().ask(host.running_graph(), [node_id, 0], _OPTIONS, all_outputs=True)
                nodes = question.nodes
                answer = memo().find(question, lambda cost: work.saved(nodes, cost, whole=False))
            except NotKeyableError as error:
                log.debug("zit_ext: node %s is not kept: %s", node_id, error)
                return None
            self._asked[node_id] = question
            if answer is not None:
                self._found[node_id] = answer.value
                badges.tell(node_id, hits=1, of=1, saved_seconds=answer.saved_seconds)
        return self._found.get(node_id)

    def take(self, node_id: str, class_type: str, value: Any) -> None:
        """Keep what a node has just computed."""
        begun = self._asked.get(node_id)
        work = host.watch()
        if begun is None or value.ui or node_id in self._found or not self.is_meant(class_type):
            return
        try:
            asked = memo().ask(host.running_graph(), [node_id, 0], _OPTIONS, all_outputs=True, has_run=True)
            now = _at_once(asked)
        except NotKeyableError as error:
            log.debug("zit_ext: node %s is not kept: %s", node_id, error)
            return
        if node_id not in work.ran:
            return  # the host had it already, from whenever
        cost = work.share(now.nodes)
        status = memo().keep(begun, now, list(value.outputs), cost=cost, ran=work.ran, options=_OPTIONS)
        if status.stored:
            work.keep_share(now.nodes)
        else:
            log.info("zit_ext: what %s computed is %s", class_type, status.detail)


def _at_once(asking: Any) -> Question:
    """Return the answer of a coroutine that has nothing to wait for: the host asks from a plain function."""
    try:
        asking.send(None)
    except StopIteration as done:
        return done.value
    asking.close()
    raise NotKeyableError("a node above waits while it says whether it changed")
