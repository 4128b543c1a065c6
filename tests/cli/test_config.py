"""Every setting with its value and origin; models; doctor; plugins; version."""

import json
import os
import sqlite3
from pathlib import Path

import pytest

from zit_ext import Settings, __version__
from zit_ext.cli import product_checks
from zit_ext.cli.checks import file_system_of
from zit_ext.cli.config_command import shown
from zit_ext.results.layout import Layout


def setting(cli, name, *arguments):
    return cli("config", "get", name, *arguments).out.strip()


def test_config_shows_every_setting_with_its_help(cli):
    out = cli("config").out
    for each in Settings.described():
        assert f"{each.name} " in out
        assert each.metadata["help"][:40] in out


def test_config_for_programs(cli):
    rows = {row["name"]: row for row in cli("config", "--json").json()}
    assert rows.keys() == {each.name for each in Settings.described()}
    assert (rows["max_entries"]["value"], rows["max_entries"]["origin"]) == (1000, "default")
    assert rows["cache_dir"]["origin"] == "ZIT_CACHE_DIR"


def test_later_places_win_and_are_named(cli, tmp_path, monkeypatch):
    def origins():
        rows = {row["name"]: row for row in cli(*call).json()}
        return rows["max_entries"]["value"], rows["max_entries"]["origin"]

    call = ["config", "--json"]
    (tmp_path / "config.toml").write_text("max_entries = 1\n")
    assert origins() == (1, str(tmp_path / "config.toml"))
    monkeypatch.setenv("ZIT_MAX_ENTRIES", "2")
    assert origins() == (2, "ZIT_MAX_ENTRIES")
    call = ["--profile", "compare", "config", "--json"]
    assert origins() == (10_000, "profile compare")
    call += ["--settings", "max_entries=3"]
    assert origins() == (3, "--settings")


def test_cache_dir_wins_over_settings(cli, tmp_path):
    shown = setting(cli, "cache_dir", "--cache-dir", str(tmp_path / "b"), "--settings", "cache_dir=/a")
    assert shown == str(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_entries", "5"),
        ("ttl_seconds", "90"),
        ("keep_random", "true"),
        ("max_bytes", "auto"),
        ("disabled_plugins", "a,b"),
        ("model_dirs", os.pathsep.join(str(Path(each).absolute()) for each in ("a", "b"))),
    ],
)
def test_what_config_shows_can_be_given_back(cli, name, value):
    shown = setting(cli, name, "--settings", f"{name}={value}")
    assert shown == value
    assert setting(cli, name, "--settings", f"{name}={shown}") == value


def test_every_value_can_be_given_back():
    settings = Settings()
    for each in Settings.described():
        value = getattr(settings, each.name)
        assert getattr(settings.with_values({each.name: shown(each.name, value)}, "test"), each.name) == value


def test_config_path_names_the_file_even_if_it_is_broken(cli, tmp_path):
    (tmp_path / "config.toml").write_text("= nonsense")
    assert cli("config", "path").out.strip() == str(tmp_path / "config.toml")
    assert cli("config", "path", "--json").json()["exists"] is True


def test_config_profiles(cli):
    assert {row["profile"] for row in cli("config", "profiles", "--json").json()} == {
        "explore",
        "compare",
        "serve",
    }
    assert "explore" in cli("config", "profiles").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["config", "get", "max_entrys"], "name = 'max_entrys': name a setting; nearest: max_entries"),
        (["config", "get"], "name = None: name a setting"),
        (["config", "--settings", "max_entrys=5"], "max_entrys = '5': there is no such setting"),
        (["config", "--settings", "max_entries=-5"], "max_entries = '-5': allowed is a whole number from 0"),
        (["config", "--settings", "max_entries"], "settings = 'max_entries': give NAME=VALUE"),
        (["config", "--profile", "fast"], "profile = 'fast': allowed is one of explore, compare, serve"),
        (["config", "--cache-dir", ""], "cache_dir = '': allowed is a path"),
    ],
)
def test_a_setting_that_cannot_be_names_itself_and_what_is_allowed(cli, arguments, words):
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"zit-ext: {words}")
    assert len(ran.err.splitlines()) == 1


def test_a_broken_settings_file_is_one_line(cli, tmp_path):
    (tmp_path / "config.toml").write_text("= nonsense")
    ran = cli("ls")
    assert ran.code == 2
    assert "config = " in ran.err
    assert str(tmp_path / "config.toml") in ran.err


def test_version(cli):
    assert cli("version").out.startswith(f"zit_ext {__version__} python ")
    assert cli("version", "--json").json()["zit_ext"] == __version__


# models


def test_models_lists_what_a_host_has(cli, model, tmp_path):
    host = tmp_path / "ComfyUI" / "models"
    for name in ("diffusion_models/z_image_turbo_bf16", "text_encoders/qwen_3_4b", "vae/ae", "loras/new/ink"):
        path = host / f"{name}.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 1500)
    ran = cli("models", "--json", "--settings", f"model_dirs={host}")
    found = {(row["kind"], row["name"], row["bytes"]) for row in ran.json()["found"]}
    assert found == {
        ("model", "z_image_turbo_bf16", 1500),
        ("text encoder", "qwen_3_4b", 1500),
        ("VAE", "ae", 1500),
        ("LoRA", "new/ink", 1500),
    }
    assert ran.json()["model"]["path"] == str(model)
    out = cli("models", "--settings", f"model_dirs={host}").out
    assert "1.5 kB" in out


def test_models_lists_pipelines_of_the_hugging_face_cache_and_nothing_else(cli, model, tmp_path):
    commit = "0" * 40
    for name, pipeline in (("org--z-image", "ZImagePipeline"), ("org--language", None)):
        repository = tmp_path / "hf" / "hub" / f"models--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        if pipeline:
            index = repository / "snapshots" / commit / "model_index.json"
            index.write_text(json.dumps({"_class_name": pipeline}))
    found = cli("models", "--json").json()["found"]
    assert [(row["name"], row["pipeline"]) for row in found] == [("org/z-image", "ZImagePipeline")]


def test_models_says_what_to_do_about_a_model_that_is_not_there(cli, home):
    ran = cli("models")
    assert ran.code == 0
    assert "model of the settings: Tongyi-MAI/Z-Image-Turbo (not found: it was not downloaded yet" in ran.out
    assert ran.out.count("Tongyi-MAI/Z-Image-Turbo (not") == 1


def test_a_path_is_told_once(cli, model):
    assert cli("models").out.splitlines()[0].count(str(model)) == 1
    assert checks(cli("doctor", "--json"))["model"]["words"].count(str(model)) == 1


def test_a_model_folder_that_is_not_there_is_named(cli, model, tmp_path):
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.mkdir()
    folders = f"model_dirs={there}{os.pathsep}{gone}"
    assert f"model folders: {there}, {gone} (not there)\n" in cli("models", "--settings", folders).out
    found = checks(cli("doctor", "--json", "--settings", folders))["model folders"]
    assert (found["state"], found["words"]) == ("warn", f"not there: {gone}")
    found = checks(cli("doctor", "--json", "--settings", f"model_dirs={there}"))["model folders"]
    assert (found["state"], found["words"]) == ("ok", str(there))
    assert "model folders" not in checks(cli("doctor", "--json"))


# doctor


def checks(ran):
    return {row["name"]: row for row in ran.json()}


def test_doctor_finds_nothing_to_mend(cli, model):
    ran = cli("doctor", "--json")
    assert ran.code == 0
    assert {row["state"] for row in ran.json()} <= {"ok", "warn"}
    assert {"python", "sqlite", "settings", "cache folder", "disk", "index", "rendering", "plugins"} <= set(
        checks(ran)
    )
    assert cli("doctor").code == 0


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_doctor_recommends_deep_to_whoever_has_not_asked_for_it(device):
    said = [product_checks.device(Settings(device=device), deep=deep).words for deep in (False, True)]
    assert said == [f"{said[1]}; --deep asks torch", said[1]]


def test_doctor_says_where_the_settings_are_wrong_and_goes_on(cli, model, tmp_path):
    (tmp_path / "config.toml").write_text("max_entries = -1\n")
    found = checks(ran := cli("doctor", "--json"))
    assert ran.code == 1
    assert found["settings"]["state"] == "FAIL"
    assert "max_entries = -1" in found["settings"]["words"]
    assert str(tmp_path / "config.toml") in found["settings"]["remedy"]
    assert found["index"]["state"] == "ok"


def test_doctor_sees_a_cache_folder_that_cannot_be_written_to(cli, model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    found = checks(ran := cli("doctor", "--json", "--cache-dir", str(tmp_path / "file" / "below")))
    assert ran.code == 1
    assert found["cache folder"]["state"] == "FAIL"
    assert "index" not in found


def test_doctor_sees_an_index_of_a_newer_version(cli, kept, tmp_path):
    kept("a boat")
    database = sqlite3.connect(Layout(tmp_path / "cache/results").indexes()[-1])
    database.execute("PRAGMA user_version = 999")
    database.close()
    found = checks(ran := cli("doctor", "--json"))
    assert ran.code == 1
    assert found["index"]["words"].startswith("schema 999; this version knows ")
    assert "upgrade zit_ext" in found["index"]["remedy"]


def test_doctor_sees_a_broken_plugin(cli, model, tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "bad.py").write_text("1 / 0")
    found = checks(ran := cli("doctor", "--json", "--settings", f"plugin_dir={tmp_path / 'plugins'}"))
    assert ran.code == 1
    assert "bad is broken" in found["plugins"]["words"]


def test_doctor_warns_of_a_cache_that_is_off(cli, model):
    found = checks(cli("doctor", "--json", "--settings", "debug=on"))
    assert found["cache"] == {
        "name": "cache",
        "state": "warn",
        "words": "off: debug is on (--settings)",
        "remedy": "set debug to false",
    }


def test_a_network_file_system_is_recognised(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n//server/y {tmp_path}-y cifs rw 0 0\n"
    )
    assert file_system_of(tmp_path / "cache", mounts) == "nfs4"
    assert file_system_of(tmp_path.parent / "other", mounts) == "ext4"
    assert file_system_of(tmp_path, tmp_path / "none") is None
