"""Entries and their fields as JSON has them: for the CLI, the HTTP API and whoever reads either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .records import Entry, FieldValue


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return everything that the index says of an entry. Times are Unix seconds.

    `model` is its source, which may be a path on this machine.
    """
    return {
        "key": entry.key,
        "digest": entry.content_digest,
        "blob": entry.blob.digest,
        "media_type": entry.blob.media_type,
        "size": entry.blob.size,
        "namespace": entry.namespace,
        "created_at": entry.created_at,
        "used_at": entry.used_at,
        "expires_at": entry.expires_at,
        "uses": entry.uses,
        "cost": entry.cost,
        "pinned": entry.pinned,
        "model": entry.model,
        "prompt": entry.prompt,
    }


def json_fields(value: FieldValue) -> Any:
    """Return fields as JSON has them; bytes as their hexadecimal digits.

    >>> json_fields({"image": b"ab", "sigmas": (1.0, 0.5)})
    {'image': '6162', 'sigmas': [1.0, 0.5]}
    """
    if isinstance(value, Mapping):
        return {str(name): json_fields(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_fields(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value
