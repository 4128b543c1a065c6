"""Plugins that are found, left out, named; answers that are joined."""

import os
import types

import pytest

from zit_ext import CacheMode, hookimpl, plugin_finding
from zit_ext.errors import FieldClashError, ModelMissingError, PluginError
from zit_ext.plugins import Hooks, find_plugins
from zit_ext.setting_values import user_data_dir
from zit_ext.settings import Settings
from zit_ext.testing import FakePipeline, make_request


class EntryPoint:
    dist = None
    value = "somewhere"

    def __init__(self, name, load):
        self.name, self.load = name, load


def misspelt():
    plugin = types.ModuleType("misspelt")

    @hookimpl
    def zit_fingerprint_feilds(request):
        return {}

    plugin.zit_fingerprint_feilds = zit_fingerprint_feilds
    return plugin


def missing():
    raise ImportError("no module named numpy_but_newer")


def wrong_argument():
    plugin = types.ModuleType("wrong_argument")

    @hookimpl
    def zit_make_room(bytes_please):
        return 0

    plugin.zit_make_room = zit_make_room
    return plugin


def wrapper():
    plugin = types.ModuleType("wrapper")

    @hookimpl(wrapper=True)
    def zit_make_room(bytes_needed):
        return (yield)

    plugin.zit_make_room = zit_make_room
    return plugin


def bad_version():
    plugin = types.ModuleType("bad_version")
    plugin.fields_version = "two"
    return plugin


@pytest.mark.parametrize("load", [misspelt, missing, wrong_argument, wrapper, bad_version])
def test_a_broken_plugin_is_left_out_by_name_and_nothing_hits_until_it_is_disabled(load, monkeypatch, caplog):
    good = types.ModuleType("good")
    found = [EntryPoint("bad", load), EntryPoint("good", lambda: good)]
    monkeypatch.setattr(plugin_finding, "entry_points_of", lambda group: found)
    registered = find_plugins()
    assert registered.reports["good"].broken is None
    assert registered.reports["bad"].broken
    assert "'bad'" in caplog.text
    bypass = Hooks(registered).bypass(make_request())
    assert bypass.name == "plugin_broken"
    assert "'bad'" in bypass.words
    assert Hooks(find_plugins(disabled=["bad"])).bypass(make_request()) is None


def test_two_plugins_of_one_name_are_not_both_believed(monkeypatch):
    found = [EntryPoint("twin", lambda: types.ModuleType("twin")) for _ in range(2)]
    monkeypatch.setattr(plugin_finding, "entry_points_of", lambda group: found)
    assert find_plugins().broken() is not None


def test_a_file_in_the_plugin_folder_is_a_plugin(tmp_path):
    source = (
        "from zit_ext import hookimpl\n@hookimpl\ndef zit_fingerprint_fields(): return {'text': 'mine'}\n"
    )
    (tmp_path / "mark.py").write_text(source)
    (tmp_path / "torn.py").write_text("def (")
    registered = find_plugins(entry_points=False, folder=tmp_path)
    assert registered.reports["mark"].hooks == ("zit_fingerprint_fields",)
    assert "SyntaxError" in registered.reports["torn"].broken
    fields = Hooks(registered).fingerprint_fields(make_request())
    assert (fields["mark.text"], fields["mark.fields_version"]) == ("mine", 1)


def test_fields_are_named_after_their_plugin_and_its_version():
    registered = find_plugins(entry_points=False)
    answer = hookimpl(lambda: {"a": 1}, specname="zit_fingerprint_fields")
    registered.register(types.SimpleNamespace(zit_fingerprint_fields=answer, fields_version=4), "first")
    fields = Hooks(registered).fingerprint_fields(make_request())
    assert (fields["first.a"], fields["first.fields_version"]) == (1, 4)


def test_a_clash_names_both_plugins():
    registered = find_plugins(entry_points=False)
    for name, value in (("one", 1), ("two", 2)):
        answer = hookimpl(lambda value=value: {"shared.a": value}, specname="zit_fingerprint_fields")
        registered.register(types.SimpleNamespace(zit_fingerprint_fields=answer), name)
    with pytest.raises(FieldClashError) as raised:
        Hooks(registered).fingerprint_fields(make_request())
    assert set(raised.value.plugins) == {"one", "two"}


@pytest.mark.parametrize("answer", [["a"], "text", 3, {"a": object()}])
def test_nonsense_for_fields_is_refused_by_name(answer):
    registered = find_plugins(entry_points=False)
    nonsense = hookimpl(lambda: answer, specname="zit_fingerprint_fields")
    registered.register(types.SimpleNamespace(zit_fingerprint_fields=nonsense), "odd")
    with pytest.raises(PluginError, match="odd"):
        Hooks(registered).fingerprint_fields(make_request())


def test_hook_zit_open_pipeline_asks_the_next_plugin_after_a_failure():
    registered = find_plugins(entry_points=False)
    weights = FakePipeline()

    def fail(model):
        raise ZeroDivisionError

    for name, answer in (("able", lambda model: weights), ("unable", fail), ("idle", lambda model: None)):
        opener = hookimpl(answer, specname="zit_open_pipeline")
        registered.register(types.SimpleNamespace(zit_open_pipeline=opener), name)
    assert Hooks(registered).open_pipeline(make_request().model) is weights


def test_hook_zit_open_pipeline_passes_on_what_is_wrong_with_the_weights():
    registered = find_plugins(entry_points=False)

    def fail(model):
        raise ModelMissingError("x", "put it there")

    opener = hookimpl(fail, specname="zit_open_pipeline")
    registered.register(types.SimpleNamespace(zit_open_pipeline=opener), "zimage")
    with pytest.raises(ModelMissingError, match="put it there"):
        Hooks(registered).open_pipeline(make_request().model)


def test_hook_zit_make_room_sums_what_all_freed():
    registered = find_plugins(entry_points=False)

    def fail():
        raise ZeroDivisionError

    events = []
    for name, answer in (("one", lambda: 3), ("two", lambda bytes_needed: bytes_needed), ("bad", fail)):
        room = hookimpl(answer, specname="zit_make_room")
        registered.register(types.SimpleNamespace(zit_make_room=room), name)
    assert Hooks(registered, report=events.append).make_room(10, "cuda:0") == 13
    assert events == ["plugin_failed"]


def test_a_slow_plugin_is_named(caplog):
    registered = find_plugins(entry_points=False)
    reported = []
    slow = hookimpl(lambda: sum(range(200_000)) and None, specname="zit_bypass_reason")
    registered.register(types.SimpleNamespace(zit_bypass_reason=slow), "sloth")
    Hooks(registered, slow_after=1e-9, report=reported.append).bypass(make_request())
    assert "'sloth' took" in caplog.text
    assert "plugin_slow" in reported


def adding(registered, hook, **plugins_by_name):
    """Register plugins whose one hook gives what is named, in this order."""
    for name, answer in plugins_by_name.items():
        implementation = hookimpl(answer, specname=hook)
        registered.register(types.SimpleNamespace(**{hook: implementation}), name)
    return Hooks(registered)


def test_hosts_are_asked_first_then_files_then_packages_each_by_name_then_what_is_built_in(
    tmp_path, monkeypatch
):
    asked = []

    def module(name):
        plugin = types.ModuleType(name)
        plugin.zit_bypass_reason = hookimpl(lambda: asked.append(name), specname="zit_bypass_reason")
        return plugin

    found = [EntryPoint(name, lambda name=name: module(name)) for name in ("zebra", "ant")]
    monkeypatch.setattr(plugin_finding, "entry_points_of", lambda group: found)
    for name in ("yak", "bee"):
        text = f"import zit_ext\n@zit_ext.hookimpl\ndef zit_bypass_reason(): asked.append({name!r})\n"
        (tmp_path / f"{name}.py").write_text(text)
    registered = find_plugins(folder=tmp_path)
    for name in ("yak", "bee"):
        registered.manager.get_plugin(name).asked = asked
    for name in ("host_one", "host_two"):
        registered.register(module(name), name)
    first = module("first")
    first.zit_bypass_reason = hookimpl(first.zit_bypass_reason, specname="zit_bypass_reason", tryfirst=True)
    registered.register(first, "first")
    registered.register(module("host_three"), "host_three")
    bypass = Hooks(registered).bypass(make_request(prompt="a __color__ car"))
    assert asked == ["first", "host_three", "host_two", "host_one", "bee", "yak", "ant", "zebra"]
    assert bypass.name == "dynamic_prompts"


def test_the_first_answer_wins():
    hooks = adding(
        find_plugins(entry_points=False),
        "zit_bypass_reason",
        one=lambda: "one",
        two=lambda: "two",
        idle=lambda: None,
    )
    assert hooks.bypass(make_request()).name == "two"


@pytest.mark.parametrize(
    ("answer", "path"),
    [
        ({"a": object()}, "odd.a"),
        ({"a": {"b": [1, {2, 3}]}}, "odd.a.b[1]"),
        ({"a": float("nan")}, "odd.a"),
        ({"a": "\ud800"}, "odd.a"),
        ({"a": {1: "one"}}, "odd.a"),
        ({"a": CacheMode.USE}, "odd.a"),
        ({"a": make_request()}, "odd.a"),
        ({1: "a"}, "name is 1"),
        ({"": "a"}, "name is ''"),
        (["a"], "gave a list"),
        ("text", "gave a str"),
    ],
)
def test_what_has_no_place_in_a_key_is_refused_with_the_path_to_it(answer, path):
    hooks = adding(find_plugins(entry_points=False), "zit_fingerprint_fields", odd=lambda: answer)
    with pytest.raises(PluginError) as raised:
        hooks.fingerprint_fields(make_request())
    assert path in str(raised.value)
    assert "'odd'" in str(raised.value)


def test_a_field_that_holds_itself_is_refused():
    circle: dict[str, object] = {}
    circle["again"] = circle
    hooks = adding(find_plugins(entry_points=False), "zit_fingerprint_fields", odd=lambda: circle)
    with pytest.raises(PluginError, match="holds itself"):
        hooks.fingerprint_fields(make_request())


def test_every_value_that_the_docs_allow_is_taken():
    values = {"text": "a", "int": 2**70, "float": 0.1, "bool": True, "none": None, "digest": b"\0\xff"}
    hooks = adding(
        find_plugins(entry_points=False), "zit_fingerprint_fields", good=lambda: {**values, "in": [values]}
    )
    fields = hooks.fingerprint_fields(make_request())
    assert {name: fields[f"good.{name}"] for name in values} == values
    assert fields["good.in"] == [values]


def test_an_answer_cannot_change_after_it_was_given():
    answer = {"level": {"now": 1}}
    hooks = adding(find_plugins(entry_points=False), "zit_fingerprint_fields", sly=lambda: answer)
    fields = hooks.fingerprint_fields(make_request())
    answer["level"]["now"] = 2
    assert fields["sly.level"] == {"now": 1}


def test_a_plugin_without_fields_is_in_no_key():
    def nothing():
        return {}

    plain = Hooks(find_plugins(entry_points=False)).fingerprint_fields(make_request())
    hooks = adding(
        find_plugins(entry_points=False), "zit_fingerprint_fields", idle=lambda: None, empty=nothing
    )
    assert hooks.fingerprint_fields(make_request()) == plain


@pytest.mark.parametrize("name", ["core", "zimage", "metrics"])
def test_nobody_takes_the_place_of_a_built_in_plugin(name, monkeypatch):
    found = [EntryPoint(name, lambda: types.ModuleType("impostor"))]
    monkeypatch.setattr(plugin_finding, "entry_points_of", lambda group: found)
    report = find_plugins().broken()
    assert (report.name, "built-in" in report.broken) == (f"{name} (package somewhere)", True)


@pytest.mark.parametrize("name", ["extra", "prompt", "model", "environment", "schema", "a.b", "", "a b"])
def test_a_plugin_is_not_called_what_would_look_like_our_own_fields(name):
    with pytest.raises(PluginError, match="cannot be called"):
        find_plugins(entry_points=False).register(types.ModuleType("any"), name)


def test_what_is_disabled_is_not_even_imported_and_the_core_stays(tmp_path, monkeypatch):
    def load():
        raise AssertionError("imported")

    monkeypatch.setattr(plugin_finding, "entry_points_of", lambda group: [EntryPoint("package", load)])
    (tmp_path / "file.py").write_text("raise AssertionError")
    registered = find_plugins(disabled=["package", "file", "core", "log", "host"], folder=tmp_path)
    registered.register(types.ModuleType("any"), "host")
    assert {name for name, report in registered.reports.items() if report.disabled} == {
        "package", "file", "log", "host",
    }  # fmt: skip
    assert registered.broken() is None
    assert registered.manager.get_plugin("host") is None
    assert Hooks(registered).fingerprint_fields(make_request())["prompt"] == "a lighthouse at dusk"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_a_plugin_file_that_everybody_may_write_is_not_run(tmp_path):
    file = tmp_path / "open.py"
    file.write_text("raise AssertionError('run')")
    file.chmod(0o666)
    assert "everybody may write" in find_plugins(entry_points=False, folder=tmp_path).reports["open"].broken


def test_files_that_are_no_plugins_are_passed_over(tmp_path):
    for name in ("_shared.py", ".hidden.py", "notes.txt"):
        (tmp_path / name).write_text("1 / 0")
    assert find_plugins(entry_points=False, folder=tmp_path).broken() is None


def test_a_folder_of_single_files_that_is_not_there_is_warned_of_and_costs_nothing(tmp_path, caplog):
    assert find_plugins(entry_points=False, folder=tmp_path / "nowhere").broken() is None
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert str(tmp_path / "nowhere") in caplog.text
    assert "plugin_dir" in caplog.text


def test_the_folder_of_single_files_is_off_unless_it_is_set():
    assert Settings().plugin_dir is None
    assert Settings().with_env({"ZIT_PLUGIN_DIR": "off"}).plugin_dir is None
    user = Settings().with_env({"ZIT_PLUGIN_DIR": "user"}).plugin_dir
    assert user == user_data_dir(os.environ) / "plugins"


def test_a_misspelt_hook_comes_with_what_was_meant():
    with pytest.raises(PluginError, match="did you mean 'zit_fingerprint_fields'"):
        find_plugins(entry_points=False).register(misspelt(), "misspelt")


def test_a_hook_of_a_newer_version_may_be_marked_as_optional():
    def zit_in_ten_years():
        return None

    plugin = types.SimpleNamespace(zit_in_ten_years=hookimpl(zit_in_ten_years, optionalhook=True))
    registered = find_plugins(entry_points=False)
    registered.register(plugin, "early")
    assert registered.reports["early"].broken is None


def test_a_plugin_that_fails_to_register_leaves_nothing_behind():
    registered = find_plugins(entry_points=False)
    before = dict(registered.reports)
    with pytest.raises(PluginError):
        registered.register(wrong_argument(), "late")
    assert registered.reports == before
    assert Hooks(registered).make_room(1, "cpu") == 0
    registered.register(types.ModuleType("mended"), "late")
    assert "late" in registered.reports


def test_ctrl_c_is_no_fault_of_a_plugin():
    def interrupted():
        raise KeyboardInterrupt

    hooks = adding(find_plugins(entry_points=False), "zit_bypass_reason", plain=interrupted)
    with pytest.raises(KeyboardInterrupt):
        hooks.bypass(make_request())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"a": 1, "mark.a": 2}, "twice"),
        ({"mark.a": 1, "a": 1}, "twice"),
        ({"fields_version": 9}, "the attribute of your module"),
        ({"mark.fields_version": 9}, "the attribute of your module"),
    ],
)
def test_a_plugin_that_gives_one_field_twice_loses_none_silently(fields, words):
    hooks = adding(find_plugins(entry_points=False), "zit_fingerprint_fields", mark=lambda: fields)
    with pytest.raises(PluginError, match=words):
        hooks.fingerprint_fields(make_request())
