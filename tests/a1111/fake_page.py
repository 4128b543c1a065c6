"""A webui with nothing in it but the extension: real Gradio, `modules.*` just large enough for the page.

A program of an environment with Gradio 3.41 (A1111) or 4.40 (Forge), without torch and without diffusers:

    python fake_page.py FOLDER PORT [--api-auth ann:secret] [--gradio-auth ann:secret]
"""

from __future__ import annotations

import argparse
import html
import os
import sys
import threading
import time
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from PIL import PngImagePlugin

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from reading_infotext import parse  # noqa: E402 - beside this program

_SCRIPT = """<script>
function onUiLoaded(told) {
    const look = setInterval(() => {
        if (document.querySelector("#zit_overview, #zit_cache")) { clearInterval(look); told(); }
    }, 50);
}
</script>"""


class Options(SimpleNamespace):
    """The webui's settings, with no more of them than the page asks for."""

    def add_option(self, name: str, option: Any) -> None:
        self.data_labels[name] = option


class Checkpoint:
    """The webui's own model, as far as it can be moved."""

    device = "cuda"
    loaded_vae_file = None
    used_config = ""
    sd_checkpoint_info = SimpleNamespace(filename="tiny.safetensors")


class Webui:
    """The modules, and what the extension told them to call."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.callbacks: dict[str, list[Any]] = {}
        self.folder = folder
        self.cmd_opts = SimpleNamespace(
            api_auth=arguments.api_auth,
            gradio_auth=arguments.gradio_auth,
            listen=False,
            share=False,
            server_name=None,
            ngrok=None,
        )
        self.checkpoint = Checkpoint()
        self.begun = 0
        self.modules = self._modules()
        self.state = self.modules["shared"].state

    def _modules(self) -> dict[str, ModuleType]:
        def module(name: str, **content: Any) -> ModuleType:
            made = ModuleType(f"modules.{name}")
            made.__dict__.update(content)
            return made

        def telling(name: str) -> Any:
            return lambda told: self.callbacks.setdefault(name, []).append(told)

        events = ("on_app_started", "on_ui_tabs", "on_ui_settings", "on_model_loaded")
        options = Options(
            data={},
            data_labels={},
            samples_save=True,
            samples_format="png",
            outdir_samples="",
            outdir_txt2img_samples=str(self.folder / "outputs"),
            live_previews_enable=True,
            sd_checkpoint_cache=0,
            sd_vae_checkpoint_cache=0,
        )
        state = SimpleNamespace(interrupted=False, skipped=False, stopping_generation=False, seen=[])
        state.job_no = state.job_count = state.sampling_step = state.sampling_steps = 0
        state.assign_current_image = lambda image: state.seen.append(image.size)
        state.interrupt = lambda: setattr(state, "interrupted", True)
        model = SimpleNamespace(sd_model=self.checkpoint)
        empty = ("devices", "extra_networks", "processing", "sd_hijack", "sd_samplers", "sd_unet")
        return {
            **{name: module(name) for name in empty},
            "sd_vae": module("sd_vae", loaded_vae_file=None),
            "call_queue": module(
                "call_queue", queue_lock=threading.Lock(), wrap_gradio_gpu_call=self._queued
            ),
            "extensions": module("extensions", active=list),
            "images": module("images", save_image=self._save, read_info_from_image=self._read),
            "infotext_utils": module(
                "infotext_utils", parse_generation_parameters=parse, add_paste_fields=lambda *_: None
            ),
            "paths": module("paths", script_path=str(self.folder), models_path=str(self.folder / "models")),
            "progress": module("progress", finish_task=lambda task: None),
            "script_callbacks": module("script_callbacks", **{name: telling(name) for name in events}),
            "scripts": module("scripts", Script=type("Script", (), {}), AlwaysVisible=object()),
            "sd_models": module(
                "sd_models",
                model_data=model,
                send_model_to_cpu=lambda moved: setattr(moved, "device", "cpu"),
                send_model_to_device=lambda moved: setattr(moved, "device", "cuda"),
            ),
            "shared": module(
                "shared", opts=options, cmd_opts=self.cmd_opts, state=state, OptionInfo=SimpleNamespace
            ),
            "ui_common": module("ui_common", create_output_panel=_panel, plaintext_to_html=_as_html),
        }

    def _queued(self, job: Any, extra_outputs: list[Any]) -> Any:
        def run(*values: Any) -> tuple[Any, ...]:
            state = self.state
            with self.modules["call_queue"].queue_lock:
                state.interrupted = state.skipped = False
                state.job_no = state.sampling_step = 0
                self.begun += 1
                try:
                    shown = list(job(*values))
                except Exception as error:
                    shown = [*extra_outputs, f"<div class='error'>{html.escape(repr(error))}</div>"]
            shown[-1] += "<p class='time'>Time taken</p>"
            return tuple(shown)

        return run

    def _save(self, image: Any, folder: str, *_: Any, info: str, p: Any) -> None:
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        told = PngImagePlugin.PngInfo()
        told.add_text("parameters", info)
        image.save(path / f"{len(list(path.iterdir())):05}.png", pnginfo=told)

    def _read(self, image: Any) -> tuple[Any, dict[str, Any]]:
        return image.info.get("parameters"), {}

    # The page

    def serve(self, port: int) -> None:
        package = ModuleType("modules")
        package.__dict__.update(self.modules)
        sys.modules["modules"] = package
        sys.modules.update({f"modules.{name}": each for name, each in self.modules.items()})
        spec = util.spec_from_file_location("zit_script", ROOT / "scripts" / "zit_script.py")
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(util.module_from_spec(spec))
        _have_our_files()
        tabs = [each for told in self.callbacks["on_ui_tabs"] for each in told()]
        with gr.Blocks(analytics_enabled=False, title="webui") as demo, gr.Tabs(elem_id="tabs"):
            with gr.TabItem("txt2img"):
                gr.Markdown("The webui's own")
            for page, label, name in tabs:
                with gr.TabItem(label, id=name, elem_id=f"tab_{name}"):
                    page.render()
        demo.queue(64) if gr.__version__.startswith("3.") else demo.queue(default_concurrency_limit=64)
        login = self.cmd_opts.gradio_auth
        app, _, _ = demo.launch(
            server_name="127.0.0.1",
            server_port=port,
            prevent_thread_lock=True,
            show_api=False,
            quiet=True,
            auth=tuple(login.split(":")) if login else None,
        )
        self.modules["shared"].demo = demo
        for told in self.callbacks["on_app_started"]:
            told(demo, app)
        app.add_api_route("/fake", self._tell)
        print("ready", flush=True)

    def _tell(self) -> dict[str, Any]:
        """What a test asks of the webui itself."""
        return {
            "checkpoint": self.checkpoint.device,
            "previews": len(self.state.seen),
            "steps": [self.state.sampling_step, self.state.sampling_steps],
            "begun": self.begun,
            "jobs": [self.state.job_no, self.state.job_count],
            "modules": sorted({"torch", "diffusers", "aiohttp"} & sys.modules.keys()),
        }


def _have_our_files() -> None:
    """Put scripts and styles into the page, as the webui does with those of every extension."""
    own = (ROOT / "javascript" / "zit_ext.js").read_text("utf-8")
    head = f"{_SCRIPT}<script>{own}</script><style>{(ROOT / 'style.css').read_text('utf-8')}</style></head>"
    original = gr.routes.templates.TemplateResponse

    def response(*args: Any, **named: Any) -> Any:
        made = original(*args, **named)
        made.body = made.body.replace(b"</head>", head.encode())
        made.init_headers()
        return made

    gr.routes.templates.TemplateResponse = response


def _as_html(text: str) -> str:
    return "<p>" + "<br>".join(map(html.escape, text.split("\n"))) + "</p>"


def _panel(name: str, folder: str) -> Any:
    with gr.Column(elem_id=f"{name}_results"):
        with gr.Group(elem_id=f"{name}_gallery_container"):
            gallery = gr.Gallery(show_label=False, elem_id=f"{name}_gallery", columns=4, preview=True)
        infotext = gr.HTML(elem_id=f"html_info_{name}")
        log = gr.HTML(elem_id=f"html_log_{name}")
        told = gr.Textbox(visible=False, elem_id=f"generation_info_{name}")
    return SimpleNamespace(gallery=gallery, generation_info=told, infotext=infotext, html_log=log)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--api-auth")
    parser.add_argument("--gradio-auth")
    arguments = parser.parse_args()
    Webui(arguments.folder, arguments).serve(arguments.port)
    while True:
        time.sleep(3600)
