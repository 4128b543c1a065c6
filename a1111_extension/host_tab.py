"""What the tab uses of the webui: its panel, its queue and progress bar, its infotexts.

Apart from `host_page.py`, since relatives of A1111 lack some of it: then the tab is left out, and no more.
Verified with AUTOMATIC1111 1.10.1 (docs/hosts.md). Facts without another source are read in its source.
"""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Callable
from typing import Any

import gradio as gr
from modules import call_queue, images, infotext_utils, progress, script_callbacks, shared, ui_common
from PIL import Image

__all__ = ["script_callbacks"]

JS = "js" if "js" in inspect.signature(gr.Button("", render=False).click).parameters else "_js"
"""How this gradio calls the browser's part of an event: 3 says _js, 4 says js."""


def require_panel() -> None:
    """Raise RuntimeError where there are no infotexts and no panel as in A1111 and Forge."""
    parts = ((infotext_utils, "parse_generation_parameters"), (ui_common, "create_output_panel"))
    lacking = [name for module, name in parts if not hasattr(module, name)]
    if lacking:
        raise RuntimeError(f"there is no {' and no '.join(lacking)}")


# The queue and the progress bar


def queued(job: Callable[..., tuple[Any, ...]], failed: list[Any]) -> Callable[..., tuple[Any, ...]]:
    """Return the job as the webui runs its own: one at a time, with progress, its time under the picture."""
    wrapped: Callable[..., tuple[Any, ...]] = call_queue.wrap_gradio_gpu_call(job, extra_outputs=failed)
    return wrapped


def is_over(task: str) -> None:
    """Tell the progress bar of a task which was never in the queue that it is over."""
    progress.finish_task(task)


class Watching:
    """The watcher of a render for the webui's progress bar, live preview, Interrupt and Skip."""

    def __init__(self, jobs: int) -> None:
        shared.state.job_count = jobs
        shared.state.textinfo = "Z-Image"

    def step(self, done: int, total: int) -> None:
        shared.state.sampling_step, shared.state.sampling_steps = done, total

    def preview(self, png: bytes) -> None:
        if shared.opts.live_previews_enable:
            shared.state.assign_current_image(Image.open(io.BytesIO(png)).convert("RGB"))

    def wants_stop(self) -> bool:
        return bool(shared.state.interrupted or shared.state.skipped)

    def next_picture(self) -> bool:
        """Begin with the next picture of the job; tell whether it is still wanted."""
        shared.state.job_no += 1
        shared.state.sampling_step = 0
        shared.state.skipped = False
        return not (shared.state.interrupted or getattr(shared.state, "stopping_generation", False))


def interrupt() -> None:
    shared.state.interrupt()


# Pictures and their infotext


def picture(pixels: Any) -> Any:
    """Return pixels as a picture of PIL's."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[pixels.channels]
    return Image.frombytes(mode, (pixels.width, pixels.height), pixels.data)


def output_panel(name: str) -> tuple[Any, Any, Any, Any]:
    """Return the webui's own gallery with its buttons: gallery, generation info, infotext and log."""
    made = ui_common.create_output_panel(name, shared.opts.outdir_txt2img_samples)
    if hasattr(made, "gallery"):
        return made.gallery, made.generation_info, made.infotext, made.html_log
    gallery, generation_info, infotext, html_log = made  # before 1.9
    return gallery, generation_info, infotext, html_log


def save(image: Any, infotext: str, *, seed: int, prompt: str) -> None:
    """Save a picture as the webui saves those of txt2img, if it is to save any; note where."""
    image.info["parameters"] = infotext
    if shared.opts.samples_save:
        folder = shared.opts.outdir_samples or shared.opts.outdir_txt2img_samples
        images.save_image(image, folder, "", seed, prompt, shared.opts.samples_format, info=infotext, p=None)


def infotext_of(image: Any) -> str:
    """Return what a picture says of how it was made; empty if it says nothing."""
    told, _ = images.read_info_from_image(image)
    return told or ""


def parsed(infotext: str) -> dict[str, Any]:
    """Return the values in an infotext by their names, as the webui reads them."""
    if not infotext:
        return {}
    values: dict[str, Any] = infotext_utils.parse_generation_parameters(infotext)
    return values


def can_be_sent_to(name: str, image: Any, fields: list[tuple[Any, Any]]) -> None:
    """Have other tabs and extensions know how to fill this tab's fields in."""
    with contextlib.suppress(AttributeError):
        infotext_utils.add_paste_fields(name, image, fields)


def as_html(text: str) -> str:
    shown: str = ui_common.plaintext_to_html(text)
    return shown
