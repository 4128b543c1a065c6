"""Numbers as people read them: sizes, durations, ages."""

from __future__ import annotations

_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_TIMES = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0))


def size(count: int | None) -> str:
    """
    >>> size(999), size(1_234_567), size(20_500_000_000)
    ('999 B', '1.23 MB', '20.5 GB')
    """
    if count is None:
        return "-"
    for unit, least in _SIZES:
        if count >= least * 0.9995:
            return f"{_three_digits(count / least)} {unit}"
    return f"{count} B"


def cap(most: int | None) -> str:
    """Return a limit in bytes: None is chosen by the store, 0 is none.

    >>> cap(0), cap(1000), cap(None)
    ('any size', '1 kB', '10 GB or 10 % of the free disk, the smaller')
    """
    if most is None:
        return "10 GB or 10 % of the free disk, the smaller"
    return size(most) if most else "any size"


def duration(seconds: float | None) -> str:
    """
    >>> duration(0.0123), duration(3.21), duration(5400), duration(200_000), duration(None)
    ('12.3 ms', '3.21 s', '1.5 h', '2.31 d', '-')
    """
    if seconds is None:
        return "-"
    if abs(seconds) < 1:
        return f"{_three_digits(seconds * 1000)} ms" if seconds else "0 s"
    for unit, least in _TIMES:
        if abs(seconds) >= least:
            return f"{_three_digits(seconds / least)} {unit}"
    return f"{_three_digits(seconds)} s"


def age(seconds: float) -> str:
    """
    >>> age(-5), age(42), age(3700), age(200_000)
    ('now', '42 s', '1 h', '2 d')
    """
    if seconds < 1:
        return "now"
    for unit, least in _TIMES:
        if seconds >= least:
            return f"{int(seconds / least)} {unit}"
    return f"{int(seconds)} s"


def ago(seconds: float) -> str:
    """
    >>> ago(0.2), ago(90)
    ('just now', '1 min ago')
    """
    return "just now" if seconds < 1 else f"{age(seconds)} ago"


def count(number: int, one: str, many: str | None = None) -> str:
    """
    >>> count(1, "entry", "entries"), count(2, "entry", "entries"), count(0, "file")
    ('1 entry', '2 entries', '0 files')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _three_digits(number: float) -> str:
    places = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
