"""What can go wrong while setting up: always one message that says what to do."""

from __future__ import annotations


class SetupError(Exception):
    """Setting up cannot go on. `what` happened, and `remedy` mends it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n  {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy
