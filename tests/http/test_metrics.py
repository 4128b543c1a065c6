"""`/metrics`: what Prometheus reads, and the dashboard in the docs that draws it."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest

from zit_ext import hookimpl
from zit_ext.http import metrics as metrics_route
from zit_ext.models.driver_memory import Driver, DriverMemory
from zit_ext.results.counters import COUNTERS, DAMAGE, EVICTIONS

from .server import ALICE, CHIEF, READER

pytestmark = pytest.mark.http

parser = pytest.importorskip("prometheus_client.parser", reason="it needs prometheus_client")

DASHBOARD = json.loads(
    (Path(__file__).parents[2] / "docs" / "grafana-dashboard.json").read_text(encoding="utf-8")
)


class Scraped:
    """One scrape, read by Prometheus' own parser."""

    def __init__(self, served, **headers):
        answer = served.get("/metrics", headers=headers)
        assert answer.status_code == 200, answer.text
        self.text = answer.text
        self.families = {each.name: each for each in parser.text_string_to_metric_families(answer.text)}
        self.samples = {
            (each.name, tuple(sorted(each.labels.items()))): each.value
            for family in self.families.values()
            for each in family.samples
        }

    def value(self, metric, **labels):
        return self.samples[metric, tuple(sorted(labels.items()))]


def test_requests_are_counted_by_outcome_and_reason(served):
    for seed in (1, 1, 1, -1):
        served.generate(seed=seed)
    served.generate(seed=1, headers={"Cache-Control": "no-cache"})
    served.generate(prompt="not there", headers={"Cache-Control": "only-if-cached"})
    scraped = Scraped(served)

    assert scraped.value("zit_requests_total", outcome="hit", reason="") == 2
    assert scraped.value("zit_requests_total", outcome="miss", reason="new_environment") == 1
    assert scraped.value("zit_requests_total", outcome="miss", reason="refresh") == 1
    assert scraped.value("zit_requests_total", outcome="bypass", reason="seed") == 1
    assert scraped.value("zit_errors_total", error="NotCachedError") == 1
    assert scraped.value("zit_hit_ratio") == 0.5
    assert scraped.value("zit_saved_seconds_total") == 2.0
    assert scraped.value("zit_render_seconds_total") == 3.0
    assert scraped.value("zit_request_seconds_count", outcome="hit") == 2
    assert scraped.value("zit_request_seconds_bucket", outcome="miss", le="+Inf") == 2
    assert scraped.value("zit_request_seconds_sum", outcome="miss") > 0


def test_bytes_evictions_and_damage_are_told(serving):
    served = serving(max_entries=2)
    blobs = [served.generate(seed=seed).json()["images"][0]["blob"] for seed in range(4)]
    served.runtime.store.flush()
    served.runtime.store.blob_file(blobs[-1]).write_bytes(b"no picture")
    assert served.get("/zit/v1/entries?limit=1").status_code == 200
    served.runtime.store.suspect(blobs[-1])
    served.runtime.store.flush()
    scraped = Scraped(served)

    assert scraped.value("zit_evictions_total", cause="entries") == 2
    assert scraped.value("zit_evictions_total", cause="bytes") == 0
    assert scraped.value("zit_damage_total", kind="healed") == 1
    assert scraped.value("zit_store_quarantined") == 1
    assert scraped.value("zit_store_entries") == 1
    assert scraped.value("zit_store_max_entries") == 2
    told = served.get("/zit/v1/stats").json()["store"]
    assert scraped.value("zit_store_bytes", tier="disk") == told["bytes"]
    assert scraped.value("zit_store_bytes", tier="memory") == told["memory_bytes"]
    assert scraped.value("zit_store_bytes", tier="http") > 0
    assert scraped.value("zit_store_up") == 1


def test_weights_leases_and_the_queue_are_told(holding, tmp_path):
    served = holding()
    assert served.post("/zit/v1/models/preload", {"model": "mine"}).status_code == 200
    scraped = Scraped(served)

    told = scraped.samples.items()
    sizes = {dict(labels)["tier"]: number for (name, labels), number in told if name == "zit_model_bytes"}
    assert sum(sizes.values()) == sum(part.bytes for part in served.trial.pipeline.parts)
    assert scraped.value("zit_leases", model="mine") == 0
    assert scraped.value("zit_loads_total") == 1
    assert scraped.value("zit_load_seconds_total") > 0
    assert scraped.value("zit_queue_waiting") == 0
    assert str(tmp_path) not in scraped.text


def test_a_plugin_that_fails_is_counted(serving):
    class Breaks:
        @hookimpl
        def zit_bypass_reason(self):
            raise ValueError("broken")

    served = serving(plugins={"breaks": Breaks()})
    served.generate()
    scraped = Scraped(served)

    assert scraped.value("zit_requests_total", outcome="bypass", reason="plugin_failed") == 1
    assert scraped.value("zit_plugin_failures_total", kind="failed") == 1


def test_a_store_that_cannot_be_asked_is_a_metric_too(served):
    served.runtime.store.close()
    scraped = Scraped(served)
    assert scraped.value("zit_store_up") == 0
    assert ("zit_store_entries", ()) not in scraped.samples


def test_memory_of_devices_is_as_the_driver_reports_it(served, monkeypatch):
    class FakeError(Exception):
        pass

    def handle(index):
        if index == 1:
            raise FakeError("fell off the bus")
        return index

    nvml = types.SimpleNamespace(
        NVMLError=FakeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetName=lambda device: b"NVIDIA H100",
        nvmlDeviceGetMemoryInfo=lambda device: types.SimpleNamespace(total=80, used=30, free=50),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    driver = Driver()
    assert driver.memory() == [DriverMemory(0, "NVIDIA H100", 80, 30, 50)]
    monkeypatch.setattr(metrics_route, "DRIVER", driver)

    scraped = Scraped(served)

    device = {"device": "0", "name": "NVIDIA H100"}
    assert scraped.value("zit_device_memory_bytes", kind="used", **device) == 30
    assert scraped.value("zit_device_memory_bytes", kind="total", **device) == 80


def test_nvidias_own_module_is_asked_as_it_wants_to_be(monkeypatch):
    nvml = pytest.importorskip("pynvml")

    # The functions of the driver's library: what stands behind the module where there is a GPU.
    def count(into):
        into._obj.value = 1
        return 0

    def name(handle, into, length):
        into.value = b"NVIDIA H100 80GB HBM3"
        return 0

    def memory(handle, into):
        into._obj.total, into._obj.free, into._obj.used = 85_899_345_920, 85_000_000_000, 899_345_920
        return 0

    library = {
        "nvmlDeviceGetCount_v2": count,
        "nvmlDeviceGetHandleByIndex_v2": lambda index, into: 0,
        "nvmlDeviceGetName": name,
        "nvmlDeviceGetMemoryInfo": memory,
    }
    monkeypatch.setattr(nvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(nvml, "_nvmlGetFunctionPointer", library.__getitem__)

    known = DriverMemory(0, "NVIDIA H100 80GB HBM3", 85_899_345_920, 899_345_920, 85_000_000_000)
    assert Driver().memory() == [known]
    library["nvmlDeviceGetMemoryInfo"] = lambda handle, into: nvml.NVML_ERROR_GPU_IS_LOST
    assert Driver().memory() == []


def test_without_a_driver_nothing_is_told_of_devices(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Driver().memory() == []


def test_metrics_are_of_all_namespaces_and_shown_to_nobody_with_one(guarded):
    guarded.generate(headers=ALICE)
    for path in ("/metrics", "/zit/v1/metrics"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, headers=READER).status_code == 403
        assert guarded.get(path, headers=CHIEF).status_code == 200


def test_openmetrics_is_answered_to_who_asks_for_it(served):
    answer = served.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_without_the_package_the_answer_names_it(served, monkeypatch):
    monkeypatch.setattr(metrics_route, "find_spec", lambda name: None)
    answer = served.get("/metrics")
    assert answer.status_code == 501
    assert "prometheus_client" in answer.json()["error"]["message"]


def test_every_counter_of_damage_and_eviction_is_one_that_the_store_has():
    assert {*DAMAGE, *EVICTIONS} <= set(COUNTERS)


# The dashboard


def expressions():
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def test_every_metric_that_the_grafana_dashboard_names_exists(served):
    served.generate()
    there = set()
    for family in Scraped(served).families.values():
        there |= {family.name, f"{family.name}_total"} if family.type == "counter" else {family.name}
        if family.type == "histogram":
            there |= {f"{family.name}_{end}" for end in ("bucket", "sum", "count")}
    named = {name for _, expression in expressions() for name in re.findall(r"\bzit_\w+", expression)}

    assert named <= there
    assert len(named) > 15


def test_every_label_that_the_grafana_dashboard_names_exists(served):
    served.generate()
    of_prometheus = {"job", "instance", "le"}
    told = {name for (_, labels) in Scraped(served).samples for name, _ in labels}
    told |= {"device", "name", "error"}  # of what this machine has not, and what did not happen
    for title, expression in expressions():
        labels = set(re.findall(r'(\w+)(?:=~|!=|=)"', expression))
        for group in re.findall(r"by \(([^)]*)\)", expression):
            labels |= {each.strip() for each in group.split(",")}
        assert labels <= told | of_prometheus, title


def test_the_panels_of_the_grafana_dashboard_do_not_lie_on_each_other():
    taken: set[tuple[int, int]] = set()
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
