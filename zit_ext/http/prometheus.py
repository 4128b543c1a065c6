"""From what was counted to metrics as Prometheus reads them. No other module imports prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from .. import __version__
from ..answered import EDGES, MISS_REASONS
from ..metrics import Snapshot
from ..models.driver_memory import DriverMemory
from ..models.holdings import Holdings
from ..pipeline import WeightTier
from ..plugins import PluginReport
from ..results.counters import DAMAGE, EVICTIONS
from ..results.usage import Usage

PLUGIN_FAILURES = ("failed", "slow", "hung", "bypassed")
_PLUGIN_ERRORS = ("PluginError", "FieldClashError")
_PLUGIN, _ANSWERED = "plugin_", "answered_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """Everything that one scrape tells of, seen at one moment."""

    counted: Snapshot
    usage: Usage | None
    """None while the result store cannot be asked."""
    holdings: Holdings | None
    """None where nobody knows what is held."""
    name_of: Callable[[str], str]
    """The name of weights for outsiders: their source may be a path."""
    plugins: Sequence[PluginReport]
    running: int
    """Pictures that callers of the HTTP API wait for."""
    streams: int
    at_hand_bytes: int
    devices: Sequence[DriverMemory]


def exposition(scrape: Scrape, accepts: str) -> tuple[bytes, str]:
    """Return the body of an answer and its media type: OpenMetrics if that is what is wanted, else text."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry()
    registry.register(_Once(scrape))
    ProcessCollector(registry=registry)
    encode, media_type = choose_encoder(accepts)
    return encode(registry), media_type


class _Once:
    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        families = _Families(CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily)
        scrape = self._scrape
        for part in (_requests, _seconds, _events, _stored, _weights, _service):
            yield from part(scrape, families)


@dataclass(frozen=True, slots=True)
class _Families:
    """prometheus_client's classes, with samples in one go."""

    counter_class: Any
    gauge_class: Any
    histogram_class: Any

    def counter(self, name: str, help: str, samples: Mapping[Any, float], labels: Sequence[str] = ()) -> Any:
        return _filled(self.counter_class(f"zit_{name}", help, labels=labels), samples)

    def gauge(self, name: str, help: str, samples: Mapping[Any, float], labels: Sequence[str] = ()) -> Any:
        return _filled(self.gauge_class(f"zit_{name}", help, labels=labels), samples)


def _filled(family: Any, samples: Mapping[Any, float]) -> Any:
    for labels, value in samples.items():
        family.add_metric(labels if isinstance(labels, tuple) else (), value)
    return family


def _one(value: float) -> Mapping[Any, float]:
    return {None: value}


def _of(known: object, attribute: str) -> Mapping[Any, float]:
    """Return the one sample of something that may not be known: then there is none."""
    return {} if known is None else _one(getattr(known, attribute))


def _requests(scrape: Scrape, of: _Families) -> Iterator[Any]:
    counted = scrape.counted
    reasons: dict[tuple[str, str], float] = {("hit", ""): counted.requests.get("hit", 0)}
    reasons |= {("miss", name): 0.0 for name in MISS_REASONS}
    reasons |= {("miss", name): number for name, number in counted.miss_reasons.items()}
    reasons |= {("bypass", name): number for name, number in counted.bypass_reasons.items()}
    yield of.counter(
        "requests", "Answered requests, and why they were no hits", reasons, ("outcome", "reason")
    )
    tiers = {(tier,): float(counted.tiers.get(tier, 0)) for tier in ("memory", "disk", "shared")}
    yield of.counter("hits", "Hits by where the answer was found", tiers, ("tier",))
    yield of.counter("collapsed", "Misses that shared another's run", _one(counted.collapsed))
    yield of.counter("stored", "Results that the store accepted", _one(counted.stored))
    yield of.gauge("hit_ratio", "Hits among looked-up requests, since the start", _one(counted.hit_rate))
    failed = {
        (name.removeprefix(_ANSWERED),): number
        for name, number in counted.events.items()
        if name.startswith(_ANSWERED)
    }
    yield of.counter("errors", "Requests that were answered with an error", failed, ("error",))


def _seconds(scrape: Scrape, of: _Families) -> Iterator[Any]:
    counted = scrape.counted
    yield of.counter("saved_seconds", "Of rendering, that the cache saved", _one(counted.saved_seconds))
    yield of.counter("render_seconds", "Of rendering, without queue and load", _one(counted.render_seconds))
    help = "From question to answer"
    family = of.histogram_class("zit_request_seconds", help, labels=("outcome",))
    for outcome, edges in EDGES.items():
        names = [*(f"{edge:g}" for edge in edges), "+Inf"]
        counts = accumulate(counted.latencies[outcome])
        family.add_metric(
            (outcome,), list(zip(names, counts, strict=True)), counted.seconds.get(outcome, 0.0)
        )
    yield family


def _events(scrape: Scrape, of: _Families) -> Iterator[Any]:
    events = dict(scrape.counted.events)
    evicted = {(cause,): float(events.pop(name, 0)) for name, cause in EVICTIONS.items()}
    yield of.counter("evictions", "Entries that went, by cause", evicted, ("cause",))
    damage = {(name,): float(events.pop(name, 0)) for name in DAMAGE}
    yield of.counter("damage", "Damage of the result store that was found, and mended", damage, ("kind",))
    failures = {(name,): float(events.pop(_PLUGIN + name, 0)) for name in PLUGIN_FAILURES}
    # Those that cost a request its cache are counted by the engine, under the names of its errors.
    failures["failed",] += sum(events.pop(name, 0) for name in _PLUGIN_ERRORS)
    yield of.counter("plugin_failures", "Hooks that raised, were slow or hung", failures, ("kind",))
    others = {(name,): number for name, number in events.items() if not name.startswith(_ANSWERED)}
    yield of.counter("events", "Everything else that has a name", others, ("event",))
    states = {(state,): 0.0 for state in ("on", "broken", "disabled")}
    for report in scrape.plugins:
        states[report.state,] += 1
    yield of.gauge("plugins", "Plugins by state", states, ("state",))


def _stored(scrape: Scrape, of: _Families) -> Iterator[Any]:
    usage = scrape.usage
    yield of.gauge("store_up", "Whether the result store can be asked", _one(usage is not None))
    sizes: dict[Any, float] = {("http",): scrape.at_hand_bytes}
    if usage is not None:
        sizes |= {("disk",): usage.bytes, ("memory",): usage.memory_bytes}
    yield of.gauge("store_bytes", "Bytes of results by tier; http: held for its clients", sizes, ("tier",))
    gauges = (
        ("max_bytes", "Cap of the result store; 0: none", "max_bytes"),
        ("entries", "Entries", "entries"),
        ("max_entries", "Cap of entries; 0: none", "max_entries"),
        ("pinned_entries", "Pinned entries", "pinned"),
        ("stale_entries", "Entries whose time is over, not removed yet", "stale"),
        ("quarantined", "Damaged files in quarantine", "quarantined"),
        ("quarantined_bytes", "Bytes of damaged files", "quarantined_bytes"),
        ("writes_waiting", "Results that wait to be written", "waiting"),
    )
    for name, help, attribute in gauges:
        yield of.gauge(f"store_{name}", help, _of(usage, attribute))
    yield of.counter("store_hits", "Hits by all programs, ever", _of(usage, "hits"))
    yield of.counter("store_saved_seconds", "Saved by those hits", _of(usage, "saved_seconds"))


def _weights(scrape: Scrape, of: _Families) -> Iterator[Any]:
    holdings = scrape.holdings
    sizes: dict[Any, float] = {}
    held: dict[Any, float] = {}
    leases: dict[Any, float] = {}
    if holdings is not None:
        sizes = {(holdings.device, "vram"): holdings.vram_bytes, (holdings.device, "ram"): holdings.ram_bytes}
        for model in holdings.models:
            name = scrape.name_of(model.source)
            leases[name,] = leases.get((name,), 0) + sum(part.leases for part in model.parts)
            for tier in WeightTier:
                at = (name, tier.name.lower())
                held[at] = held.get(at, 0) + model.bytes_in(tier)
    yield of.gauge("weights_bytes", "Bytes of weights by device and tier", sizes, ("device", "tier"))
    yield of.gauge("model_bytes", "Bytes of each model's parts by tier", held, ("model", "tier"))
    yield of.gauge("leases", "Leases of weights", leases, ("model",))
    yield of.counter("loads", "How often weights were read", _of(holdings, "loads"))
    yield of.counter("load_seconds", "Of reading weights", _of(holdings, "load_seconds"))
    yield of.counter("renders", "Renders", _of(holdings, "renders"))
    memory = {
        (str(each.index), each.name, kind): float(getattr(each, kind))
        for each in scrape.devices
        for kind in ("total", "used", "free")
    }
    help = "Memory of each device, as its driver reports it"
    yield of.gauge("device_memory_bytes", help, memory, ("device", "name", "kind"))


def _service(scrape: Scrape, of: _Families) -> Iterator[Any]:
    waiting = "Requests that wait for a device"
    yield of.gauge("queue_waiting", waiting, _of(scrape.holdings, "queued"))
    yield of.gauge("queue_running", "Pictures that callers of HTTP wait for", _one(scrape.running))
    yield of.gauge("http_streams", "Streams of events that are open", _one(scrape.streams))
    yield of.gauge("info", "This version", {(__version__,): 1.0}, ("version",))
