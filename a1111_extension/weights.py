"""Which weights the tab may name. A name, never a path: whoever can open the page may not point anywhere."""

from __future__ import annotations

import os

from zit_ext.errors import RequestError
from zit_ext.found_weights import found_weights
from zit_ext.http.catalogue import Catalogue
from zit_ext.models.weights import Kind
from zit_ext.settings import Settings

from . import host


def names() -> tuple[list[str], list[str]]:
    """Return the models and the LoRAs that are there, after looking for them: that may take seconds."""
    settings = host.engine().settings
    catalogue = Catalogue(settings)
    catalogue.look()
    return list(catalogue.names), _loras(settings)


def model(name: str | None) -> str:
    """Return what the engine calls the model of this name; none is the settings'. Raises RequestError."""
    if not name:
        return ""
    catalogue = Catalogue(host.engine().settings)
    try:
        return catalogue.source_of("model", name)
    except RequestError:
        catalogue.look()  # one that is found may be called as its file is: with spaces, in a sub-folder
        return catalogue.source_of("model", name)


def lora(name: str) -> str:
    """Return what the engine calls the LoRA of this name. Raises RequestError."""
    settings = host.engine().settings
    try:
        return Catalogue(settings).source_of("loras", name)
    except RequestError:
        if name in _loras(settings):
            return name
        raise


def shown(source: str) -> str:
    """Return the name of a model for an infotext."""
    return Catalogue(host.engine().settings).name_of(source)


def _loras(settings: Settings) -> list[str]:
    found = found_weights(settings, os.environ)
    return sorted({each.name for each in found if each.kind is Kind.LORA})
