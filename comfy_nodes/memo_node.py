"""Cache (any): the node around the lazy memo."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from . import badges, host
from .describing import ANYTHING
from .graph import NotKeyableError
from .memo import Answer, Memo, Options, Question, told
from .work import Work

io = host.io


@dataclass
class _Begun:
    """What is known of one run of a node between the question and the answer."""

    started: float
    question: Question | None = None
    refusal: str = ""
    answer: Answer | None = None
    work: Work | None = None


_AT_ONCE = 256
_begun: OrderedDict[str, _Begun] = OrderedDict()  # the host clones node classes: nothing can stay on them
_memos: list[Memo] = []


def memo() -> Memo:
    """Return the memo of this process's engine."""
    runtime = host.engine()
    if not _memos or not _memos[0].is_of(runtime):
        _memos[:] = [Memo(runtime)]
    return _memos[0]


class CacheAny(io.ComfyNode):
    """Whatever comes in, kept on disk: on a hit nothing above this node runs."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitCacheAny",
            display_name="Cache (any)",
            category="zit_ext",
            description=(
                "Keeps what comes in under what the graph above computes: its nodes and inputs, the bytes of "
                "every file they name, and what ComfyUI runs on. On a hit nothing above runs, loaders "
                "included, also after a restart. What cannot be kept passes through, and the status says why."
            ),
            search_aliases=["cache", "memo", "disk cache", "skip", "persist"],
            is_input_list=True,
            inputs=[
                ANYTHING.Input(
                    "value", lazy=True, tooltip="IMAGE, LATENT, MASK, CONDITIONING, AUDIO, or a list of them."
                ),
                io.Combo.Input(
                    "cache",
                    options=["use", "refresh", "bypass", "only"],
                    default="use",
                    optional=True,
                    tooltip="use: look, and keep. refresh: run and keep. bypass: neither. "
                    "only: look, and stop if nothing is kept.",
                ),
                io.Float.Input(
                    "ttl_hours",
                    default=0.0,
                    min=0.0,
                    max=1_000_000.0,
                    step=1.0,
                    optional=True,
                    tooltip="How long it may be used again; 0: as the settings say.",
                ),
                io.Boolean.Input("pin", default=False, optional=True, tooltip="Never evict it."),
                io.String.Input(
                    "namespace", default="", optional=True, tooltip="Whose entry it is; empty: the setting."
                ),
            ],
            outputs=[
                ANYTHING.Output(display_name="value", is_output_list=True),
                io.String.Output(display_name="status"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    async def check_lazy_status(cls, value=None, **given):
        if not _is_missing(value):
            return []
        options = _options(given)
        begun = _begun[cls.hidden.unique_id] = _Begun(time.perf_counter())
        while len(_begun) > _AT_ONCE:
            _begun.popitem(last=False)
        if options.mode == "bypass":
            begun.refusal = "cache=bypass"
            return ["value"]
        try:
            begun.question = await memo().ask(cls.hidden.dynprompt, _link(cls), options)
            if options.mode in ("use", "only"):
                nodes = begun.question.nodes
                begun.answer = memo().find(
                    begun.question, lambda cost: host.watch().saved(nodes, cost, whole=True)
                )
        except NotKeyableError as error:
            begun.refusal = str(error)
        if begun.answer is not None or options.mode == "only":
            return []
        begun.work = host.watch()
        begun.started = time.perf_counter()
        return ["value"]

    @classmethod
    async def execute(cls, value=None, **given):
        options = _options(given)
        begun = _begun.pop(cls.hidden.unique_id, None)
        if begun is None:
            begun = _Begun(time.perf_counter(), refusal="it was given its value at once")
        seconds = time.perf_counter() - begun.started
        if begun.answer is not None:
            saved = begun.answer.saved_seconds
            line = told(begun.answer.status, seconds, saved)
            badges.tell(cls.hidden.unique_id, hits=1, of=1, saved_seconds=saved)
            badges.say(cls.hidden.unique_id, line)
            return io.NodeOutput(begun.answer.value, line, ui={"text": [line]})
        if options.mode == "only" and _is_missing(value):
            why = begun.refusal or "nothing is kept for this graph"
            raise ValueError(f"cache = only: {why}; choose cache = use to run it")
        status = None
        if begun.question is not None and begun.work is not None:
            work = begun.work
            try:
                now = await memo().ask(cls.hidden.dynprompt, _link(cls), options, has_run=True)
                cost = work.whole(now.nodes)
                status = memo().keep(begun.question, now, value, cost=cost, ran=work.ran, options=options)
                if status.stored:
                    work.keep_whole(now.nodes)
            except NotKeyableError as error:
                begun.refusal = str(error)
        if status is None:
            status = memo().bypassed(begun.refusal, seconds)
        line = told(status, seconds, 0.0)
        badges.say(cls.hidden.unique_id, line)
        return io.NodeOutput(list(value), line, ui={"text": [line]})


def _link(node: Any) -> list[Any]:
    return node.hidden.dynprompt.get_node(node.hidden.unique_id)["inputs"]["value"]


def _is_missing(value: Any) -> bool:
    """Say whether the host has not computed the lazy input; a lone None that it did is asked for twice."""
    return value is None or (len(value) == 1 and value[0] is None)


def _options(given: dict[str, Any]) -> Options:
    def first(name: str, default: Any) -> Any:
        values = given.get(name)
        return values[0] if values else default

    return Options(
        mode=first("cache", "use"),
        ttl_hours=first("ttl_hours", 0.0),
        pinned=first("pin", False),
        namespace=first("namespace", "").strip(),
    )
