"""The demo's picture sheet: every picture of the table with its caption, in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .rows import Row

TILE = 256
MARGIN = 12
CAPTION = 46


def write_sheet(path: Path, rows: Sequence[Row], folder: Path) -> Path:
    """Write the sheet and return its path. Needs Pillow, which comes with the pipeline."""
    from PIL import Image, ImageDraw

    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    size = (columns * (TILE + MARGIN) + MARGIN, lines * (TILE + CAPTION + MARGIN) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for index, row in enumerate(rows):
        left = MARGIN + (index % columns) * (TILE + MARGIN)
        top = MARGIN + (index // columns) * (TILE + CAPTION + MARGIN)
        with Image.open(folder / row.file) as picture:
            sheet.paste(picture.convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST), (left, top))
        draw.text((left, top + TILE + 6), f"{row.name} ({_answered(row)})", fill="black")
        draw.text((left, top + TILE + 24), f"{row.seconds:.4f} s   {row.digest[:16]}", fill="dimgray")
    sheet.save(path)
    return path


def _answered(row: Row) -> str:
    """Return what became of a request, in words: "hit from disk", "miss, rendered"."""
    return f"{row.outcome}, rendered" if row.tier == "render" else f"{row.outcome} from {row.tier}"
