"""The page "Z-Image cache" of the webui's settings: every setting of zit_ext, from its one declaration."""

from __future__ import annotations

import logging

from zit_ext import Settings

from . import host

log = logging.getLogger("zit_ext")

SECTION = ("zit_ext", "Z-Image cache")
_NAME_CODE = frozenset({"server_python", "plugin_dir", "data_dir"})
"""What they name is run (the Python that was set up lies in data_dir): whoever can reach the page may not
choose it, only who owns the machine."""


def register() -> None:
    """Ask the webui to ask us for our page. Once for each "Reload UI": it forgets its callbacks."""
    host.script_callbacks.on_ui_settings(_add_page)


def _add_page() -> None:
    host.add_option(
        host.SWITCH,
        False,
        "Keep the results of txt2img, and find them again",
        "for every job, with any checkpoint; the box under txt2img does it for one job",
        SECTION,
        by_api=True,
    )
    effective, wrong = host.settings()
    for words in wrong:
        log.error("zit_ext: %s; the setting is left as it is elsewhere", words)
    for each in Settings.described():
        if each.name in _NAME_CODE:
            continue
        origin = effective.origin.get(each.name, "default")
        host.add_option(
            host.OPTION_PREFIX + each.name,
            "",
            each.name,
            f"{each.metadata['help']} Now: {getattr(effective, each.name)} ({origin}). "
            "Empty: as in your zit_ext settings file. Counts from the next start of the webui.",
            SECTION,
            by_api=False,
        )
