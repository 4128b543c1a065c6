"""When memory ran out. The host goes on then, in another way: tiles, slices, which are other bits.

It says so in its log, or it does not; torch counts on GPUs whatever it could not give.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from .graph import CHECKS_CONTENT

HARMLESS = CHECKS_CONTENT | {
    "EmptyImage",
    "EmptyLatentImage",
    "EmptySD3LatentImage",
    "EmptyAudio",
    "SolidMask",
}
"""Core nodes that come to the same however little memory there is."""

OBJECTS = frozenset(
    {
        "MODEL", "CLIP", "VAE", "CONTROL_NET", "CLIP_VISION", "STYLE_MODEL", "UPSCALE_MODEL", "GLIGEN",
        "MODEL_PATCH", "AUDIO_ENCODER", "HOOKS", "SAMPLER", "NOISE", "GUIDER", "INT", "FLOAT", "STRING",
        "BOOLEAN", "COMBO",
    }
)  # fmt: skip
"""What a node may hand on without having computed many numbers."""


class MemoryTroubles(logging.Handler):
    """Listens to a log, and asks for a count that grows; `clock` is that by which nodes are timed."""

    def __init__(self, clock: Callable[[], float], count: Callable[[], int]) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._count = count
        self._counted = 0
        self._at: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if "out of memory" in record.getMessage().lower():
            self._at = self._clock()

    def last(self) -> float | None:
        """Return when it was last, at the latest; None for never. What is counted shows when asked."""
        counted = self._count()
        if counted > self._counted:
            self._at = self._clock()
        self._counted = counted
        return self._at

    def touched(
        self,
        classes: Iterable[tuple[str, str]],
        ran: Mapping[str, float],
        outputs_of: Callable[[str], Iterable[str]],
    ) -> str | None:
        """Return the class of a node whose numbers may be of such a time; None if there is none.

        `classes` are ids and classes, `ran` says when nodes began, if they ran in this prompt at all.
        """
        at = self.last()
        if at is None:
            return None
        for node_id, name in classes:
            plain = name in HARMLESS or OBJECTS.issuperset(outputs_of(name))
            if not plain and ran.get(node_id, at) <= at:
                return name
        return None
