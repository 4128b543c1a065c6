"""What a Python needs to render Z-Image, and what this one lacks. Reads versions, imports nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..installing.versions import parsed, plain

LEAST = {
    "torch": "2.5",
    "diffusers": "0.36",
    "transformers": "4.51",
    "accelerate": "1.0",
    "peft": "0.15",
    "safetensors": "0.4.5",
    "huggingface-hub": "0.34",
    "numpy": "1.26",
    "pillow": "10",
}
"""Versions that can render; pyproject.toml says the same, and a test keeps the two in step."""


def missing(packages: Mapping[str, str]) -> list[str]:
    """Return the names of what these packages, by plain name, lack or have too old.

    >>> missing({**LEAST, "diffusers": "0.35"})
    ['diffusers']
    """
    return [name for name, least in LEAST.items() if parsed(packages.get(name, "")) < parsed(least)]


def here(names: Iterable[str] = LEAST) -> dict[str, str]:
    """Return the versions that this Python has of these packages, by plain name; absent ones are left out."""
    # Here, since it takes 20 ms: whoever only meets hits does not pay for it.
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[plain(name)] = version(name)
        except PackageNotFoundError:
            continue
    return found
