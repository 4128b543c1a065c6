"""A result cache under the webui's own txt2img, for any checkpoint: exact, and off until switched on.

It replaces two methods of one job, for one batch, and puts them back: `setup_conds`, where prompts,
seeds and LoRAs are final (there the question is asked), and `sample`, which a hit answers from the
store. Saving, infotext, grids and every script after that are the webui's own, on a hit too. What
cannot be told for sure is a bypass, with the reason under the picture.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Mapping
from typing import Any

import gradio as gr

from zit_ext.codecs import SAFETENSORS, CodecError
from zit_ext.errors import StoreError
from zit_ext.records import Encoded, Outcome, Request, Result, ResultTier, Status

from . import convert, host, host_checkpoint, host_weights
from .keeping import Keeper
from .native_key import BypassedError, Question, note_version, question, state
from .provenance import Provenance, begun_before

log = logging.getLogger("zit_ext")

_provenance = Provenance(host.process_started(), watched_from_start=host_weights.loaded_model() is None)
"""Outlives "Reload UI", as the weights do."""
_keeper = Keeper()


def register() -> None:
    """Ask the webui to tell us what it loads. Once for each "Reload UI": it forgets its callbacks."""
    host.require_seam()
    note_version()
    host.script_callbacks.on_model_loaded(_note_model)
    loaded = host_weights.loaded_model()
    if loaded is not None and not _provenance.knows(loaded.model):
        _provenance.note(loaded.model, _files_of(loaded))


def _note_model(model: Any) -> None:
    loaded = host_weights.loaded_model(model)
    if loaded is not None:
        now = time.time()
        ram = host_weights.keeps_checkpoints_in_ram()
        begun = None if ram else min(begun_before(path, now) for path in _files_of(loaded))
        _provenance.note(model, _files_of(loaded), loaded_after=begun)


def _note_loras(loaded_after: float | None) -> None:
    for network in host_weights.loras_in_memory():
        path = network.network_on_disk.filename
        name = host_weights.lora_name(network)
        _provenance.note_named(name, network, path, loaded_after=loaded_after)


def _files_of(loaded: host_weights.LoadedModel) -> list[str]:
    return [path for path in loaded.files.values() if path]


class NativeCache(host.Script):
    """The checkbox under txt2img, and what it does to a job."""

    _job_started: float | None = None
    _encoded: tuple[Any, bytes, host.Conditions | None] = (None, b"", None)
    """Who made conditions last (the job, held weakly), what they were made with, and they themselves."""

    def title(self):
        return "Z-Image cache: keep results of txt2img"

    def show(self, is_img2img):
        return host.always_visible

    def ui(self, is_img2img):
        with gr.Accordion(self.title(), open=False):
            switch = gr.Checkbox(
                value=False,
                label="Keep results, and find them again (exact; nothing is looked up while this is off)",
                elem_id=self.elem_id("zit_native_cache"),
            )
        return [switch]

    def before_process(self, p, *arguments):
        """Before a job of the webui's own: the device is its own again, if the tab had taken it."""
        host_checkpoint.bring_back()

    def process(self, p, *arguments):
        """Before anything is loaded for this job: note what is in memory already."""
        self._job_started = time.time()
        _note_loras(None)

    def process_batch(self, p, switched_on=False, *arguments, **batch):
        """After the LoRAs of this batch are loaded, and before its prompts are encoded."""
        _note_loras(self._job_started)
        if switched_on or host.is_switched_on():
            if self.is_img2img:
                tell(p, Outcome.BYPASS, name="img2img", words="img2img is not kept yet")
            else:
                Batch(p, self).begin()

    def have_fresh_conditions(self, p: Any, asked: Question) -> None:
        """See to it that this batch's conditions are none of other weights; the seed alone may differ."""
        made_with = asked.conditions()
        job, before, kept = self._encoded
        if before == made_with and job() is p:
            return
        # Where encoding tells the infotext something, a job that does not encode would not say it.
        for_others = not asked.may_write_infotext and host.options().get("persistent_cond_cache", True)
        if kept is None or before != made_with or not for_others:
            kept = host.no_conditions(p)
        host.use_conditions(p, kept)
        self._encoded = (weakref.ref(p), made_with, kept if for_others else None)


class Batch:
    """One batch of one job, between the encoding of its prompts and its samples."""

    def __init__(self, p: Any, script: Any) -> None:
        self._p = p
        self._script = script
        self._question: Question | None = None
        self._found: tuple[Any, dict[str, Any]] | None = None
        self._status: Mapping[str, Any] = {}
        self._begun = 0.0
        self._is_over = False

    def begin(self) -> None:
        p = self._p
        if {"setup_conds", "sample"} & vars(p).keys():
            tell(p, Outcome.BYPASS, name="unknown_script", words="another extension replaces how it samples")
            return
        p.setup_conds = self._setup_conds
        p.sample = self._sample

    # In the place of the job's own methods

    def _setup_conds(self) -> None:
        p = self._p
        if self._is_over or self._begun:
            type(p).setup_conds(p)  # the refiner asks again in mid-sample
            return
        self._begun = time.perf_counter()
        try:
            self._ask()
        except BypassedError as error:
            self._over()
            tell(p, Outcome.BYPASS, name=error.name, words=str(error))
        except Exception as error:  # whatever it is, it costs a hit and not a picture
            self._over()
            log.exception("the cache could not be asked; the picture is rendered")
            tell(p, Outcome.BYPASS, name="failed", words=f"{type(error).__name__}: {error}")
        if self._found is None or (self._question and self._question.may_write_infotext):
            if self._question is not None:
                self._script.have_fresh_conditions(p, self._question)
            type(p).setup_conds(p)

    def _ask(self) -> None:
        p = self._p
        if vars(p).get("sample") != self._sample or vars(p).get("setup_conds") != self._setup_conds:
            raise BypassedError("unknown_script", "another extension replaces how it samples")
        asked = question(p, self._script, _provenance)
        if asked.may_write_infotext and p.enable_hr and p.n_iter > 1:
            raise BypassedError("infotext", "hires batches whose infotext depends on the batch before")
        found = _keeper.find(asked)
        if found is not None:
            try:
                self._found = convert.from_bytes(found.content.data)
                self._status = {"key": found.entry.key, "tier": found.tier, "saved": found.entry.cost}
            except CodecError:
                log.warning("entry %s holds no samples; rendered anew", found.entry.key)
        self._question = asked

    def _sample(self, **arguments: Any) -> Any:
        p = self._p
        if self._is_over:
            return type(p).sample(p, **arguments)
        self._over()
        if self._found is not None:
            return self._hit(*self._found)
        return self._miss(arguments)

    def _over(self) -> None:
        self._is_over = True
        for name, own in (("setup_conds", self._setup_conds), ("sample", self._sample)):
            if vars(self._p).get(name) == own:
                delattr(self._p, name)

    # Answers

    def _hit(self, samples: Any, notes: Mapping[str, Any]) -> Any:
        p = self._p
        p.extra_generation_params.update(notes["infotext"])
        if notes["eta"] is not None and host.options().get("eta_noise_seed_delta"):
            host.leave_sampler(p, notes["eta"])
        if p.enable_hr:
            host.next_job()  # a run would have told of the end of the first pass
        tell(p, Outcome.HIT, seconds=time.perf_counter() - self._begun, **self._status)
        return host.decoded(samples.unbind(0))

    def _miss(self, arguments: Mapping[str, Any]) -> Any:
        p = self._p
        written = Written(p.extra_generation_params)
        own, p.extra_generation_params = p.extra_generation_params, written
        untouched = dict(own)
        out_of_memory = host_weights.times_out_of_memory()
        try:
            # With the refiner's own way back into setup_conds: that is the class's method again by now.
            samples = host.decode(p, type(p).sample(p, **arguments))
        finally:
            if own != untouched:
                written.is_torn = True
            own.update(written.written)
            if p.extra_generation_params is written:
                p.extra_generation_params = own
            else:
                written.is_torn = True  # another one took its place: nobody knows what was written there
        seconds = time.perf_counter() - self._begun
        if host_weights.times_out_of_memory() == out_of_memory:
            key, refused = self._offer(samples, written, seconds)
        else:
            key, refused = None, "not kept: memory ran out, and the webui went on another way"
        tell(p, Outcome.MISS, seconds=seconds, key=key, stored=refused is None, words=refused)
        return samples

    def _offer(self, samples: Any, written: Written, seconds: float) -> tuple[str | None, str | None]:
        """Offer what was rendered; return its key and why it was not accepted."""
        p, asked = self._p, self._question
        assert asked is not None
        if host.was_stopped():
            return None, "not kept: it was interrupted"
        if written.is_torn or not all(map(convert.is_plain, written.written.values())):
            return None, "not kept: its infotext cannot be kept"
        if host_weights.loras_had_errors():
            return None, "not kept: a LoRA had errors"
        if state() != asked.checked:
            return None, "not kept: settings changed while it was rendered"
        notes = {"infotext": written.written, "eta": getattr(p.sampler, "eta", None)}
        if not convert.is_plain(notes["eta"]):
            return None, "not kept: its sampler cannot be kept"
        try:
            data = convert.to_bytes(host.stacked(samples), notes)
            key = _keeper.keep(asked, data, seconds, prompt=str(p.prompts[0]))
        except (StoreError, convert.UnspellableError, RuntimeError) as error:
            log.warning("a result is shown, but not kept: %s", error)
            return None, f"not kept: {error}"
        except Exception as error:  # memory that ran out, a disk: the picture is made, and stays
            log.exception("a result is shown, but not kept")
            return None, f"not kept: {type(error).__name__}: {error}"
        return key, None


class Written(dict):
    """An infotext that remembers what was written into it, the same as before included."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        super().__init__(start)
        self.written: dict[str, Any] = {}
        self.is_torn = False
        """Something was taken out: that cannot be done again by writing."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.written[name] = value

    def update(self, *others: Any, **named: Any) -> None:
        for name, value in dict(*others, **named).items():
            self[name] = value

    def __ior__(self, other: Any) -> Written:
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self.is_torn = True

    def pop(self, *arguments: Any) -> Any:
        self.is_torn = True
        return super().pop(*arguments)

    def popitem(self) -> Any:
        self.is_torn = True
        return super().popitem()

    def clear(self) -> None:
        self.is_torn = True
        super().clear()


def tell(
    p: Any,
    outcome: Outcome,
    *,
    seconds: float = 0.0,
    saved: float = 0.0,
    key: str | None = None,
    tier: ResultTier = ResultTier.RENDER,
    stored: bool = False,
    name: str | None = None,
    words: str | None = None,
) -> None:
    """Say what became of a batch: under the picture, in one line of the log, and in the counters."""
    status = Status(outcome=outcome, tier=tier, key=key, stored=stored, reason=name, detail=words)
    parts = [f"zit_ext: {outcome.value}"]
    if words:
        parts.append(words)
    if outcome is Outcome.HIT:
        parts.append(f"{seconds:.2f} s, saved {saved:.1f} s")
    p.comment(", ".join(parts))
    log.info("%s", status.header())
    answered = Result(
        content=Encoded(SAFETENSORS, b""),
        status=status,
        request=Request(prompt="", seed=0),
        seconds=seconds,
        saved_seconds=saved,
    )
    try:
        host.engine().metrics.answered(answered)
    except Exception as error:  # an engine that cannot start, by a setting that is none
        log.warning("an answer is not counted: %s", error)
