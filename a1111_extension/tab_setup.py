"""First use: "Set up rendering" makes the Python that renders. What it takes is said before it begins."""

from __future__ import annotations

import html
import logging
import threading
from collections.abc import Callable, Iterator

import gradio as gr

from zit_ext.errors import ServerError
from zit_ext.model_server.probing import most_to_download
from zit_ext.model_server.provisioned import folder_of
from zit_ext.model_server.provisioning import Progress, Steps, provision

from . import host, readiness

log = logging.getLogger("zit_ext")


def build(name_of: Callable[[str], str]) -> None:
    """Add the button and what it says."""
    ready = readiness.is_set_up()
    with gr.Accordion("Set up rendering", open=not ready, elem_id=name_of("setup")):
        shown = gr.HTML(_words(ready), elem_id=name_of("setup_state"))
        with gr.Row():
            begin = gr.Button("Set up rendering", elem_id=name_of("setup_begin"))
            stop = gr.Button("Stop", elem_id=name_of("setup_stop"))
    begin.click(_set_up, inputs=[], outputs=[shown], show_progress=False)
    stop.click(_stop, inputs=[], outputs=[shown], show_progress=False)


def _words(ready: bool) -> str:
    if ready:
        return _html(["Rendering is set up."])
    return _html(
        [
            "Z-Image is rendered by a Python of its own; the webui's packages stay as they are.",
            f"The button makes one in {folder_of(host.settings()[0])}: torch, diffusers and what they need, "
            f"a download of up to {most_to_download() / 1e9:.1f} GB. It may be stopped, and goes on later. "
            "Weights are not part of it: those that are on this machine are found.",
        ]
    )


def _set_up() -> Iterator[str]:
    """Yield what goes on, as HTML. What runs already is shown, and not begun a second time."""
    global _run
    if _run is None or not _run.is_alive():
        _run = _Run(provision(host.settings()[0]))
        _run.start()
    run = _run
    while run.is_alive():
        yield run.shown
        run.join(0.3)
    yield run.shown


def _stop() -> str:
    if _run is None or not _run.is_alive():
        return _words(readiness.is_set_up())
    _run.wants_stop = True
    return _html(["Stopping. Press the button again to go on where it was."])


class _Run(threading.Thread):
    """Provisions on a thread of its own: the page may be closed meanwhile, and opened again."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(name="zit-a1111-setup", daemon=True)
        self._steps = steps
        self.wants_stop = False
        self.shown = _html(["Looking at this machine."])

    def run(self) -> None:
        said: list[str] = []
        try:
            for step in self._steps:
                if step.words:
                    said = [*said[-7:], f"{step.phase}: {step.words}"]
                ready = step.made is not None
                self.shown = _html(["Rendering is set up.", step.words] if ready else said, step)
                if self.wants_stop:
                    self.shown = _html([*said, "Stopped. Press the button again to go on where it was."])
                    return
        except ServerError as error:
            self.shown = _html([*said, str(error)], failed=True)
        except Exception as error:  # nobody else would tell: the page goes on showing the last step
            log.exception("rendering could not be set up")
            self.shown = _html([*said, f"{type(error).__name__}: {error}"], failed=True)
        finally:
            self._steps.close()  # what runs for it ends


_run: _Run | None = None


def _html(lines: list[str], step: Progress | None = None, *, failed: bool = False) -> str:
    bar = ""
    if step is not None and step.total_bytes and step.done_bytes:
        part = min(100.0, 100 * step.done_bytes / step.total_bytes)
        words = f"{step.done_bytes / 1e6:,.0f} MB of at most {step.total_bytes / 1e6:,.0f} MB"
        bar = f'<div class="zit-bar"><div style="width:{part:.1f}%"></div></div><p>{words}</p>'
    kind = "zit-setup error" if failed else "zit-setup"
    return f'<div class="{kind}">{"".join(f"<p>{html.escape(each)}</p>" for each in lines)}{bar}</div>'
