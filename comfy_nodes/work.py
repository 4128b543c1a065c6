"""What the nodes of one prompt cost, and what hits save of that: each node's seconds once. Pure.

Several hits may stand for one computation: `node_cache` answers a sampler, and the Cache (any) below it
answers for that sampler, too. Nor do two entries that were kept in one prompt share the seconds of a node.
What cannot be told apart is counted too little rather than twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection


class Work:
    """The nodes of one prompt: when they ran, and what was saved of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.ran: dict[str, float] = {}
        """When nodes began, by id."""
        self._seconds: dict[str, float] = {}
        self._shared_out: set[str] = set()
        self._kept: list[frozenset[str]] = []
        self._hits: list[tuple[frozenset[str], float]] = []

    def began(self, node_id: str) -> None:
        self.ran[node_id] = self._clock()
        self._seconds.pop(node_id, None)

    def ended(self, node_id: str) -> None:
        if node_id in self.ran:  # else it was answered by the host's own cache
            self._seconds[node_id] = self._clock() - self.ran[node_id]

    # What an entry costs

    def share(self, nodes: Collection[str]) -> float:
        """Return the seconds that these nodes took and no entry of `node_cache` has yet."""
        return sum(self._spent(each) for each in nodes if each not in self._shared_out)

    def keep_share(self, nodes: Collection[str]) -> None:
        """Remember that an entry of `node_cache` has the seconds of these."""
        self._shared_out.update(each for each in nodes if each in self.ran)

    def whole(self, nodes: Collection[str]) -> float:
        """Return what a Cache (any) saves that answers for all of these nodes, whoever did it this time.

        What is above another cache as well, on another branch, that one has.
        """
        mine = frozenset(nodes)
        elsewhere = [each for each in self._kept if not (each <= mine or each >= mine)]
        mine -= frozenset().union(*elsewhere)
        return sum(map(self._spent, mine)) + self._saved_within(frozenset(nodes))

    def keep_whole(self, nodes: Collection[str]) -> None:
        """Remember that a Cache (any) has the seconds of these."""
        self._kept.append(frozenset(nodes))

    # What a hit saves

    def saved(self, nodes: Collection[str], cost: float, *, whole: bool) -> float:
        """Count a hit; return how many of the seconds that its entry cost no other hit has saved already.

        `whole` is that of a Cache (any). The entries of `node_cache` have nothing in common.
        """
        stands_for = frozenset(nodes)
        seconds = cost
        if whole and stands_for <= frozenset().union(*(each for each, _ in self._hits)):
            seconds = 0.0
        elif whole:
            seconds = max(0.0, cost - self._saved_within(stands_for))
        self._hits.append((stands_for, seconds))
        return seconds

    def _saved_within(self, nodes: frozenset[str]) -> float:
        return sum(seconds for stands_for, seconds in self._hits if stands_for <= nodes)

    def _spent(self, node_id: str) -> float:
        """Return how long a node took; one that runs still, until now."""
        if node_id in self._seconds:
            return self._seconds[node_id]
        return self._clock() - self.ran[node_id] if node_id in self.ran else 0.0
