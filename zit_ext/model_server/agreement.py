"""Do client and server mean the same picture? Plugins that act on renders must say the same on both sides.

A key is made from what the client's plugins say; the pixels come from what the server's plugins do. Where
the two differ, the picture is answered and never kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import PluginError
from ..fingerprint import canonical_bytes
from ..plugins import Hooks
from ..records import FieldValue, Request


def render_fields(hooks: Hooks, request: Request) -> dict[str, FieldValue]:
    """Return the fields of those plugins that act where the weights are. Raises PluginError."""
    acting = tuple(
        f"{name}."
        for name, report in list(hooks.plugins.reports.items())
        if "zit_open_pipeline" in report.hooks and report.origin not in ("built in", "host")
    )
    if not acting:
        return {}
    said = hooks.fingerprint_fields(request)
    return {name: value for name, value in said.items() if name.startswith(acting)}


def disagreement(theirs: Mapping[str, FieldValue], ours: Mapping[str, FieldValue]) -> str | None:
    """Return in words how the client's fields differ from the server's; None if they do not.

    >>> disagreement({"int8.bits": 8}, {})
    'int8.bits is 8 in this program and absent in the model server'
    """
    for name in sorted({*theirs, *ours}):
        here, there = theirs.get(name), ours.get(name)
        if (name in theirs) != (name in ours) or canonical_bytes(here) != canonical_bytes(there):
            shown = [repr(each[name]) if name in each else "absent" for each in (theirs, ours)]
            return f"{name} is {shown[0]} in this program and {shown[1]} in the model server"
    return None


def doubt_about(hooks: Hooks, request: Request, theirs: Mapping[str, FieldValue]) -> str | None:
    """Return why a picture that is rendered here is perhaps not what the client's key names."""
    if broken := hooks.plugins.broken(request.media_type):
        return f"plugin {broken.name!r} is broken in the model server ({broken.broken})"
    if failed := hooks.failed_to_open(request.model, theirs):
        return f"plugin {failed!r} failed in the model server when the weights were opened"
    try:
        return disagreement(theirs, render_fields(hooks, request))
    except PluginError as error:
        return str(error)
