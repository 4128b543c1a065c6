"""What a test says of two fingerprints: the same key, or another one because of a certain field."""

from __future__ import annotations

from .fingerprint import differing_fields
from .records import Fingerprint


def assert_field_changes_key(before: Fingerprint, after: Fingerprint, field: str) -> None:
    """Fail unless the keys differ, and this field (`plugin.field`) is among the reasons.

    >>> from zit_ext.fingerprint import fingerprint
    >>> assert_field_changes_key(fingerprint({"a.b": 1}), fingerprint({"a.b": 2}), "a.b")
    """
    __tracebackhide__ = True
    changed = differing_fields(before.fields, after.fields)
    if any(name == field or name.startswith(f"{field}.") for name in changed):
        if before.key != after.key:
            return
        raise AssertionError(f"field {field!r} differs, and the key is the same: {before.key}")
    value = before.fields.get(field, "not there")
    others = f"what differs is {', '.join(sorted(changed))}" if changed else "nothing differs"
    raise AssertionError(f"field {field!r} is {value!r} in both fingerprints; {others}")


def assert_same_key(before: Fingerprint, after: Fingerprint) -> None:
    """Fail, and say what differs, unless both fingerprints have one key."""
    __tracebackhide__ = True
    if before.key != after.key:
        changed = differing_fields(before.fields, after.fields)
        lines = [f"  {name}: {one!r} -> {other!r}" for name, (one, other) in sorted(changed.items())]
        raise AssertionError("\n".join(["the keys differ:", *lines]))
