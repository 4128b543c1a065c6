"""Decides what happens to torch, the one package that people have good reasons to choose themselves."""

from __future__ import annotations

from enum import Enum

from .versions import parsed


class TorchStep(str, Enum):
    """What to do about torch before the other packages are installed."""

    KEEP = "keep the one that is there"
    FOLLOW = "install the verified version"
    REPLACE = "install it again, whatever is there"


def choose(
    installed: str | None,
    *,
    imports: bool,
    verified: str,
    least: str,
    verified_before: str | None,
    index: str | None,
    index_before: str | None,
) -> TorchStep:
    """Return what to do. Versions are texts; `verified_before` is the pin when we last installed.

    A torch that works and is new enough is left alone, unless it is the one that we installed and the
    verified version has moved on, or another index was asked for.

    >>> choose("2.9.1+cu126", imports=True, verified="2.13.0", least="2.5", verified_before=None,
    ...        index=None, index_before=None).name
    'KEEP'
    """
    if installed is None:
        return TorchStep.FOLLOW
    if not imports or (index is not None and index != index_before):
        return TorchStep.REPLACE
    if parsed(installed) == parsed(verified):
        return TorchStep.KEEP
    ours = verified_before is not None and parsed(installed) == parsed(verified_before)
    if ours or parsed(installed) < parsed(least):
        return TorchStep.FOLLOW
    return TorchStep.KEEP
