"""The webui's modules, just large enough for the native cache: the order of calls is the real one's.

What is rendered is a few numbers made of everything that the job says, so that a picture under a wrong
key would be seen.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch


class FakeWebui:
    """One process of a webui. `modules` go into `sys.modules`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renders = 0
        self.encodes = 0
        self.during_render = lambda p: None
        self.callbacks: dict[str, list[Any]] = {}
        self.checkpoint = folder / "models" / "tiny.safetensors"
        if not self.checkpoint.exists():  # a restart finds the files as they were
            self.write("models/tiny.safetensors", b"weights")
            self.write("models/tiny.yaml", b"config")
        self.model = Model(self)
        self.modules = self._modules()
        self.options = self.modules["modules.shared"].opts

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def load_model(self) -> None:
        self.model.weights = self.checkpoint.read_bytes()
        for told in self.callbacks.get("model_loaded", []):
            told(self.model)

    def load_lora(self, name: str, strength: float = 1.0) -> None:
        """Apply a LoRA as the webui does: read once, and again when its file is newer."""
        networks = self.modules["networks"]
        path = self.folder / "lora" / f"{name}.safetensors"
        held = networks.networks_in_memory.get(name)
        if held is None or path.stat().st_mtime > held.mtime:
            held = Network(name, path)
            networks.networks_in_memory[name] = held
        held.te_multiplier = held.unet_multiplier = strength
        networks.loaded_networks.append(held)

    def begin_loras(self) -> None:
        """Forget which LoRAs are applied: those of the next batch come."""
        self.modules["networks"].loaded_networks.clear()

    def applied(self) -> list[tuple[bytes, Any]]:
        """Return weights and strengths of the LoRAs in effect."""
        loaded = self.modules["networks"].loaded_networks
        return [(each.weights, each.unet_multiplier) for each in loaded]

    def vectors(self) -> dict[str, Any]:
        """Return the textual inversions in memory."""
        database = self.modules["modules.sd_hijack"].model_hijack.embedding_db
        return {name: each.vec for name, each in database.word_embeddings.items()}

    def told_by_encoding(self) -> dict[str, Any]:
        told: dict[str, Any] = self.modules["modules.sd_hijack"].model_hijack.extra_generation_params
        return told

    def _modules(self) -> dict[str, ModuleType]:
        state = SimpleNamespace(interrupted=False, skipped=False, jobs=0)
        state.nextjob = lambda: setattr(state, "jobs", state.jobs + 1)
        hijack = SimpleNamespace(
            optimization_method="sdp",
            extra_generation_params={},
            embedding_db=SimpleNamespace(word_embeddings={}),
        )
        made = {
            "devices": module(
                "modules.devices",
                device=torch.device("cpu"),
                cpu=torch.device("cpu"),
                dtype_vae=torch.float32,
                autocast=nullcontext,
                test_for_nans=lambda samples, where: None,
            ),
            "extensions": module("modules.extensions", active=list),
            "extra_networks": module(
                "modules.extra_networks",
                extra_network_registry={"lora": SimpleNamespace(errors={}), "other": object()},
                extra_network_aliases={},
            ),
            "launch_utils": module(
                "modules.launch_utils", git_tag=lambda: "v1.10.1", commit_hash=lambda: "82a973c0"
            ),
            "paths": module(
                "modules.paths", script_path=str(self.folder), models_path=str(self.folder / "models")
            ),
            "processing": module(
                "modules.processing", DecodedSamples=DecodedSamples, decode_latent_batch=decode
            ),
            "script_callbacks": module(
                "modules.script_callbacks",
                on_model_loaded=lambda told: self.callbacks.setdefault("model_loaded", []).append(told),
                on_ui_settings=lambda told: self.callbacks.setdefault("ui_settings", []).append(told),
            ),
            "scripts": module("modules.scripts", Script=Script, AlwaysVisible=object()),
            "sd_hijack": module("modules.sd_hijack", model_hijack=hijack),
            "sd_models": module("modules.sd_models", model_data=SimpleNamespace(sd_model=self.model)),
            "sd_samplers": module(
                "modules.sd_samplers", create_sampler=lambda name, model: SimpleNamespace(eta=None)
            ),
            "sd_unet": module("modules.sd_unet", current_unet=None),
            "sd_vae": module("modules.sd_vae", loaded_vae_file=None),
            "shared": module(
                "modules.shared",
                opts=Options(),
                cmd_opts=SimpleNamespace(no_half=True, port=7860),
                state=state,
                sd_upscalers=[SimpleNamespace(name="Lanczos", data_path=None)],
                loaded_hypernetworks=[],
                OptionInfo=OptionInfo,
            ),
        }
        package = module("modules", **made)
        networks = module(
            "networks",
            loaded_networks=[],
            networks_in_memory={},
            available_networks={},
            available_network_aliases={},
            forbidden_network_aliases={},
        )
        # The native cache needs no gradio: it draws one box.
        gradio = module("gradio", Accordion=lambda *a, **k: nullcontext(), Checkbox=SimpleNamespace)
        return {
            "modules": package,
            "networks": networks,
            "gradio": gradio,
            **{f"modules.{name}": each for name, each in made.items()},
        }


def module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(content)
    return made


class Model:
    def __init__(self, webui: FakeWebui) -> None:
        self.sd_checkpoint_info = SimpleNamespace(filename=str(webui.checkpoint))
        self.used_config = str(webui.folder / "models/tiny.yaml")
        self.loaded_vae_file = None
        self.weights = b""


class Network:
    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.network_on_disk = SimpleNamespace(filename=str(path))
        self.mtime = path.stat().st_mtime
        self.weights = path.read_bytes()
        self.te_multiplier = self.unet_multiplier = 1.0
        self.dyn_dim = None


class Options:
    def __init__(self) -> None:
        self.data_labels: dict[str, Any] = {
            "CLIP_stop_at_last_layers": 1,
            "emphasis": "Original",
            "eta_noise_seed_delta": 0,
            "jpeg_quality": 80,
            "randn_source": "GPU",
            "sd_checkpoint_cache": 0,
            "sd_vae_checkpoint_cache": 0,
            "zit_native_cache": False,
        }
        self.data: dict[str, Any] = {}
        self.added: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        for place in (self.__dict__["data"], self.__dict__["data_labels"]):
            if name in place:
                return place[name]
        raise AttributeError(name)

    def add_option(self, name: str, option: Any) -> None:
        self.added[name] = option
        self.data_labels.setdefault(name, option.default)


class OptionInfo:
    def __init__(self, default: Any, label: str, **details: Any) -> None:
        self.default, self.label, self.details = default, label, details

    def info(self, text: str) -> OptionInfo:
        self.help = text
        return self


class Script:
    """The webui's own base class of scripts, with the hooks that matter here."""

    name = None
    filename = ""
    args_from = args_to = None
    controls: tuple[Any, ...] = ()
    is_img2img = False

    def title(self): ...

    def ui(self, is_img2img): ...

    def show(self, is_img2img): ...

    def process(self, p, *args): ...

    def process_batch(self, p, *args, **kwargs): ...

    def post_sample(self, p, ps, *args): ...

    def postprocess_image(self, p, pp, *args): ...

    def elem_id(self, name):
        return name


class Runner:
    """The scripts of a job, in their order, with their arguments."""

    def __init__(self) -> None:
        self.alwayson_scripts: list[Any] = []
        self.selectable_scripts: list[Any] = []

    def tell(self, hook: str, p: Any, **named: Any) -> None:
        for script in self.alwayson_scripts:
            getattr(script, hook)(p, *p.script_args[script.args_from : script.args_to], **named)


class DecodedSamples(list):
    already_decoded = True


def decode(model: Any, samples: Any, target_device: Any = None, check_for_nans: bool = False) -> Any:
    decoded = DecodedSamples()
    decoded.extend(torch.tanh(samples * 3).unbind(0))
    return decoded


class Txt2Img:
    """A job of the webui. Its samples depend on everything that is in reach."""

    webui: FakeWebui

    def __init__(self, **changes: Any) -> None:
        self.prompt = "a cat"
        self.negative_prompt = ""
        self.seed = 5
        self.subseed_strength = 0.0
        self.steps = 4
        self.batch_size = 1
        self.n_iter = 1
        self.sampler_name = "Euler a"
        self.enable_hr = False
        self.hr_upscaler = "Latent"
        self.latent_scale_mode = {"mode": "bilinear"}
        self.firstpass_image = None
        self.refiner_checkpoint_info = None
        self.hr_checkpoint_info = None
        self.extra_network_data = {}
        self.extra_generation_params = {}
        self.comments = {}
        self.sampler = None
        self.cached_c = type(self).cached_c
        self.c = None
        self.script_args_value = [0]
        self.scripts_value = Runner()
        self.__dict__.update(changes)

    @property
    def scripts(self) -> Runner:
        return self.scripts_value

    @property
    def script_args(self) -> list[Any]:
        return self.script_args_value

    @property
    def sd_model(self) -> Model:
        return self.webui.model

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    def save_samples(self) -> bool:
        return True

    def get_token_merging_ratio(self, for_hr: bool = False) -> float:
        return 0.0

    cached_c: list[Any]
    """Shared by all jobs, and filled in place; like the webui's, it asks for prompts only."""

    def setup_conds(self) -> None:
        if self.cached_c[0] != self.prompts:
            self.webui.encodes += 1
            weights = [each for each, _ in self.webui.applied()]
            self.cached_c[:] = [self.prompts, f"conditions of {self.prompts[0]} {weights}"]
        self.c = self.cached_c[1]

    def sample(self, **arguments: Any) -> Any:
        conditions = arguments["conditioning"]
        assert conditions.startswith(f"conditions of {self.prompts[0]} ")
        self.webui.renders += 1
        self.webui.during_render(self)
        self.extra_generation_params["Schedule type"] = "Karras"
        self.sampler = SimpleNamespace(eta=1.0)
        loras = self.webui.applied()
        seen = [
            conditions,
            self.steps,
            self.prompts,
            self.model_and_options(),
            loras,
            getattr(self, "unknown", None),
        ]
        pictures = []
        for seed in self.seeds:
            digest = hashlib.sha256(repr([seen, seed]).encode()).digest()
            pictures.append(
                torch.frombuffer(bytearray(digest * 3), dtype=torch.uint8).float().reshape(3, 4, 8)
            )
        return torch.stack(pictures) / 128 - 1

    def model_and_options(self) -> Any:
        options = self.webui.options
        layers = options.CLIP_stop_at_last_layers
        vectors = {name: each.tolist() for name, each in self.webui.vectors().items()}
        return [self.sd_model.weights, layers, vectors]


def process_images(p: Txt2Img) -> SimpleNamespace:
    """Run a job as `modules.processing.process_images_inner` does; return pictures and infotexts."""
    pictures, infotexts = [], []
    count = p.batch_size * p.n_iter
    p.all_prompts = [p.prompt] * count
    p.all_negative_prompts = [p.negative_prompt] * count
    p.all_hr_prompts, p.all_hr_negative_prompts = p.all_prompts, p.all_negative_prompts
    p.all_seeds = [p.seed + each for each in range(count)]
    p.scripts.tell("process", p)
    for number in range(p.n_iter):
        p.iteration = number
        part = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
        p.prompts = [re.sub("<[^>]*>", "", each) for each in p.all_prompts[part]]
        p.negative_prompts = p.all_negative_prompts[part]
        p.hr_prompts, p.hr_negative_prompts = p.prompts, p.negative_prompts
        p.seeds, p.subseeds = p.all_seeds[part], [each + 9999 for each in p.all_seeds[part]]
        p.webui.begin_loras()
        for name, strength in p.extra_network_data.get("lora", []):
            p.webui.load_lora(name, strength)
        p.scripts.tell("process_batch", p, batch_number=p.iteration)
        p.setup_conds()
        p.extra_generation_params.update(p.webui.told_by_encoding())
        samples = p.sample(conditioning=p.c, prompts=p.prompts, seeds=p.seeds)
        if not getattr(samples, "already_decoded", False):
            samples = decode(p.sd_model, samples)
        pictures += [bytes(((each.float() + 1) * 127).to(torch.uint8).flatten().tolist()) for each in samples]
        infotexts += [f"Steps: {p.steps}, {p.extra_generation_params}"] * len(p.seeds)
    return SimpleNamespace(pictures=pictures, infotexts=infotexts, comments=list(p.comments))
