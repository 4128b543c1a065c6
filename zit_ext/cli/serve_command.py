"""`zit-ext serve` and `token`: the HTTP API as a program, and who may use it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import hashlib
import ipaddress
import re
import secrets
import signal
from pathlib import Path
from typing import Any

from ..errors import RequestError, SettingError
from ..settings import Settings
from .context import Context
from .parser import Commands, UsageError
from .request_options import number

PORT = 7788
SCOPES = ("generate", "read", "admin")


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "serve",
        serve,
        help="answer requests over HTTP until Ctrl-C",
        description="Answers OpenAI's Images API, the webui's API and our own, on this machine only unless "
        '--listen says otherwise, which needs tokens. Needs aiohttp: pip install "zit_ext[serve]".',
    )
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1")
    parser.add_argument(
        "--port", type=number, default=PORT, metavar="N", help=f"0 chooses one (default: {PORT})"
    )
    parser.add_argument("--tokens", metavar="FILE", help="who may ask: see `zit-ext token`")

    parser = commands.add(
        "token",
        token,
        help="make a token for a client of `zit-ext serve`",
        description="Writes the digest of a new token to the file, and the token itself to stdout, once.",
    )
    parser.add_argument("name", metavar="NAME", help="whose token it is")
    parser.add_argument("--tokens", metavar="FILE", help="the file; default: the setting http_tokens")
    parser.add_argument(
        "--scopes", default="generate,read", metavar="A,B", help=f"of {', '.join(SCOPES)} (generate,read)"
    )
    parser.add_argument("--namespace", metavar="NAME", help="whose entries it makes and sees; * is any")


def serve(options: argparse.Namespace, context: Context) -> int:
    settings = _with_tokens(context.settings(), options.tokens)
    address, port = options.listen, _port(options.port)
    if settings.http_tokens is None and not _is_loopback(address):
        raise UsageError(f"--listen {address} needs tokens: make one with `zit-ext token`, and name --tokens")
    try:
        from ..http.serving import serve as serve_http
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is needed: pip install 'zit_ext[serve]'") from None
    from ..http.everything import all_routes
    from ..http.gates import gate_of
    from ..http.service import Service

    gate = gate_of(settings)
    runtime = context.open_runtime(settings)
    try:
        service = Service(runtime, routes=all_routes(), gate=gate)
        runtime.begin_preloading()

        def ready(chosen: int) -> None:
            shown = f"[{address}]" if ":" in address else address
            who = "whoever is on this machine" if gate.is_open else "whoever has a token"
            context.console.say(f"http://{shown}:{chosen}/ answers {who}; Ctrl-C ends it")

        async def run() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for name in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                    loop.add_signal_handler(name, stop.set)
            try:
                await serve_http(service, host=address, port=port, ready=ready, stop=stop)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise SettingError(
                    "port",
                    port,
                    "another program listens on it, perhaps another `zit-ext serve`; name a free --port",
                ) from None

        with contextlib.suppress(KeyboardInterrupt):  # Windows knows no handlers on its loop
            asyncio.run(run())
    finally:
        runtime.close()
    return 0


def token(options: argparse.Namespace, context: Context) -> int:
    settings = _with_tokens(context.settings(), options.tokens)
    path = settings.http_tokens
    if path is None:
        raise UsageError("name the file with --tokens, or set http_tokens")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", options.name):
        raise RequestError("name", options.name, "give 1 to 64 letters, digits, - or _")
    scopes = [each.strip() for each in options.scopes.split(",")]
    if not set(scopes) <= set(SCOPES):
        raise RequestError("scopes", options.scopes, f"give some of {', '.join(SCOPES)}")
    from ..http.auth import read_tokens

    there = read_tokens(path, settings.namespace) if path.exists() else []
    if any(each.caller.name == options.name for each in there):
        raise RequestError("name", options.name, f"{path.name} has a token of that name already")
    made = secrets.token_hex(32)
    _append(path, options.name, made, scopes, options.namespace)
    context.console.say(made)
    return 0


def _append(path: Path, name: str, made: str, scopes: list[str], namespace: str | None) -> None:
    lines = [f"[{name}]", f'sha256 = "{hashlib.sha256(made.encode()).hexdigest()}"']
    lines.append(f"scopes = [{', '.join(f'{chr(34)}{each}{chr(34)}' for each in scopes)}]")
    if namespace is not None:
        if not re.fullmatch(r"\*|[\w.@+-]{1,128}", namespace):
            raise RequestError("namespace", namespace, "give letters, digits and . _ @ + -, or *")
        lines.append(f'namespace = "{namespace}"')
    path.touch(mode=0o600, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n\n")


def _with_tokens(settings: Settings, given: str | None) -> Settings:
    return settings if given is None else settings.with_values({"http_tokens": given}, "--tokens")


def _port(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= 65535:
        raise SettingError("port", value, "give a whole number from 0 to 65535")
    return value


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
