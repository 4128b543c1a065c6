"""The native cache in a real A1111 and a real Forge, through their API.

`ZIT_A1111_PATH` and `ZIT_FORGE_PATH` name their checkouts. Each is started on the CPU with a random
checkpoint, by its own Python (`venv` in the checkout, or `ZIT_A1111_PYTHON` and `ZIT_FORGE_PYTHON`), with
this repository as an extension in a data folder of its own.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zit_ext.installing.hosts import Host, python_of
from zit_ext.tensors import Tensor, encode_tensors

from .real_webui import RealWebui

pytestmark = [pytest.mark.host, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module", params=["A1111", "FORGE"])
def webui(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWebui]:
    checkout = os.environ.get(f"ZIT_{request.param}_PATH")
    if not checkout:
        pytest.skip(f"ZIT_{request.param}_PATH is not set")
    root = Path(checkout)
    named = os.environ.get(f"ZIT_{request.param}_PYTHON")
    python = Path(named) if named else python_of(Host("a1111", root))
    assert python is not None, f"no Python in the checkout: set ZIT_{request.param}_PYTHON"
    webui = RealWebui(root, python, tmp_path_factory.mktemp(request.param.lower()))
    try:
        webui.set_up()
        webui.start()
        # The first job loads the checkpoint, and the first that is kept hashes it.
        webui.txt2img(seed=1)
        settle(webui)
        yield webui
    finally:
        webui.stop()


def settle(webui: RealWebui) -> None:
    """Wait until the checkpoint is hashed: what is kept is found from then on."""
    for seed in range(2, 60):
        webui.outcomes()
        webui.txt2img(seed=seed)
        webui.txt2img(seed=seed)
        if webui.outcomes()[-1] == "hit":
            return
        time.sleep(0.3)
    raise AssertionError(webui.text()[-3000:])


def in_background(work: Callable[[], object]) -> threading.Thread:
    def told() -> None:
        with contextlib.suppress(OSError):  # the webui may be killed meanwhile
            work()

    thread = threading.Thread(target=told)
    thread.start()
    return thread


@pytest.fixture(autouse=True)
def afresh(webui: RealWebui) -> None:
    webui.outcomes()


def test_alone_miss_hit_restart_hit_are_one_picture_to_the_byte(webui):
    jobs = [webui.txt2img(cached=False), webui.txt2img(), webui.txt2img()]
    webui.stop()
    webui.start()
    jobs.append(webui.txt2img())
    jobs.append(webui.txt2img(cached=False))

    assert webui.outcomes() == ["hit"]
    assert len({tuple(each) for each in jobs}) == 1


def test_a_kill_in_mid_job_loses_that_job_only(webui):
    kept = webui.txt2img(seed=70)
    time.sleep(1)  # the writer is behind by some milliseconds
    long = in_background(lambda: webui.txt2img(seed=71, steps=150))
    time.sleep(1)
    webui.stop(kill=True)
    long.join()
    webui.start()
    again = webui.txt2img(seed=70)
    webui.txt2img(seed=71)

    assert webui.outcomes() == ["hit", "miss"]
    assert again == kept


def test_the_file_that_is_saved_on_a_hit_is_the_same_to_the_byte(webui):
    for _ in range(2):
        webui.txt2img(seed=80, save_images=True)
    miss, hit = webui.saved()[-2:]

    assert webui.outcomes() == ["miss", "hit"]
    assert miss != hit
    assert miss.read_bytes() == hit.read_bytes()


def test_a_batch_count_is_partly_hits_and_grids_are_the_same(webui):
    alone = webui.txt2img(seed=91)
    many = webui.txt2img(seed=90, n_iter=2)
    again = webui.txt2img(seed=90, n_iter=2)

    assert webui.outcomes() == ["miss", "miss", "hit", "hit", "hit"]
    assert again == many
    assert many[-1] == alone[0]


def test_a_batch_size_is_one_entry(webui):
    one = webui.txt2img(seed=95, batch_size=2)
    two = webui.txt2img(seed=95, batch_size=2)

    assert webui.outcomes() == ["miss", "hit"]
    assert one == two


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_hires(webui, upscaler):
    job = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": upscaler, "denoising_strength": 0.6, "seed": 100}
    if webui.is_forge:
        job["hr_additional_modules"] = ["Use same choices"]  # or its API fails
    alone = webui.txt2img(cached=False, **job)
    miss, hit = webui.txt2img(**job), webui.txt2img(**job)

    assert webui.outcomes() == ["miss", "hit"]
    assert alone == miss == hit


@pytest.mark.parametrize(
    "sampler",
    ["DDIM", "DPM++ 2M", "DPM++ SDE", "Euler", "Heun", "LMS", "DPM adaptive", "UniPC", "LCM", "Restart"],
)
def test_each_sampler_is_answered_with_what_the_webui_alone_makes(webui, sampler):
    job = {"sampler_name": sampler, "seed": 110, "steps": 4}
    alone = webui.txt2img(cached=False, **job)
    miss, hit = webui.txt2img(**job), webui.txt2img(**job)

    assert webui.outcomes() == ["miss", "hit"]
    assert alone == miss == hit


@pytest.mark.parametrize(
    "options",
    [
        {"eta_noise_seed_delta": 31337},
        {"emphasis": "No norm"},
        {"s_churn": 0.5, "sigma_max": 12.0, "eta_ancestral": 0.7},
        {"CLIP_stop_at_last_layers": 2, "randn_source": "NV", "tiling": True},
        {"token_merging_ratio": 0.5},
    ],
    ids=lambda each: next(iter(each)),
)
def test_options_are_in_the_key_and_their_infotext_is_restored(webui, options):
    prompt = "a (red:1.3) cat" if "emphasis" in options else "a cat"
    job = {"seed": 120, "prompt": prompt, "sampler_name": "Euler"}
    webui.txt2img(**job)
    job["override_settings"] = options
    alone = webui.txt2img(cached=False, **job)
    miss, hit = webui.txt2img(**job), webui.txt2img(**job)

    if webui.is_forge and "token_merging_ratio" in options:
        # Options that were never set stay as the last job overrode them.
        webui.post("/sdapi/v1/options", token_merging_ratio=0.0)
        assert all(each.startswith("bypass: Forge merges") for each in webui.outcomes()[-2:])
        return
    assert webui.outcomes()[-2:] == ["miss", "hit"]
    assert miss == hit
    # The webui alone writes no "Emphasis" where it still has the conditions of the job before.
    if "emphasis" not in options:
        assert alone == miss


def test_a_ddim_hit_tells_the_infotext_of_the_eta_as_a_run_does(webui):
    job = {"seed": 125, "sampler_name": "DDIM", "override_settings": {"eta_noise_seed_delta": 31337}}
    miss, hit = webui.txt2img(**job), webui.txt2img(**job)

    assert webui.outcomes() == ["miss", "hit"]
    assert miss == hit


def test_an_xyz_plot_again_is_all_hits_and_the_same_grid(webui):
    axes = [4, "2,3", [], 1, "130,131,132", [], 0, "", []]  # steps and seeds
    plot = [*axes, True, True, False, False, False, False, False, 0, False]  # the grid, and its pictures
    job = {"script_name": "X/Y/Z plot", "script_args": plot}
    first, second = webui.txt2img(**job), webui.txt2img(**job)

    assert webui.outcomes() == ["miss"] * 6 + ["hit"] * 6
    assert len(first) == 7
    assert first[1:] == second[1:]
    if not webui.is_forge:  # which alone draws another grid around the same pictures each time
        assert first == second


def test_a_lora_its_strength_and_its_file_are_in_the_key(webui):
    def with_lora(words: str) -> list[bytes]:
        return webui.txt2img(seed=140, prompt=f"a cat {words}")

    plain = webui.txt2img(seed=140, prompt="a cat ")
    alone = webui.txt2img(cached=False, seed=140, prompt="a cat <lora:style:1>")
    pictures = [with_lora("<lora:style:1>"), with_lora("<lora:style:1>"), with_lora("<lora:style:0.5>")]
    assert webui.outcomes() == ["miss", "miss", "hit", "miss"]
    assert alone == pictures[0] == pictures[1] != pictures[2]
    assert plain != pictures[0]

    folder = webui.data / "models" / "Lora"
    shutil.copyfile(folder / "other.safetensors", folder / "style.safetensors")
    with_lora("<lora:style:1>")  # the webui may still apply the old one
    assert webui.outcomes()[0].startswith("bypass: style")
    webui.stop()
    time.sleep(3)
    webui.start()
    replaced = with_lora("<lora:style:1>")
    assert webui.outcomes() == ["miss"]
    assert replaced != pictures[0]
    assert replaced == webui.txt2img(cached=False, seed=140, prompt="a cat <lora:style:1>")


def test_an_embedding_is_in_the_key_by_its_numbers_and_told_in_the_infotext(webui):
    def embed(seed: int) -> None:
        path = webui.data / "embeddings" / "zebra.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        time.sleep(0.1)  # the webui looks at the folder's time
        width = 768 if webui.is_forge else 32
        # Not one number all over: a layer norm would take that out again, and leave the same picture.
        drawn = random.Random(seed)
        values = [drawn.uniform(-1.0, 1.0) for _ in range(width)]
        numbers = Tensor("F32", (1, width), struct.pack(f"<{width}f", *values))
        path.write_bytes(encode_tensors({"emb_params": numbers}))
        if webui.is_forge:  # it reads them with the checkpoint
            told.extend(webui.outcomes())
            webui.stop()
            webui.start()

    told: list[str] = []
    job = {"seed": 143, "prompt": "a cat, Zebra"}
    plain = webui.txt2img(**job)
    embed(1)
    alone = webui.txt2img(cached=False, **job)
    miss, hit = webui.txt2img(**job), webui.txt2img(**job)
    embed(2)
    other = webui.txt2img(**job)

    assert told + webui.outcomes() == ["miss", "miss", "hit", "miss"]
    assert (b"TI: zebra" if webui.is_forge else b"TI hashes") in hit[0]
    assert alone == miss == hit
    assert len({plain[0], hit[0], other[0]}) == 3


def test_reloading_the_ui_forgets_nothing(webui):
    before = webui.txt2img(seed=145)
    webui.reload_ui()
    after = webui.txt2img(seed=145)
    webui.txt2img(seed=146)
    webui.txt2img(seed=146)

    assert webui.outcomes() == ["miss", "hit", "miss", "hit"]
    assert after == before
    assert "Error loading script: zit_script.py" not in webui.text()


def test_what_is_interrupted_is_not_kept(webui):
    thread = in_background(lambda: webui.txt2img(seed=150, steps=150))
    time.sleep(1)
    webui.post("/sdapi/v1/interrupt")
    thread.join()
    webui.txt2img(seed=150, steps=150)

    assert webui.outcomes() == ["miss", "miss"]
    assert "not kept: it was interrupted" in webui.text()


def test_a_job_can_be_switched_on_by_the_setting_and_img2img_says_why_not(webui):
    webui.post("/sdapi/v1/options", zit_native_cache=True)
    try:
        webui.txt2img(cached=False, seed=160)
        (picture,) = webui.txt2img(cached=False, seed=160)
        encoded = base64.b64encode(picture).decode()
        webui.post("/sdapi/v1/img2img", init_images=[encoded], steps=2, width=64, height=64)
    finally:
        webui.post("/sdapi/v1/options", zit_native_cache=False)

    assert webui.outcomes() == ["miss", "hit", "bypass: img2img is not kept yet"]


def test_another_checkpoint_file_under_the_same_name_is_never_answered_with_the_old_pictures(webui):
    before = webui.txt2img(seed=170)
    models = webui.data / "models" / "Stable-diffusion"
    aside = models.with_name("aside")
    shutil.copytree(models, aside)
    webui.make_checkpoint(9)
    webui.txt2img(seed=170)  # the webui still holds the old weights
    assert webui.outcomes()[1].startswith("bypass: tiny.")
    webui.stop()
    webui.start()
    after = webui.txt2img(seed=170)
    assert webui.outcomes() == ["miss"]
    assert after != before

    # And back: the old pictures are found again by their content.
    webui.stop()
    shutil.copyfile(aside / "tiny.safetensors", models / "tiny.safetensors")
    time.sleep(3)
    webui.start()
    settle(webui)
    assert webui.txt2img(seed=170) == before
    assert webui.outcomes()[-1] == "hit"


def test_the_webuis_own_packages_are_untouched(webui):
    code = "import importlib.util as u; print(u.find_spec('pluggy'), u.find_spec('zit_ext'))"
    told = subprocess.run(
        [str(webui.python), "-c", code],
        cwd=webui.folder,
        env=webui.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stdout.split() == ["None", "None"]
