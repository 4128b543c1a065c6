"""One click on Generate: the tab's fields to requests, and answers to what the webui shows."""

from __future__ import annotations

import html
import io
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zit_ext import policy
from zit_ext.errors import GenerationStoppedError, RequestError, ZitError
from zit_ext.http.a1111_fields import SAMPLER, without_loras
from zit_ext.human import duration
from zit_ext.records import InputImage, LoraRef, ModelRef, Outcome, Request, Result, SchedulerRef

from . import host, host_tab, infotext, rendering, weights

log = logging.getLogger("zit_ext")

Shown = tuple[Any, str, str, str]
"""Gallery, generation info (JSON), infotext and log (HTML): the outputs of the webui's panel."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What stands in the tab's fields, in their order."""

    prompt: str
    negative_prompt: str
    width: float
    height: float
    steps: float
    guidance: float
    seed: str
    count: float
    model: str | None
    sigmas: str
    shift: float
    image: Any
    """A picture of PIL's, or None."""
    strength: float
    free_checkpoint: bool


@dataclass(frozen=True)
class Made:
    """One picture that is shown, and its infotext."""

    result: Result
    text: str
    image: Any
    not_saved: str = ""
    """Why the webui could not save it."""


def generate(task: str, form: Form) -> Shown:
    """Answer a click: from the store without waiting for anybody, or in the webui's queue."""
    gallery, told, text, log = _answered(task, form)
    # Which click this answers: a page shows words that are the same as before only if something is new.
    return gallery, told, text, f'<div class="zit-log" data-task="{html.escape(task)}">{log}</div>'


def _answered(task: str, form: Form) -> Shown:
    started = time.perf_counter()
    try:
        requests = requests_of(form)
        kept = [rendering.find(each) for each in requests]
    except ZitError as error:
        host_tab.is_over(task)  # the progress bar began with the click
        return _failed(error)
    if None not in kept:
        shown = _shown([_made(form, each) for each in kept if each is not None], [])
        host_tab.is_over(task)
        return (*shown[:3], shown[3] + _time(time.perf_counter() - started))
    queued = host_tab.queued(lambda _task: _render(form, requests, kept), failed=[None, "", ""])
    gallery, told, text, log = queued(task)
    return gallery, told, text, log


def requests_of(form: Form) -> list[Request]:
    """Return the batch that is asked for. Raises RequestError."""
    engine = host.engine()
    prompt, loras = without_loras(form.prompt or "")
    config = dict(infotext.SIGMAS.get(form.sigmas, {}))
    if form.shift:
        config["shift"] = _number("shift", form.shift)
    request = Request(
        prompt=prompt,
        negative_prompt=form.negative_prompt or "",
        seed=_seed(form.seed),
        width=_whole("width", form.width),
        height=_whole("height", form.height),
        steps=_whole("steps", form.steps),
        guidance=_number("guidance", form.guidance),
        model=ModelRef(source=weights.model(form.model)),
        scheduler=SchedulerRef(config=config),
        loras=tuple(
            LoraRef(source=weights.lora(each["source"]), strength=each["strength"]) for each in loras
        ),
        image=None if form.image is None else _input(form.image),
        strength=_number("strength", form.strength),
        namespace=engine.settings.namespace,
    )
    return policy.batch_of(engine.engine.at_the_door(request), _whole("count", form.count))


def _number(field: str, value: Any) -> float:
    """Return a number of a slider, whose field may be empty. Raises RequestError."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise RequestError(field, value, "give a number") from None


def _whole(field: str, value: Any) -> int:
    try:
        return int(_number(field, value))
    except (ValueError, OverflowError):
        raise RequestError(field, value, "give a whole number") from None


def _seed(text: Any) -> int:
    try:
        return int(str(text).strip() or -1)
    except ValueError:
        raise RequestError("seed", text, "give a whole number; -1 draws one") from None


def _input(image: Any) -> InputImage:
    data = io.BytesIO()
    image.save(data, format="PNG")
    return InputImage.of(data.getvalue())


def _render(form: Form, requests: Sequence[Request], kept: Sequence[Result | None]) -> Shown:
    """Make the pictures that are not kept, one after the other."""
    watcher = host_tab.Watching(len(requests))
    made: list[Made] = []
    words: list[str] = []
    for request, found in zip(requests, kept, strict=True):
        try:
            result = found or rendering.render(request, watcher, free_checkpoint=form.free_checkpoint)
            made.append(_made(form, result))
        except GenerationStoppedError:
            words = ["interrupted"]
        except ZitError as error:
            if not made:
                return _failed(error)
            words = [str(error)]
            break
        if not watcher.next_picture():
            break
    return _shown(made, words)


def _made(form: Form, result: Result) -> Made:
    model = weights.shown(result.request.model.source)
    text = infotext.written(
        result.request, prompt=form.prompt or "", model=model, sigmas=form.sigmas, shift=form.shift
    )
    image = host_tab.picture(result.pixels())
    try:
        host_tab.save(image, text, seed=result.request.seed, prompt=result.request.prompt)
    except (OSError, ValueError) as error:  # a full disk; a format that cannot be so large
        log.warning("a picture is shown, but could not be saved: %s", error)
        return Made(result, text, image, not_saved=f"it could not be saved: {error}")
    return Made(result, text, image)


def _shown(made: Sequence[Made], words: Sequence[str]) -> Shown:
    said = "".join(_line(each) for each in made)
    said += "".join(map(_warning, words))
    if not made:
        return None, "", "", f'<div class="zit-answers">{said}</div>'
    return (
        [each.image for each in made],
        json.dumps(_told(made), ensure_ascii=False),
        host_tab.as_html(made[0].text),
        f'<div class="zit-answers">{said}</div>',
    )


def _told(made: Sequence[Made]) -> dict[str, Any]:
    """Return what the webui's save buttons ask for, and what our own page does."""
    first = made[0].result.request
    return {
        "prompt": first.prompt,
        "negative_prompt": first.negative_prompt,
        "seed": first.seed,
        "all_seeds": [each.result.request.seed for each in made],
        # For our own page, whose numbers would lose the last digits of large seeds.
        "zit_seeds": [str(each.result.request.seed) for each in made],
        "zit_texts": [host_tab.as_html(each.text) for each in made],
        "width": first.width,
        "height": first.height,
        "sampler_name": SAMPLER,
        "cfg_scale": first.guidance + 1,
        "steps": first.steps,
        "batch_size": 1,
        "sd_model_name": "Z-Image",
        "sd_model_hash": "",
        "styles": [],
        "index_of_first_image": 0,
        "infotexts": [each.text for each in made],
    }


def _line(made: Made) -> str:
    """Return what became of one picture: each word by itself, so that the webui can translate it."""
    result, status = made.result, made.result.status
    parts = [f'<b class="zit-{status.outcome.value}">{status.outcome.value}</b>']
    if status.outcome is Outcome.HIT:
        parts.append(f"<span>{status.tier.value}</span>")
    parts.append(f"<span>{duration(result.seconds)}</span>")
    if result.saved_seconds:
        parts.append(f"<span>saved</span> <span>{duration(result.saved_seconds)}</span>")
    if status.outcome is Outcome.MISS and not status.stored:
        parts.append("<span>not kept</span>")
    parts.append(f"<span>seed</span> <span>{result.request.seed}</span>")
    if status.detail:
        parts.append(f"<span>{html.escape(status.detail)}</span>")
    warnings = [*result.warnings, *([made.not_saved] if made.not_saved else [])]
    line = f'<p class="zit-answer" title="{html.escape(status.key or "")}">{" ".join(parts)}</p>'
    return line + "".join(map(_warning, warnings))


def _warning(words: str) -> str:
    return f'<p class="zit-warning">{html.escape(words)}</p>'


def _time(seconds: float) -> str:
    return (
        "<div class='performance'><p class='time'>Time taken: "
        f"<wbr><span class='measurement'>{seconds:.2f} sec.</span></p></div>"
    )


def _failed(error: ZitError) -> Shown:
    return None, "", "", f"<div class='error zit-error'>{html.escape(str(error))}</div>"
