"""A setting has one declaration, a value, and an origin; a bad value says what is allowed."""

from pathlib import Path

import pytest

from zit_ext.errors import SettingError
from zit_ext.settings import PROFILES, Settings


def test_later_origins_win_and_are_remembered(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('profile = "compare"\nmax_entries = 7\nmax_bytes = "1 GB"\n')
    environ = {"ZIT_CONFIG": str(file), "ZIT_MAX_BYTES": "2 GiB", "XDG_CACHE_HOME": str(tmp_path)}
    settings = Settings.load(environ)
    assert (settings.eviction, settings.max_entries, settings.max_bytes) == ("cost", 7, 2 * 1024**3)
    assert settings.origin["eviction"] == "profile compare"
    assert settings.origin["max_entries"] == str(file)
    assert settings.origin["max_bytes"] == "ZIT_MAX_BYTES"
    assert "ttl_seconds" in settings.origin
    assert "write_queue" not in settings.origin


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("max_bytes", "lots", "10 GiB"),
        ("max_bytes", True, "10 GiB"),
        ("max_entries", -1, "whole number from 0"),
        ("max_entries", 1.5, "whole number from 0"),
        ("max_bytes", "9" * 400, "10 GiB"),
        ("max_entries", float("inf"), "whole number from 0"),
        ("ttl_seconds", "-1h", "0 or more"),
        ("ttl_seconds", "soon", "24h"),
        ("consistency", "roughly", "exact, portable"),
        ("dtype", "int4", "bfloat16"),
        ("debug", "maybe", "true or false"),
        ("preload", 3, "list of names"),
        ("cache_dir", "", "a path"),
        ("cache_dir", "~nobody-of-this-name/x", "a home that is there"),
        ("model_dirs", "~nobody-of-this-name/x", "a home that is there"),
        ("offload", "everything", "none, model, group"),
    ],
)
def test_a_bad_value_names_the_setting_the_value_and_what_is_allowed(name, value, allowed):
    with pytest.raises(SettingError, match=allowed) as raised:
        Settings().with_values({name: value}, "a test")
    assert (raised.value.field, raised.value.value) == (name, value)
    assert "a test" in str(raised.value)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(SettingError, match="max_entries"):
        Settings().with_values({"max_entry": 1}, "a test")


@pytest.mark.parametrize("text", ["max_entries = = 3", "preload = " + "[" * 5000], ids=["no TOML", "deep"])
def test_a_broken_file_is_named(tmp_path, text):
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(SettingError, match="cannot be read"):
        Settings().with_file(file)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(SettingError, match="set HOME"):
        Settings.load({})
    given = dict.fromkeys(("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(Path.cwd()))
    assert Settings.load(given).cache_dir == Path.cwd() / "zit_ext"


@pytest.mark.parametrize(("text", "off"), [("1", True), ("true", True), ("0", False), ("", False)])
@pytest.mark.parametrize("name", ["DISABLE_CACHE", "ZIT_DISABLE_CACHE"])
def test_the_cache_is_disabled_by_either_variable(name, text, off):
    assert Settings().with_env({name: text}).disable_cache is off


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_made_of_good_values(name):
    assert Settings().with_profile(name) != Settings()


def test_every_setting_is_described():
    for each in Settings.described():
        assert each.metadata["help"].endswith((".", "'s.")), each.name
        assert each.name in Settings.__dataclass_fields__


@pytest.mark.parametrize(
    ("platform", "environ", "tail"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "x/zit_ext"),
        ("win32", {"LOCALAPPDATA": "C:/u"}, "C:/u/zit_ext"),
        ("darwin", {}, "Library/Caches/zit_ext"),
    ],
)
def test_the_cache_folder_is_where_each_system_keeps_caches(platform, environ, tail):
    from zit_ext.setting_values import user_cache_dir

    assert user_cache_dir(environ, platform).as_posix().endswith(tail)
