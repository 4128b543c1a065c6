"""Waits until memory is really free: drivers and allocators give it back later than they say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.25
MOST_SECONDS = 5.0


async def until_free(
    ask: Callable[[], Awaitable[int | None]], needed: int, sleep: Callable[[float], Awaitable[None]]
) -> int | None:
    """Return the free bytes once `needed` are free, or after five seconds; None if nobody knows them."""
    free = await ask()
    waited = 0.0
    while free is not None and free < needed and waited < MOST_SECONDS:
        await sleep(POLL_SECONDS)
        waited += POLL_SECONDS
        free = await ask()
    return free
