"""Reads an infotext as the webui does (`modules.infotext_utils.parse_generation_parameters` of 1.10.1)."""

from __future__ import annotations

import json
import re
from typing import Any

_VALUE = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"^(\d+)x(\d+)$")


def parse(text: str) -> dict[str, Any]:
    """Return the values by name: the last line's, if it holds three or more, and the prompts before it."""
    *lines, last = text.strip().split("\n")
    if len(_VALUE.findall(last)) < 3:
        lines, last = [*lines, last], ""
    prompts: dict[str, list[str]] = {"Prompt": [], "Negative prompt": []}
    into = "Prompt"
    for line in (each.strip() for each in lines):
        if line.startswith("Negative prompt:"):
            into, line = "Negative prompt", line[16:].strip()
        if prompts[into] or line:  # an empty first line is none
            prompts[into].append(line)
    found: dict[str, Any] = {name: "\n".join(each) for name, each in prompts.items()}
    for name, value in _VALUE.findall(last):
        plain = json.loads(value) if value.startswith('"') and value.endswith('"') else value
        if size := _SIZE.match(plain):
            found |= {f"{name}-1": size[1], f"{name}-2": size[2]}
        else:
            found[name] = plain
    return found
