"""The environment record: plain values, stable, and different where the bits may be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zit_ext.errors import RequestError, SettingError
from zit_ext.fingerprint import canonical_bytes, read_canonical
from zit_ext.models import torch_environment, zimage_devices
from zit_ext.records import ModelRef

pytestmark = pytest.mark.pipeline


def test_a_render_reports_what_it_was_made_with(zimage, ask, render):
    import diffusers
    import torch

    environment = render(zimage, ask()).environment

    assert environment["versions"]["torch"] == torch.__version__
    assert environment["versions"]["diffusers"] == diffusers.__version__
    assert environment["resolved"] == {
        "device": "cpu",
        "dtype": "float32",
        "attention": "native",
        "offload": "none",
        "vae_tiling": False,
        "pipeline": "diffusers.ZImagePipeline",
    }
    assert environment["flags"] == torch_environment.live_flags()


def test_the_record_is_plain_values_and_the_same_every_time(zimage, ask, render):
    first, again = (canonical_bytes(render(zimage, ask(seed=seed)).environment) for seed in (1, 2))

    assert first == again
    assert read_canonical(first)["device"] == {"kind": "cpu"}


@pytest.mark.parametrize(
    "change",
    [
        lambda torch: torch.set_num_threads(torch.get_num_threads() + 1),
        lambda torch: torch.set_float32_matmul_precision("medium"),
        lambda torch: torch.use_deterministic_algorithms(True),
        lambda torch: torch.backends.mkldnn.set_flags(False),
        lambda torch: setattr(torch.backends.cudnn, "benchmark", True),
        lambda torch: setattr(torch.backends.cudnn, "deterministic", True),
        lambda torch: torch.backends.cuda.enable_flash_sdp(False),
        lambda torch: torch.backends.cuda.enable_math_sdp(False),
        lambda torch: setattr(torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
        lambda torch: torch.set_default_dtype(torch.float64),
    ],
)
def test_a_flag_that_a_host_changes_is_seen(change):
    import torch

    threads = torch.get_num_threads()
    torch.set_float32_matmul_precision("highest")  # spelled out, as it is afterwards
    before = torch_environment.live_flags()
    try:
        change(torch)
        changed = torch_environment.live_flags()
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(False)
        torch.backends.mkldnn.set_flags(True)
        torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
        torch.backends.cuda.enable_flash_sdp(True)
        torch.backends.cuda.enable_math_sdp(True)
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
        torch.set_default_dtype(torch.float32)

    assert changed != before
    assert torch_environment.live_flags() == before


def test_flags_are_read_only_once_torch_is_whole():
    code = (
        "import sys, types; from zit_ext.models.torch_environment import torch_is_ready as ready; "
        "seen = [ready()]; "
        "half = sys.modules['torch'] = types.ModuleType('torch'); "
        "half.__spec__ = types.SimpleNamespace(_initializing=True); seen.append(ready()); "
        "del sys.modules['torch']; import torch; seen.append(ready()); print(seen)"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "[False, False, True]"


def test_variables_that_change_numbers_are_recorded_and_folders_are_not(zimage, ask, render, monkeypatch):
    before = render(zimage, ask()).environment
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("TORCH_HOME", "/somewhere/else")

    after = render(zimage, ask()).environment

    assert after["variables"] == {**before["variables"], "ATEN_CPU_CAPABILITY": "default"}


def test_the_record_follows_what_auto_came_to(open_zimage, tiny, ask, render):
    model = ModelRef(source=str(tiny), path=tiny, dtype="bfloat16", vae_tiling=True, attention="_native_math")
    resolved = render(open_zimage(model), ask()).environment["resolved"]

    assert resolved["dtype"] == "bfloat16"
    assert resolved["attention"] == "_native_math"
    assert resolved["vae_tiling"] is True


def test_another_attention_backend_is_used_and_others_keep_theirs(open_zimage, tiny, zimage, ask, render):
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry.get_active_backend()[0]
    expected = render(zimage, ask()).content

    math = open_zimage(ModelRef(source=str(tiny), path=tiny, attention="_native_math"))

    backends = {
        module.processor._attention_backend.value
        for module in math._modules["transformer"].modules()
        if hasattr(module, "processor")
    }
    assert backends == {"_native_math"}
    assert _AttentionBackendRegistry.get_active_backend()[0] == before
    assert render(math, ask()).content
    assert render(zimage, ask()).content == expected


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sdpa", "knows no such backend"),
        ("flash_hub", "code fetched from a hub"),
        ("sage", "does not run here"),
    ],
)
def test_an_attention_backend_that_cannot_be_is_refused_by_name(open_zimage, tiny, name, why):
    with pytest.raises(RequestError, match=why) as caught:
        open_zimage(ModelRef(source=str(tiny), path=tiny, attention=name))

    assert (caught.value.field, caught.value.value) == ("model.attention", name)


def test_auto_resolves_to_what_is_there():
    import torch

    device = zimage_devices.resolve_device("auto")

    assert zimage_devices.resolve_device(device) == device
    assert zimage_devices.resolve_dtype("auto", "cpu") == "float32"
    assert zimage_devices.resolve_dtype("bfloat16", "cpu") == "bfloat16"
    assert torch.zeros(1, device=device).device.type == device.split(":")[0]


@pytest.mark.parametrize("name", ["cuda:99", "tpu", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(SettingError, match="cpu"):
        zimage_devices.resolve_device(name)
