"""A model by its name, as a request would ask for it. For whoever has a name and no request."""

from __future__ import annotations

from ..policy import with_defaults
from ..records import ModelRef, Request
from ..settings import Settings
from .resolver import Resolver


def model_named(source: str, settings: Settings) -> ModelRef:
    """Return the weights of this name, found, and put to use as the settings say. Empty: the settings' model.

    Raises ModelError, RequestError.
    """
    request = Request(prompt="", seed=0, model=ModelRef(source=source))
    return Resolver(settings).resolve(with_defaults(request, settings)).model
