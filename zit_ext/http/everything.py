"""All routes of ours, in one list."""

from __future__ import annotations

from . import (
    a1111_dialect,
    administration,
    answers,
    audits,
    blobs,
    entries,
    events,
    generating,
    health,
    history,
    metrics,
    nearest,
    openai_dialect,
    openapi,
    pages,
    thumbnails,
)
from .service import Route


def zit_routes() -> list[Route]:
    """Return the routes under `/zit/`: what a host mounts."""
    return [
        *generating.routes(),
        *blobs.routes(),
        *health.routes(),
        *entries.routes(),
        *thumbnails.routes(),
        *audits.routes(),
        *administration.routes(),
        *answers.routes(),
        *history.routes(),
        *events.routes(),
        *metrics.routes(),
        *openapi.routes(),
        *nearest.routes(),
        *pages.routes(),
    ]


def all_routes() -> list[Route]:
    """Return every route of the program `zit-ext serve`."""
    return [
        *zit_routes(),
        *metrics.program_routes(),
        *pages.home(),
        *openai_dialect.routes(),
        *a1111_dialect.routes(),
    ]
