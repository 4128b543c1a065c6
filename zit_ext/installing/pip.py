"""Runs pip, and when it fails says what happened and what to do, in words for a newcomer."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from .children import as_typed, clean_environ, run
from .trouble import SetupError

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|Errno 28|WinError 112|Disk quota exceeded",
        "The disk is full.",
        "Free some space (rendering needs up to 8 GB on Linux, most of it torch), or let TMPDIR name a "
        "folder on a larger disk, and run the same command again.",
    ),
    (
        r"ProxyError|407 Proxy|Tunnel connection failed|Cannot connect to proxy",
        "The proxy refused the connection to the package index.",
        "Set HTTPS_PROXY (http://user:password@host:port), and run the same command again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "The certificate of the package index was not accepted.",
        "Behind a company's proxy, let PIP_CERT name its certificate file; otherwise check the clock.",
    ),
    (
        r"NewConnectionError|Failed to establish|Temporary failure in name resolution|getaddrinfo failed"
        r"|ConnectTimeout|ReadTimeout|Read timed out|Connection refused|Network is unreachable"
        r"|ConnectionResetError|Connection aborted|NameResolutionError|connection broken",
        "The package index could not be reached.",
        "Check the network (HTTPS_PROXY behind a proxy, PIP_INDEX_URL for a mirror). Offline, fill a folder "
        "elsewhere with `pip download` and let PIP_FIND_LINKS name it. Then run the same command again: "
        "it goes on where it stopped.",
    ),
    (
        r"THESE PACKAGES DO NOT MATCH THE HASHES|BadZipFile|Wheel .* is invalid|is not a zip file",
        "A download arrived damaged.",
        "Run `python -m pip cache purge`, then the same command again.",
    ),
    (
        r"WinError 206|path too long|Long Path",
        "A path became too long for Windows.",
        "Move the project to a shorter path, such as C:\\zit_ext, or enable long paths in Windows.",
    ),
    (
        r"Permission denied|WinError 5\b|WinError 32\b|Access is denied|Read-only file system",
        "A file could not be written.",
        "Close programs that use this .venv, make the folder writable, and run the same command again.",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "The versions that were asked for do not go together.",
        "If PIP_CONSTRAINT or a pip configuration file (`python -m pip config list`) asks for others, "
        "take that away for this command.",
    ),
)


def install(
    python: Path, arguments: Sequence[str], *, cwd: Path | None = None, hold: Sequence[int] = ()
) -> None:
    """Run `pip install` in that Python. Raises SetupError with cause and remedy."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    errors: list[str] = []
    code = run(command, environ=clean_environ(), cwd=cwd, on_error_line=errors.append, hold=hold)
    if code:
        raise failed(command, "\n".join(errors), code)


def downloaded_bytes(temporary: Path) -> int:
    """Return how many bytes of packages lie in pip's temporary folder just now."""
    total = 0
    for folder in temporary.glob("pip-unpack-*"):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:  # pip takes them away as we look
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
    return total


def failed(command: Sequence[str], errors: str, code: int) -> SetupError:
    """Return what to say of a pip that failed: cause, remedy and command."""
    what, remedy = explained(errors, code)
    # An index's address may hold a password.
    shown = re.sub(r"://[^/@\s]+@", "://...@", as_typed(command))
    return SetupError(f"{what} (pip ended with code {code})", f"{remedy}\n  The command was: {shown}")


def explained(errors: str, code: int, platform: str = sys.platform) -> tuple[str, str]:
    """Return what pip's errors mean and what to do about it.

    >>> explained("ERROR: [Errno 28] No space left on device", 1)[0]
    'The disk is full.'
    """
    for pattern, what, remedy in _CAUSES:
        if re.search(pattern, errors, re.IGNORECASE):
            return what, remedy
    here = f"Python {sys.version_info[0]}.{sys.version_info[1]} on this machine ({platform})"
    if missing := re.search(r"No matching distribution found for (\S+)", errors):
        offered = re.search(r"from versions: (.*?)\)", errors)
        if offered and offered[1] == "none":
            return (
                f"The package index offers no {missing[1]} at all.",
                "Either it cannot be reached (see the lines above, and PIP_INDEX_URL), or it has no build "
                f"for {here}.",
            )
        return (
            f"There is no {missing[1]} for {here}.",
            "Run install.py with another Python from 3.10 to 3.13 (64 bit), or give --torch-index for torch.",
        )
    if code in (137, 9):
        return "pip was killed, most likely because memory ran out.", "Close other programs and run it again."
    if "No module named pip" in errors:
        return "This Python has no pip.", f"Run `{sys.executable} -m ensurepip`, then the same command again."
    return (
        "pip failed; its own message stands above.",
        "Mend that, and run the same command again: it is repeatable.",
    )
