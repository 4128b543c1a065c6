"""The tiny model, opened as ours and as diffusers opens it, and ways to make pictures with both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from zit_ext.codecs import Pixels
from zit_ext.pipeline import Rendered
from zit_ext.records import ModelRef, Request
from zit_ext.settings import Settings
from zit_ext.testing import QuietWatcher


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in the layout of diffusers."""
    from zit_ext.models.tiny import build

    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def other_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape with other weights."""
    from diffusers import ZImagePipeline

    from zit_ext.models.tiny import components

    folder = tmp_path_factory.mktemp("models") / "other"
    ZImagePipeline(**components(seed=100)).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def open_zimage() -> Iterator[Callable[..., Any]]:
    """Open a model the way the product does, and close it in the end."""
    from zit_ext.models.zimage import open_pipeline

    opened = []

    def open_it(model: ModelRef | Path, **settings: Any) -> Any:
        ref = model if isinstance(model, ModelRef) else ModelRef(source=str(model), path=model)
        pipeline = open_pipeline(ref, Settings(device="cpu", **settings))
        opened.append(pipeline)
        return pipeline

    yield open_it
    for pipeline in opened:
        pipeline.close()


@pytest.fixture(scope="session")
def zimage(open_zimage: Callable[..., Any], tiny: Path) -> Any:
    """The tiny model, opened once for all tests that leave it as it is."""
    return open_zimage(tiny)


@pytest.fixture(scope="session")
def plain() -> Callable[..., Any]:
    """Open a model as diffusers does."""

    def open_it(folder: Path, dtype: str = "float32", **replaced: Any) -> Any:
        import diffusers
        import torch

        release = tuple(int(number) for number in diffusers.__version__.split(".")[:2])
        wanted = {"dtype" if release >= (0, 41) else "torch_dtype": getattr(torch, dtype)}
        pipe = diffusers.ZImagePipeline.from_pretrained(
            str(folder), local_files_only=True, **wanted, **replaced
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return open_it


@pytest.fixture(scope="session")
def plain_tiny(plain: Callable[..., Any], tiny: Path) -> Any:
    return plain(tiny)


@pytest.fixture
def ask() -> Callable[..., Request]:
    """Make a small request; what is not given is the tests' default."""

    def make(**fields: Any) -> Request:
        return Request(**{"prompt": "a red fox in the snow", "seed": 42, "width": 64, "height": 64, **fields})

    return make


class Leases:
    """Stands in for the holder: lends what is asked for, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.held: set[str] = set()

    def __call__(self, *parts: str) -> AbstractContextManager[None]:
        return self._lend(parts)

    @contextmanager
    def _lend(self, parts: tuple[str, ...]) -> Iterator[None]:
        self.asked.append(parts)
        self.held |= set(parts)
        try:
            yield
        finally:
            self.held -= set(parts)


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def render() -> Callable[..., Rendered]:
    """Render a request with one of our pipelines."""

    def make(pipeline: Any, request: Request, watcher: Any = None, lease: Any = None) -> Rendered:
        watcher = watcher or QuietWatcher()
        rendered: Rendered = pipeline.render(
            request, lease or (lambda *parts: contextlib.nullcontext()), watcher
        )
        return rendered

    return make


@pytest.fixture
def plainly() -> Callable[..., Pixels]:
    """Make the picture of a request as somebody would who calls diffusers."""

    def make(pipe: Any, request: Request, **arguments: Any) -> Pixels:
        import diffusers
        import torch
        from diffusers import ZImageImg2ImgPipeline

        given: dict[str, Any] = {
            "prompt": request.prompt,
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps + (diffusers.__version__ < "0.39"),
            "guidance_scale": request.guidance,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
        }
        if request.guidance > 0:
            given["negative_prompt"] = request.negative_prompt
        given |= arguments
        if "image" in given:
            pipe = ZImageImg2ImgPipeline(**pipe.components)
            pipe.set_progress_bar_config(disable=True)
            given["strength"] = request.strength
        (picture,) = pipe(**given).images
        return Pixels(picture.width, picture.height, 3, picture.tobytes())

    return make
