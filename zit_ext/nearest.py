"""What somebody may have meant who wrote a name wrong."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], most: int = 2, cutoff: float = 0.4) -> list[str]:
    """Return the known names that look most like this one, the best first.

    >>> nearest("promt", ["prompt", "seed"])
    ['prompt']
    """
    import difflib  # slow to import, and wanted only for a mistake

    return difflib.get_close_matches(name, list(known), n=most, cutoff=cutoff)
