"""Reaches the model server of a device, and starts one where there is none.

A server is started detached: it survives the program that started it. It may be another Python's: `boot`
loads this package from its folder, and nothing else from where this program's packages are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ServerError
from ..settings import Settings
from .connection import Connection, Peer, connect
from .home import ServerHome
from .protocol import HANDSHAKE_SECONDS, PROTOCOL, RETIRE, STOP, ProtocolError, ServerLostError, newer
from .provisioned import provisioned

ANOTHER_SERVES = 3
"""Exit code of a server that found another one at work."""

SERVER = "zit_ext.model_server.process"

_BOOT = (
    "import importlib.util as u, sys; root = sys.argv.pop(1); "
    "spec = u.spec_from_file_location('zit_ext', root + '/__init__.py', submodule_search_locations=[root]); "
    "module = u.module_from_spec(spec); sys.modules['zit_ext'] = module; spec.loader.exec_module(module); "
    "import importlib; sys.exit(importlib.import_module(sys.argv.pop(1)).main(sys.argv[1:]))"
)


@dataclass(frozen=True, slots=True)
class ServerPython:
    """An interpreter that can run the server, and the variables it needs for that."""

    executable: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> ServerPython:
        """Return the one that the setting `server_python` names; else the one that was provisioned; else
        this program's own.
        """
        if settings.server_python != "auto":
            return cls(Path(os.path.expanduser(settings.server_python)))  # noqa: PTH111 - ~nobody is a name
        found = provisioned(settings)
        return cls(Path(sys.executable)) if found is None else cls(Path(found.executable), found.environ)


def boot(python: ServerPython, arguments: list[str], module: str = SERVER) -> list[str]:
    """Return the command that runs the server, or another module's `main`, with this very package."""
    package = Path(__file__).resolve().parent.parent
    return [str(python.executable), "-c", _BOOT, str(package), module, *arguments]


def settings_argument(settings: Settings) -> str:
    """Return the settings that are no defaults, as the server reads them."""
    usual = Settings()
    told: dict[str, Any] = {}
    for each in Settings.described():
        value = getattr(settings, each.name)
        if value != getattr(usual, each.name):
            told[each.name] = _plain(value)
    # These two are defaults that depend on variables; the server must have the client's.
    return json.dumps(told | {"cache_dir": str(settings.cache_dir), "data_dir": str(settings.data_dir)})


async def reach(home: ServerHome) -> tuple[Connection, Peer] | None:
    """Return a conversation with the server that runs; None if none does, or none answers."""
    try:
        state = home.state()
        return None if state is None else await connect(state.port, state.token)
    except (ServerLostError, ProtocolError, OSError):
        return None


async def server_for(home: ServerHome, settings: Settings, python: ServerPython) -> Connection:
    """Return a conversation with a server of this version; start it, or replace an older one, if need be.

    Raises ServerError.
    """
    try:
        return await _server_for(home, settings, python)
    except OSError as error:
        raise ServerError(
            f"{home.folder} cannot be used ({error.strerror})", "see the setting data_dir"
        ) from error


async def _server_for(home: ServerHome, settings: Settings, python: ServerPython) -> Connection:
    deadline = time.monotonic() + (settings.server_start_timeout or float("inf"))
    while True:
        reached = await reach(home) or await _start(home, settings, python, deadline)
        connection, peer = reached
        if peer.is_alike:
            return connection
        with contextlib.suppress(ServerLostError, ProtocolError):
            if newer(peer.version, __version__) or peer.protocol > PROTOCOL:
                connection.close()
                raise ServerError(
                    f"the model server is of the newer version {peer.version}, this program of {__version__}",
                    "restart this program, or choose renderer=local",
                )
            await connection.send({"op": RETIRE})
            await connection.receive(HANDSHAKE_SECONDS)
        connection.close()
        if time.monotonic() > deadline:
            raise ServerError(
                f"a model server of the older version {peer.version} still renders for others",
                "try again when it is done, or end it with `zit-ext server stop`",
            )
        await asyncio.sleep(0.2)


async def stop(home: ServerHome, patience: float = 30.0) -> bool:
    """End the server, gently if it listens; say whether there was one. Raises ServerError if it stays."""
    pid = home.holder("lock")
    if pid is None and not home.is_locked("lock"):
        return False
    reached = await reach(home)
    if reached is not None:
        connection, _ = reached
        with contextlib.suppress(ServerLostError, ProtocolError):
            await connection.send({"op": STOP})
            await connection.receive(HANDSHAKE_SECONDS)
        connection.close()
    if await _is_gone(home, pid, patience if reached else 1.0):
        return True
    # It holds its lock all the time and does not end by itself, so the number is still its own.
    for how in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if pid is not None:
            with contextlib.suppress(OSError):
                os.kill(pid, how)
        if await _is_gone(home, pid, 10.0):
            return True
    raise ServerError(f"the model server (process {pid or 'unknown'}) does not end", "end it by hand")


async def _is_gone(home: ServerHome, pid: int | None, patience: float) -> bool:
    """Say whether this server has let go of its lock. Whoever still waits may have started another."""
    deadline = time.monotonic() + patience
    while home.is_locked("lock") and (pid is None or home.holder("lock") in (pid, None)):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def _start(
    home: ServerHome, settings: Settings, python: ServerPython, deadline: float
) -> tuple[Connection, Peer]:
    """Start a server, or wait for the one that another program starts just now."""
    async with _only_one_starts(home, deadline):
        if (reached := await reach(home)) is not None:
            return reached
        child = _spawn(home, settings, python)
        while True:
            code = child.poll()
            if (reached := await reach(home)) is not None:
                return reached
            if code == ANOTHER_SERVES:
                raise ServerError(
                    f"a model server (process {home.holder('lock')}) is there and does not answer",
                    "end it with `zit-ext server stop`",
                )
            if code is not None:
                words = home.last_words()
                raise ServerError(
                    f"the model server ended with code {code} while it started"
                    + (f": {words}" if words else ""),
                    f"see {home.output if words else home.log}",
                )
            if time.monotonic() > deadline:
                child.kill()
                raise ServerError(
                    f"the model server did not start within {settings.server_start_timeout:g} seconds",
                    f"see {home.log}, or set server_start_timeout higher",
                )
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _only_one_starts(home: ServerHome, deadline: float) -> AsyncIterator[None]:
    while (lock := home.try_lock("starting")) is None:
        if time.monotonic() > deadline:
            raise ServerError("another program starts a model server and does not come to an end", "end it")
        await asyncio.sleep(0.05)
    with home.held(lock):
        yield


def _spawn(home: ServerHome, settings: Settings, python: ServerPython) -> subprocess.Popen[bytes]:
    command = boot(python, ["--settings", settings_argument(settings)])
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
        detached = {"creationflags": flags}
    home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = os.open(home.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(private, "wb") as output:
        try:
            child = subprocess.Popen(
                command,
                env={**os.environ, **python.environ},
                cwd=home.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **detached,
            )
        except OSError as error:
            raise ServerError(
                f"{python.executable} cannot be started ({error.strerror})", "see the setting server_python"
            ) from error
    # Waited for, so that a server which ends while we live leaves no zombie.
    threading.Thread(target=child.wait, name="zit-server-end", daemon=True).start()
    return child


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return "auto" if value is None else value
