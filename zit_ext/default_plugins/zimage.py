"""Opens Z-Image models. A plugin like any other, asked last: others may open the same weights first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import PackageMissingError
from ..hookspecs import hookimpl
from ..records import ModelRef

if TYPE_CHECKING:
    from ..pipeline import Pipeline


class ZImage:
    """Registered by the runtime, which knows how to open them: `opens` brings torch when it is called."""

    touches = ("image/*",)

    def __init__(self, opens: Callable[[ModelRef], Pipeline]) -> None:
        self._opens = opens

    @hookimpl(trylast=True)
    def zit_open_pipeline(self, model: ModelRef) -> Pipeline | None:
        if model.path is None:
            return None  # a source such as "stripes:red", and whose plugin is not here
        try:
            return self._opens(model)
        except ModuleNotFoundError as error:
            raise PackageMissingError(str(error.name)) from error
