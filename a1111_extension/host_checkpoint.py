"""Moves the webui's own checkpoint off the device while Z-Image renders, and back before its next job.

Verified with AUTOMATIC1111 1.10.1 (docs/hosts.md). Facts without another source are read in its source.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

from modules import sd_models

from . import host
from .host_weights import is_forge

log = logging.getLogger("zit_ext")

_taken = False
"""The device was asked for: our weights may be on it."""
_away: weakref.ref[Any] | None = None


def free() -> bool:
    """Have the webui's own model leave the device, if one is loaded; tell whether it did.

    `unload_model_weights` would load one first if there is none, and nothing brings it back by itself.
    """
    global _away, _taken
    _taken = True
    model = sd_models.model_data.sd_model
    if model is None or _is_away():
        return False
    move = getattr(sd_models, "send_model_to_cpu", None)
    if move is None or is_forge():
        # Forge moves its models by itself, and brings them back by itself; what moves them here does nothing.
        sd_models.unload_model_weights()
        return True
    move(model)
    _away = weakref.ref(model)
    return True


def bring_back() -> bool:
    """Give the device back: our weights go to RAM, then the webui's own model returns, if it left for them.

    Tell whether the device had been taken.
    """
    global _away, _taken
    if not _taken:
        return False
    try:
        host.engine().park_blocking()
    except Exception as error:  # whatever it is: the webui's own job must find its model
        log.warning("zit_ext: the weights of Z-Image did not leave the device: %s", error)
    if _is_away():
        assert _away is not None
        sd_models.send_model_to_device(_away())
        _away = None
    _taken = False  # not before: if there was no room, the next job tries again
    return True


def _is_away() -> bool:
    return _away is not None and _away() is not None and _away() is sd_models.model_data.sd_model
