"""A model of the hub arrives whole, verified, in the usual cache; whatever is in the way says what to do."""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import replace

import pytest

from zit_ext.errors import GenerationStoppedError, ModelError, ModelMissingError
from zit_ext.models import download as module
from zit_ext.models import hub_cache, tokenizers
from zit_ext.models.digests import Digests
from zit_ext.models.download import download, ensure_downloaded, ensure_tokenizer, main
from zit_ext.models.fetching import WrongBytesError
from zit_ext.models.single_files import PARTS
from zit_ext.models.weight_files import look
from zit_ext.records import TURBO, FileRef, ModelRef
from zit_ext.settings import Settings

from .conftest import later, safetensors, write, write_model
from .fake_hub import COMMIT
from .test_single_files import single

pytestmark = pytest.mark.pipeline  # the hub's client comes with what renders

WEIGHTS = "transformer/model.safetensors"
UNWANTED = ("README.md", "pickled.bin", "program.py")


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "origin")


@pytest.fixture
def home(hub, hub_home, model, monkeypatch):
    """A hub with a model, and a home that knows no other."""
    for file in sorted(model.rglob("*")):
        if file.is_file():
            hub.files[file.relative_to(model).as_posix()] = file.read_bytes()
    hub.files.update(dict.fromkeys(UNWANTED, b"a text or a program"))
    hub.files[WEIGHTS] = safetensors({str(number): "F32" for number in range(20_000)})
    monkeypatch.setattr("zit_ext.models.fetching.time.sleep", lambda _seconds: None)
    monkeypatch.setattr(module, "fetch", _impatient(module.fetch))
    return hub_home


def _impatient(fetch):
    def fetch_without_waits(*arguments, **options):
        fetch(*arguments, **options, sleep=lambda _seconds: None)

    return fetch_without_waits


@pytest.fixture
def get(hub, home):
    return lambda **options: download(hub.repo_id, endpoint=hub.address, **options)


def free_bytes(free):
    return shutil._ntuple_diskusage(free, 0, free)


def large_gets(hub):
    return [place for place in hub.asked if place.startswith("GET") and place.endswith(".safetensors")]


def test_what_a_pipeline_needs_arrives_and_nothing_else(hub, get):
    snapshot = get()
    there = {
        each.relative_to(snapshot).as_posix(): each.read_bytes()
        for each in snapshot.rglob("*")
        if each.is_file()
    }
    assert there == {
        name: data
        for name, data in hub.files.items()
        if name not in ("README.md", "pickled.bin", "program.py")
    }


def test_it_lies_where_other_tools_find_it(hub, get):
    from huggingface_hub import snapshot_download

    snapshot = get()
    assert hub_cache.snapshot(hub.repo_id) == snapshot
    offline = snapshot_download(
        hub.repo_id,
        cache_dir=hub_cache.cache_folder(),
        local_files_only=True,
        allow_patterns=["*.safetensors"],
    )
    assert offline == str(snapshot)
    assert not list(hub_cache.cache_folder().rglob("*.incomplete"))


def test_its_digests_are_known_without_reading_it(hub, get, tmp_path):
    snapshot = get()
    (seen,) = [each for each in look(snapshot) if each.name == WEIGHTS]
    named = Digests(tmp_path / "cache", clock=later()).named([seen])
    assert named[seen] == hashlib.sha256(hub.files[WEIGHTS]).hexdigest()


def test_a_second_time_nothing_large_is_fetched(hub, get):
    first = get()
    hub.asked.clear()
    assert get() == first
    assert large_gets(hub) == []


def test_cut_connections_are_gone_on_with(hub, get):
    hub.cuts[WEIGHTS] = [100_000, 200_000]
    snapshot = get()
    assert (snapshot / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert hub.ranges == [(WEIGHTS, "bytes=100000-"), (WEIGHTS, "bytes=300000-")]


def test_what_was_given_up_is_gone_on_with_the_next_time(hub, get):
    hub.cuts[WEIGHTS] = [100_000, *[0] * 10]
    with pytest.raises(ModelError, match="run the same again"):
        get()
    hub.cuts.clear()
    hub.ranges.clear()
    snapshot = get()
    assert (snapshot / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert hub.ranges == [(WEIGHTS, "bytes=100000-")]


def test_a_download_that_was_stopped_goes_on_the_next_time(hub, get):
    seen = []
    with pytest.raises(GenerationStoppedError):
        get(report=seen.append, wants_stop=lambda: len(seen) > 3)
    assert hub_cache.snapshot(hub.repo_id) is None
    assert (get() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_progress_grows_to_the_size_of_all_files(hub, get):
    seen = []
    get(report=seen.append)
    wanted = sum(len(data) for name, data in hub.files.items() if name not in UNWANTED)
    assert {each.total for each in seen} == {wanted}
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert seen[-1].done == wanted
    assert WEIGHTS in {each.file for each in seen}


def test_wrong_bytes_of_a_large_file_are_refused(hub, get):
    hub.wrong[WEIGHTS] = hub.files[WEIGHTS][:-1] + b"x"
    with pytest.raises(WrongBytesError, match="other bytes than promised"):
        get()
    assert hub_cache.snapshot(hub.repo_id) is None
    hub.wrong.clear()
    assert (get() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_wrong_bytes_of_a_small_file_are_refused_and_removed(hub, get):
    name = "tokenizer/chat_template.jinja"
    hub.wrong[name] = b"{{ y }}"
    with pytest.raises(WrongBytesError, match=name):
        get()
    assert not (hub_cache.snapshot(hub.repo_id) / name).exists()
    hub.wrong.clear()
    assert (get() / name).read_bytes() == hub.files[name]


@pytest.mark.parametrize("name", [WEIGHTS, "vae/config.json"])
@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_what_was_damaged_since_is_fetched_again(hub, get, name, how):
    place = (get() / name).resolve()
    data = hub.files[name]
    place.write_bytes(bytes([data[0] ^ 1]) + data[1:] if how == "flipped" else data[:-1])
    assert (get() / name).read_bytes() == data


GATED = (403, "GatedRepo", "accept the terms at")
PRIVATE = (401, "RepoNotFound", "or it is private")
NONE = (404, "RepoNotFound", "check the spelling")
BROKEN = (500, "", "check the network")


@pytest.mark.parametrize(("status", "code", "words"), [GATED, PRIVATE, NONE, BROKEN])
def test_a_hub_that_refuses_says_what_to_do(hub, get, status, code, words):
    hub.status, hub.error_code = status, code
    with pytest.raises(ModelError, match=words) as refused:
        get()
    assert hub.repo_id in str(refused.value)


def test_a_network_that_is_not_there_says_what_to_do(hub, home):
    with pytest.raises(ModelError, match="check the network"):
        download(hub.repo_id, endpoint="http://127.0.0.1:9")


def test_a_repository_without_safe_weights_is_refused(hub, get):
    hub.files = {"model.bin": b"a program", "config.json": b"{}"}
    with pytest.raises(ModelMissingError, match=r"no \.safetensors files"):
        get()


def test_offline_nothing_is_asked(hub, get, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelMissingError, match="offline is set"):
        get()
    assert not hub.asked


def test_a_disk_that_is_too_small_is_told_before_anything_large_is_fetched(hub, get, monkeypatch):
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda _place: shutil._ntuple_diskusage(1, 1, 500_000_100)
    )
    with pytest.raises(ModelError, match="HF_HOME") as refused:
        get()
    assert "GB" in str(refused.value)
    assert large_gets(hub) == []


def test_what_is_there_needs_no_room(hub, get, monkeypatch):
    get()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _place: free_bytes(0))
    get()


def test_a_token_is_sent_to_the_hub(hub, get, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get()
    assert (f"GET /{hub.repo_id}/resolve/{COMMIT}/{WEIGHTS}", "Bearer hf_secret") in hub.tokens


# Where a source is asked for, as the demo and `zit-ext` do


@pytest.fixture
def settings(tmp_path):
    return Settings(cache_dir=tmp_path / "cache", data_dir=tmp_path / "data")


@pytest.fixture
def from_our_hub(hub, monkeypatch):
    really = module.download
    monkeypatch.setattr(
        module, "download", lambda source, **options: really(source, endpoint=hub.address, **options)
    )


def test_an_id_that_is_not_there_is_downloaded(hub, home, settings, from_our_hub):
    ensure_downloaded(hub.repo_id, settings)
    assert hub_cache.snapshot(hub.repo_id) is not None
    hub.asked.clear()
    ensure_downloaded(hub.repo_id, settings)
    assert not hub.asked


@pytest.mark.parametrize("damage", ["a part went", "cut off"])
def test_a_download_that_is_not_whole_is_completed(hub, home, settings, from_our_hub, damage):
    ensure_downloaded(hub.repo_id, settings)
    file = hub_cache.snapshot(hub.repo_id) / WEIGHTS
    if damage == "cut off":
        file.resolve().write_bytes(hub.files[WEIGHTS][:1000])
    else:
        file.resolve().unlink()
        file.unlink(missing_ok=True)
    ensure_downloaded(hub.repo_id, settings)
    assert file.read_bytes() == hub.files[WEIGHTS]


@pytest.mark.parametrize("source", ["/no/such/folder", "ae", "vits:tiny", ""])
def test_what_is_no_id_is_left_to_the_resolver(hub, home, settings, from_our_hub, source, monkeypatch):
    ensure_downloaded(source or "vits:other", settings)
    assert not hub.asked


@pytest.mark.parametrize("how", ["setting", "variable"])
def test_offline_it_is_left_to_the_resolver(hub, home, settings, from_our_hub, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    else:
        settings = settings.with_values({"offline": True}, "test")
    ensure_downloaded(hub.repo_id, settings)
    assert not hub.asked


# The command


def test_the_command_says_where_it_went(hub, home, from_our_hub, capsys):
    assert main([hub.repo_id]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(hub_cache.snapshot(hub.repo_id))
    assert "(100%)" in said.err


def test_the_command_says_why_it_failed(hub, home, from_our_hub, capsys):
    hub.status, hub.error_code = 404, "RepoNotFound"
    assert main([hub.repo_id]) == 1
    assert "check the spelling" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["/a/path"]])
def test_the_command_says_how_it_is_used(arguments, capsys):
    assert main(arguments) == 2
    assert "usage" in capsys.readouterr().err


def test_without_the_hubs_client_it_says_what_to_install(home, hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelMissingError, match="pip install huggingface_hub"):
        download(hub.repo_id)


def test_a_file_in_place_of_the_cache_is_an_error_of_ours(hub, home, get):
    write(hub_cache.cache_folder(), b"a file where the folder should be")
    with pytest.raises(ModelError):
        get()


# The tokenizer alone


def model_of_single_files(folder):
    files = {part: write(folder / f"{part}.safetensors", single(part)) for part in PARTS}
    return ModelRef(
        source=str(files["transformer"]),
        text_encoder=FileRef(source=str(files["text_encoder"])),
        vae=FileRef(source=str(files["vae"])),
    )


@pytest.fixture
def alone(hub, hub_home, settings, monkeypatch, tmp_path):
    """A model of single files without a tokenizer, and a hub that has one."""
    hub.repo_id = TURBO
    hub.files = {
        "tokenizer/tokenizer.json": b"{}",
        "tokenizer/merges.txt": b"a b",
        "model_index.json": b"{}",
        WEIGHTS: safetensors({"a": "F32"}),
    }
    really = download
    monkeypatch.setattr(
        module, "download", lambda source, **options: really(source, endpoint=hub.address, **options)
    )
    return model_of_single_files(tmp_path / "singles")


def test_a_tokenizer_comes_without_the_weights(hub, alone, settings):
    ensure_tokenizer(alone, settings)

    place = hub_cache.snapshot(TURBO)
    assert sorted(each.relative_to(place).as_posix() for each in place.rglob("*") if each.is_file()) == [
        "tokenizer/merges.txt",
        "tokenizer/tokenizer.json",
    ]
    assert tokenizers.at_hand(()) == place / "tokenizer"
    hub.asked.clear()
    ensure_tokenizer(alone, settings)
    assert not hub.asked


def test_the_model_can_be_downloaded_after_its_tokenizer(hub, alone, settings):
    ensure_tokenizer(alone, settings)
    ensure_downloaded(TURBO, settings)

    assert (hub_cache.snapshot(TURBO) / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_a_model_that_needs_none_or_is_not_there_asks_the_hub_for_nothing(hub, alone, settings, tmp_path):
    write(tmp_path / "mine" / "tokenizer.json", b"{}")
    other = write(tmp_path / "other.safetensors", safetensors({"of_another_kind": "F32"}))
    for needless in (
        ModelRef(source=str(tmp_path / "mine")),
        ModelRef(source=str(other)),
        ModelRef(source=str(tmp_path / "nowhere")),
        ModelRef(source="vits:tiny"),
        replace(alone, tokenizer=FileRef(source=str(tmp_path / "mine"))),
        replace(alone, text_encoder=FileRef(source=str(tmp_path / "mine"))),
    ):
        ensure_tokenizer(needless, settings)
    ensure_tokenizer(alone, settings.with_values({"offline": True}, "test"))

    assert not hub.asked


def test_the_command_fetches_a_tokenizer_alone(hub, alone, settings, capsys):
    assert main(["--tokenizer", TURBO]) == 0

    assert not large_gets(hub)
    assert (hub_cache.snapshot(TURBO) / "tokenizer" / "tokenizer.json").is_file()


def test_a_repository_without_a_tokenizer_says_so(hub, alone, settings, capsys):
    hub.files = {WEIGHTS: safetensors({"a": "F32"})}

    assert main(["--tokenizer", TURBO]) == 1
    assert "no folder 'tokenizer'" in capsys.readouterr().err
