"""Plugins that are found, left out, named; answers that are joined."""

import types

import pytest

from zit_ext import hookimpl, plugin_finding
from zit_ext.errors import FieldClashError, ModelMissingError, PluginError
from zit_ext.plugins import Hooks, find_plugins
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
