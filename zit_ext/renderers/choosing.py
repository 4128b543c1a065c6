"""Who renders: this program or the model server. A decision, and the looks at the world that it needs."""

from __future__ import annotations

import functools

from .. import __version__
from ..model_server import needs
from ..model_server.home import ServerHome
from ..model_server.protocol import newer
from ..model_server.provisioned import provisioned
from ..settings import Settings

SERVER_LABELS = frozenset({"a1111"})
"""Programs whose Python cannot run Z-Image, or must not be changed so that it can."""


def wants_server(settings: Settings, label: str = "python") -> bool:
    """Say whether a miss of this program goes to the model server, if this program holds no weights itself.

    As the setting `renderer` says. Where it says auto: yes if a server of the device runs, so that no
    second copy of the weights is made; in the A1111 family; and where this Python cannot render while
    another one is known for the server. No otherwise. Takes microseconds.
    """
    if settings.renderer != "auto":
        return settings.renderer == "server"
    return label in SERVER_LABELS or _runs(settings) or _only_another_fits(settings)


def _runs(settings: Settings) -> bool:
    try:
        state = ServerHome.of(settings).state()
    except OSError:
        return False  # a folder that cannot be read holds no server of ours
    # A newer one takes no questions from this version; it is no reason to fail where this program can render.
    return state is not None and not newer(state.version, __version__)


def _only_another_fits(settings: Settings) -> bool:
    another = settings.server_python != "auto" or provisioned(settings) is not None
    # In this order: to look at the packages here takes 20 ms, and every program that starts asks.
    return another and not this_python_fits()


@functools.cache  # what a program has imported stays, whatever pip does meanwhile
def this_python_fits() -> bool:
    """Say whether this program's Python has all that Z-Image needs."""
    return not needs.missing(needs.here())
