r"""Bypasses the cache for prompts that mean something else each time they are read.

| in the prompt | means | example |
|---|---|---|
| `__name__` | a line of a wildcard file | `a __color__ car` |
| `{a\|b}` | one of several | `a {red\|blue} car`, `{2$$a\|b\|c}`, `{3::a\|b}` |
| `${name}` | a variable | `${style:oil}` |
| `{time}` `%date%` `[user]` | the time, or who asks | `{date:%Y-%m-%d}` |

A backslash takes the meaning away: `\{a|b\}`, `\__init__`. Braces without a bar, and words with single
underscores, mean themselves. The setting `bypass_dynamic_prompts = false` turns all of this off.
"""

from __future__ import annotations

import re

from ..hookspecs import hookimpl
from ..records import Request

PLACEHOLDERS = (
    "date|datetime|day|hour|minute|month|now|random|second|time|timestamp|today|user|username|uuid|weekday"
    "|year"
)

_WILDCARD = re.compile(r"(?<![\\\w])__(?!_)[^\s_{}|\\](?:[^{}|\\\n]*?[^\s_{}|\\])??__(?!\w)")
_VARIABLE = re.compile(r"(?<!\\)\$\{[^{}]*\}")
_PLACEHOLDER = re.compile(
    rf"(?<!\\)(?:\{{(?:{PLACEHOLDERS})(?::[^{{}}]*)?\}}|%(?:{PLACEHOLDERS})(?::[^%]*)?%"
    rf"|\[(?:{PLACEHOLDERS})(?::[^\[\]]*)?\])",
    re.IGNORECASE,
)


@hookimpl(trylast=True)
def zit_bypass_reason(request: Request) -> str | None:
    prompts = [request.prompt]
    if request.guidance > 0:
        prompts.append(request.negative_prompt)
    for prompt in prompts:
        if found := dynamic_part(prompt):
            return f"dynamic prompt: {found}"
    return None


def dynamic_part(prompt: str) -> str | None:
    r"""Return the first part of the prompt that would be replaced, or None.

    >>> dynamic_part("a __color__ car"), dynamic_part(r"a {red|blue} car"), dynamic_part("a {red} car")
    ('__color__', '{red|blue}', None)
    >>> dynamic_part(r"a \{red|blue\} car"), dynamic_part("snake_case __init")
    (None, None)
    """
    for pattern in (_WILDCARD, _VARIABLE, _PLACEHOLDER):
        if match := pattern.search(prompt):
            return match[0]
    return _alternative(prompt)


def _alternative(prompt: str) -> str | None:
    """Return the first `{...|...}` whose bar belongs to its own braces."""
    open_at: list[tuple[int, bool]] = []
    escaped = False
    for index, letter in enumerate(prompt):
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == "{":
            open_at.append((index, False))
        elif letter == "|" and open_at:
            open_at[-1] = (open_at[-1][0], True)
        elif letter == "}" and open_at:
            start, has_bar = open_at.pop()
            if has_bar:
                return prompt[start : index + 1]
    return None
