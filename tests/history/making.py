"""Answers to count, and recorders to count them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from zit_ext.answered import Answered

ROOT = Path(__file__).parents[2]
NOW = 1_900_000_000.0
DAY = 86_400.0


def answer(outcome: str = "hit", at: float = NOW, **more: object) -> Answered:
    facts = {
        "at": at,
        "outcome": outcome,
        "reason": None if outcome == "hit" else "absent",
        "detail": None,
        "key": None,
        "tier": "memory",
        "stored": False,
        "collapsed": False,
        "seconds": 0.0004,
        "saved_seconds": 2.0 if outcome == "hit" else 0.0,
        "render_seconds": 0.0 if outcome == "hit" else 2.0,
        "namespace": "default",
        "model": "m",
        "prompt": "a fox",
        "seed": 1,
        "width": 64,
        "height": 64,
        "media_type": "image/png",
        "blob": None,
        "request_id": None,
    }
    return Answered(**{**facts, **more})  # type: ignore[arg-type]


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "history").glob("history-*.sqlite3"))


def rows(path: Path, question: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as db:
        found = db.execute(question).fetchall()
    db.close()
    return found
