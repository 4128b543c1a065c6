"""The tab "Z-Image": fields, the webui's own gallery, and below it the cache and the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from zit_ext.http.catalogue import Catalogue

from . import host, host_checkpoint, host_page, host_tab, infotext, tab_job, tab_setup, weights

NAME = "zit"
TITLE = "Z-Image"
SIZES = (
    "1024 x 1024",
    "1152 x 896",
    "896 x 1152",
    "1216 x 832",
    "832 x 1216",
    "1344 x 768",
    "768 x 1344",
    "512 x 512",
)
_PANEL = (
    '<iframe class="zit-panel" data-zit="{part}" title="{title}" loading="lazy" '
    'src="zit/?panel=a1111&amp;theme=auto#{part}"></iframe>'
)


def register() -> None:
    """Ask the webui to ask us for our tab. Once for each "Reload UI": it forgets its callbacks."""
    host_tab.require_panel()
    host_tab.script_callbacks.on_ui_tabs(_tabs)


def _tabs() -> list[tuple[Any, str, str]]:
    with gr.Blocks(analytics_enabled=False) as tab:
        _Tab().build()
    return [(tab, TITLE, NAME)]


def _id(name: str) -> str:
    return f"{NAME}_{name}"


class _Tab:
    """The controls, and what they do."""

    def build(self) -> None:
        with gr.Row(elem_id=_id("toprow")):
            with gr.Column(scale=6):
                self.prompt = gr.Textbox(
                    label="Prompt",
                    lines=3,
                    placeholder="What the picture shows; <lora:name:0.8> adds a LoRA",
                    elem_id=_id("prompt"),
                )
                self.negative = gr.Textbox(
                    label="Negative prompt",
                    lines=1,
                    placeholder="Counts only with a guidance above 0",
                    elem_id=_id("negative_prompt"),
                )
            with gr.Column(scale=1, min_width=160):
                self.go = gr.Button("Generate", variant="primary", elem_id=_id("generate"))
                self.interrupt = gr.Button("Interrupt", elem_id=_id("interrupt"))
                self.paste = gr.Button("Read parameters", elem_id=_id("paste"))
        with gr.Row():
            with gr.Column(variant="panel"):
                self._fields()
            with gr.Column():
                self.gallery, self.told, self.text, self.log = host_tab.output_panel(NAME)
        with gr.Accordion("Cache", open=False, elem_id=_id("cache")):
            gr.HTML(_PANEL.format(part="overview", title="Cache"))
        with gr.Accordion("Models", open=False, elem_id=_id("models")):
            self._models()
        self._connect()

    def _fields(self) -> None:
        with gr.Row():
            self.size = gr.Dropdown(list(SIZES), value=SIZES[0], label="Size preset", elem_id=_id("size"))
            self.swap = gr.Button("Swap sides", elem_id=_id("swap"))
        with gr.Row():
            self.width = _slider("Width", 64, 2048, 16, 1024)
            self.height = _slider("Height", 64, 2048, 16, 1024)
        with gr.Row():
            self.steps = _slider("Steps", 1, 50, 1, 8)
            self.guidance = _slider("Guidance", 0, 10, 0.1, 0)
            self.count = _slider("Batch count", 1, 16, 1, 1)
        with gr.Row():
            self.seed = gr.Textbox(value="-1", label="Seed", max_lines=1, elem_id=_id("seed"))
            self.draw = gr.Button("Random seed", elem_id=_id("random_seed"))
            self.again = gr.Button("Reuse seed", elem_id=_id("reuse_seed"))
        names = list(Catalogue(host.settings()[0]).names)
        with gr.Row():
            self.model = gr.Dropdown(
                names, value=names[0], label="Model", allow_custom_value=True, elem_id=_id("model")
            )
            self.lora = gr.Dropdown([], label="Add LoRA", elem_id=_id("lora"))
            self.look = gr.Button("Look for weights", elem_id=_id("look"))
        with gr.Accordion("Scheduler", open=False, elem_id=_id("scheduler")), gr.Row():
            self.sigmas = gr.Dropdown(
                list(infotext.SIGMAS), value="as the model", label="Sigmas", elem_id=_id("sigmas")
            )
            self.shift = _slider("Shift (0: as the model)", 0, 12, 0.1, 0)
        with gr.Accordion("Image to image", open=False, elem_id=_id("img2img")):
            self.image = gr.Image(type="pil", label="Start from", elem_id=_id("image"))
            self.strength = _slider("Denoising strength", 0.05, 1, 0.05, 0.6)
        self.free = gr.Checkbox(
            value=True,
            label="Free the webui's own checkpoint first (it comes back with its next job)",
            elem_id=_id("free_checkpoint"),
        )
        tab_setup.build(_id)

    def _models(self) -> None:
        with gr.Row():
            away = gr.Button("Free the webui's checkpoint", elem_id=_id("free_now"))
            back = gr.Button("Bring it back", elem_id=_id("bring_back"))
        state = gr.HTML(elem_id=_id("checkpoint"))
        away.click(_free_now, inputs=[], outputs=[state])
        back.click(_bring_back, inputs=[], outputs=[state])
        gr.HTML(_PANEL.format(part="models", title="Models"))

    def _connect(self) -> None:
        task = gr.Textbox(value="", visible=False)
        form = [
            self.prompt, self.negative, self.width, self.height, self.steps, self.guidance, self.seed,
            self.count, self.model, self.sigmas, self.shift, self.image, self.strength, self.free,
        ]  # fmt: skip
        shown = [self.gallery, self.told, self.text, self.log]
        begin = {host_tab.JS: "(...each) => window.zitSubmit ? window.zitSubmit(each) : each"}
        # By the page itself, here and for seeds: an answer of ours might come after what was pressed next.
        # And what Gradio 4 says of a selection, it refuses itself if the picture was saved.
        chosen: dict[str, Any] = {
            "inputs": [self.told, self.text],
            "outputs": [self.text],
            "show_progress": False,
            host_tab.JS: "(told, shown) => window.zitText ? window.zitText(told, shown) : shown",
        }
        self.gallery.select(None, **chosen)
        for event in (self.go.click, self.prompt.submit):
            answered = event(_generate, inputs=[task, *form], outputs=shown, show_progress=False, **begin)
            # The gallery goes on showing the third picture if the third was chosen before.
            answered.then(None, **chosen)
        self.interrupt.click(host_tab.interrupt, inputs=[], outputs=[], show_progress=False)
        quiet: dict[str, Any] = {"show_progress": False}
        self.size.change(_sides, inputs=[self.size], outputs=[self.width, self.height], **quiet)
        self.swap.click(
            lambda *sides: sides[::-1],
            inputs=[self.width, self.height],
            outputs=[self.width, self.height],
            **quiet,
        )
        self.draw.click(None, inputs=[], outputs=[self.seed], **quiet, **{host_tab.JS: "() => '-1'"})
        reuse = {host_tab.JS: "(told, seed) => window.zitSeed ? window.zitSeed(told, seed) : seed"}
        self.again.click(None, inputs=[self.told, self.seed], outputs=[self.seed], **quiet, **reuse)
        self.look.click(_found, inputs=[self.model], outputs=[self.model, self.lora], **quiet)
        self.lora.change(
            _with_lora, inputs=[self.prompt, self.lora], outputs=[self.prompt, self.lora], **quiet
        )
        fields = {
            "prompt": self.prompt, "negative_prompt": self.negative, "width": self.width,
            "height": self.height, "steps": self.steps, "guidance": self.guidance, "seed": self.seed,
            "model": self.model, "sigmas": self.sigmas, "shift": self.shift, "strength": self.strength,
        }  # fmt: skip
        self.paste.click(
            lambda text, image: _pasted(text, image, list(fields)),
            inputs=[self.prompt, self.image],
            outputs=list(fields.values()),
            **quiet,
        )
        host_tab.can_be_sent_to(
            NAME, self.image, [(control, _reader(name)) for name, control in fields.items()]
        )


def _slider(label: str, least: float, most: float, step: float, value: float) -> Any:
    name = label.partition(" (")[0].lower().replace(" ", "_")
    return gr.Slider(least, most, value=value, step=step, label=label, elem_id=_id(name))


def _generate(task: str, *values: Any) -> tab_job.Shown:
    return tab_job.generate(task, tab_job.Form(**dict(zip(_FORM, values, strict=True))))


_FORM = tuple(tab_job.Form.__dataclass_fields__)


def _sides(size: str) -> tuple[int, int]:
    width, _, height = size.partition(" x ")
    return int(width), int(height)


def _found(model: str) -> tuple[Any, Any]:
    """Look for weights that can be named: when asked, since there may be thousands of files."""
    models, loras = weights.names()
    models = list(dict.fromkeys([*models, *([model] if model else [])]))
    return gr.update(choices=models), gr.update(choices=loras)


def _with_lora(prompt: str, name: str | None) -> tuple[Any, Any]:
    """Write a chosen LoRA into the prompt, where the webui's users look for it."""
    if not name:
        return gr.update(), gr.update()
    return f"{prompt.rstrip()} <lora:{name}:1>".lstrip(), gr.update(value=None)


def _pasted(text: str, image: Any, names: list[str]) -> list[Any]:
    """Read the infotext in the prompt's field, or else that of the picture to start from."""
    values = host_tab.parsed(text)
    if "Steps" not in values and image is not None:
        values = host_tab.parsed(host_tab.infotext_of(image))
    found = infotext.read(values) if "Steps" in values else {}
    return [gr.update(value=found[name]) if name in found else gr.update() for name in names]


def _reader(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda values: infotext.read(values).get(name)


def _free_now() -> str:
    with host_page.queue():
        freed = host_checkpoint.free()
    return _state("The webui's checkpoint has left the device." if freed else "There was nothing to free.")


def _bring_back() -> str:
    with host_page.queue():
        back = host_checkpoint.bring_back()
    return _state("The webui's checkpoint is back." if back else "It was not away.")


def _state(words: str) -> str:
    return f"<p class='zit-state'>{words}</p>"
