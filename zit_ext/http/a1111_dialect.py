"""A1111's API: `/sdapi/v1/*`, as its clients speak it. Fields are turned in `a1111_fields`."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from ..errors import RequestError
from ..records import Outcome
from ..request_json import request_of
from . import a1111_fields as fields
from .administration import names_of
from .asking import Made, Making, admitted, cache_headers, sent_image
from .auth import Scope
from .errors import Dialect, HttpError
from .messages import Answer, json_answer
from .service import Call, Handler, Route

_EMPTY: dict[str, Any] = {
    "sd-vae": [],
    "upscalers": [],
    "latent-upscale-modes": [],
    "hypernetworks": [],
    "face-restorers": [],
    "realesrgan-models": [],
    "prompt-styles": [],
    "loras": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "scripts": {"txt2img": [], "img2img": []},
    "script-info": [],
    "cmd-flags": {},
}
"""What clients ask for when they start, and what is not here."""


def routes() -> list[Route]:
    webui = Webui()

    def route(method: str, name: str, handler: Handler, scope: Scope) -> Route:
        return Route(method, f"/sdapi/v1/{name}", handler, scope=scope, dialect=Dialect.A1111)

    return [
        route("POST", "txt2img", webui.txt2img, Scope.GENERATE),
        route("POST", "img2img", webui.img2img, Scope.GENERATE),
        route("GET", "progress", webui.progress, Scope.READ),
        route("POST", "interrupt", webui.interrupt, Scope.GENERATE),
        route("POST", "skip", webui.interrupt, Scope.GENERATE),
        route("GET", "options", webui.options, Scope.READ),
        route("POST", "options", webui.set_options, Scope.GENERATE),
        route("GET", "sd-models", webui.models, Scope.READ),
        route("POST", "refresh-checkpoints", webui.refresh, Scope.GENERATE),
        route("GET", "samplers", webui.samplers, Scope.READ),
        route("GET", "schedulers", webui.schedulers, Scope.READ),
        *(route("GET", name, _always(value), Scope.READ) for name, value in _EMPTY.items()),
    ]


def _always(value: Any) -> Handler:
    async def answer(call: Call) -> Answer:
        return json_answer(value)

    return answer


class Webui:
    """What a webui remembers for its clients: the checkpoint that each has chosen."""

    def __init__(self) -> None:
        self._chosen: dict[str, str] = {}

    async def txt2img(self, call: Call) -> Answer:
        return await self._generate(call, img2img=False)

    async def img2img(self, call: Call) -> Answer:
        return await self._generate(call, img2img=True)

    async def _generate(self, call: Call, *, img2img: bool) -> Answer:
        values = await call.json()
        wanted, count = fields.fields_of(values, img2img=img2img)
        wanted.setdefault("model", self._model_of(call))
        requests = admitted(call, request_of(wanted, sent_image), count)
        made = await Making(call, requests).answers()
        shown = values.get("send_images", True) is not False
        body = {
            "images": [each.base64 for each in made] if shown else [],
            "parameters": {name: value for name, value in values.items() if name != "init_images"},
            "info": json.dumps(_info(made, wanted["model"]), ensure_ascii=False),
        }
        return json_answer(body, headers=cache_headers(made))

    async def progress(self, call: Call) -> Answer:
        """Say how far the caller's oldest picture is. `skip_current_image=true` leaves the preview out."""
        running = call.service.board.running(call.who.seen_namespace(None))
        now = time.time()
        first = running[0] if running else None
        part = first.done / first.total if first and first.total else 0.0
        # A client waits until progress is 0 and there is no job: what has begun is never 0.
        progress = max(part, 0.01) if first else 0.0
        eta = (now - first.started_at) * (1 - part) / part if first and part else 0.0
        picture = first.picture if first else None
        if call.asked.query.get("skip_current_image", "").lower() in ("1", "true"):
            picture = None
        return json_answer(
            {
                "progress": progress,
                "eta_relative": eta,
                "state": {
                    "skipped": False,
                    "interrupted": bool(first and first.stopped),
                    "stopping_generation": False,
                    "job": first.id if first else "",
                    "job_count": len(running),
                    "job_timestamp": time.strftime(
                        "%Y%m%d%H%M%S", time.gmtime(first.started_at if first else 0)
                    ),
                    "job_no": 0,
                    "sampling_step": first.done if first else 0,
                    "sampling_steps": first.total if first else 0,
                },
                "current_image": None if picture is None else base64.b64encode(picture).decode("ascii"),
                "textinfo": None,
            }
        )

    async def interrupt(self, call: Call) -> Answer:
        """Stop what the caller's namespace renders, unless somebody else waits for it."""
        call.service.board.stop(call.who.seen_namespace(None))
        return json_answer({})

    async def options(self, call: Call) -> Answer:
        return json_answer({"sd_model_checkpoint": self._model_of(call), "samples_format": "png"})

    async def set_options(self, call: Call) -> Answer:
        """Choose the checkpoint of this caller's requests; there is no other option here."""
        values = await call.json()
        for name, value in values.items():
            if name != "sd_model_checkpoint" or not isinstance(value, str):
                raise RequestError(name, value, "only sd_model_checkpoint may be set, to a name")
            if value not in await names_of(call):
                raise HttpError(404, "model_missing", "no checkpoint has this name: see /sdapi/v1/sd-models")
            self._chosen[call.who.name] = value
        return json_answer(None)

    async def models(self, call: Call) -> Answer:
        return json_answer(
            [
                {
                    "title": name,
                    "model_name": name,
                    "hash": None,
                    "sha256": None,
                    "filename": name,
                    "config": None,
                }
                for name in await names_of(call)
            ]
        )

    async def refresh(self, call: Call) -> Answer:
        """Have the weights looked for again."""
        call.service.catalogue.forget()
        return json_answer(None)

    async def samplers(self, call: Call) -> Answer:
        aliases = sorted(name for name in fields.SAMPLERS if name)
        return json_answer([{"name": fields.SAMPLER, "aliases": aliases, "options": {}}])

    async def schedulers(self, call: Call) -> Answer:
        automatic = {
            "name": "automatic",
            "label": "Automatic",
            "aliases": None,
            "default_rho": -1.0,
            "need_inner_model": False,
        }
        return json_answer([automatic])

    def _model_of(self, call: Call) -> str:
        return self._chosen.get(call.who.name) or next(iter(call.service.catalogue.names))


def _info(made: list[Made], model: str) -> dict[str, Any]:
    """Return what A1111 says of a batch, and under "zit" what the cache did for it."""
    first = made[0].result.request
    texts = [fields.infotext(each.result.request, model) for each in made]
    seeds = [each.result.request.seed for each in made]
    return {
        "prompt": first.prompt,
        "all_prompts": [each.result.request.prompt for each in made],
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [each.result.request.negative_prompt for each in made],
        "seed": first.seed,
        "all_seeds": seeds,
        "subseed": -1,
        "all_subseeds": [-1] * len(made),
        "subseed_strength": 0,
        "width": first.width,
        "height": first.height,
        "sampler_name": fields.SAMPLER,
        "cfg_scale": first.guidance + 1,
        "steps": first.steps,
        "batch_size": len(made),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": model,
        "sd_model_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": first.strength if first.image else None,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime()),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": "zit_ext",
        "zit": {
            "cached": all(each.result.status.outcome is Outcome.HIT for each in made),
            "saved_seconds": sum(each.result.saved_seconds for each in made),
            "cache_status": [each.result.status.header() for each in made],
            "urls": [each.address for each in made if each.address == each.url],
            "warnings": [warning for each in made for warning in each.result.warnings],
        },
    }
