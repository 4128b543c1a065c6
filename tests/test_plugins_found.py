"""Where plugins lie, and that one that was installed badly stops nobody else."""

import os
import sys
import threading
import types

import pytest

from tests.test_plugins import EntryPoint
from zit_ext import ModelRef, hookimpl, plugin_finding
from zit_ext.default_plugins.zimage import ZImage
from zit_ext.errors import ModelError
from zit_ext.plugins import Hooks, Troubles, find_plugins


def install_package(folder, name, entry_points):
    """Lay a package out as pip does: with a list of entry points that is as it was damaged."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_bytes(entry_points)


def test_a_package_that_was_installed_badly_stops_neither_the_host_nor_other_plugins(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "zit_whole.py").write_text("")
    install_package(tmp_path, "a-stranger", b"[console_scripts]\nno entry point\n")
    install_package(tmp_path, "zit-whole", b"[zit_ext]\nwhole = zit_whole\n")
    registered = find_plugins()
    assert (registered.reports["whole"].origin, registered.broken()) == ("package zit-whole 1.0", None)
    install_package(tmp_path, "zit-torn", b"[zit_ext]\ntorn\n")
    install_package(tmp_path, "zit-odd", b"[zit_ext]\nodd = z\xff\n")
    reports = find_plugins().reports
    assert {name for name, report in reports.items() if report.broken} == {"zit-torn", "zit-odd"}
    assert find_plugins(disabled=["zit-torn", "zit-odd"]).broken() is None


@pytest.mark.parametrize("name", ["log", "twin"])
def test_whoever_has_a_name_that_is_taken_can_be_disabled_without_the_other_one(name, monkeypatch):
    twin = EntryPoint("twin", lambda: types.ModuleType("twin"))
    second = EntryPoint(name, lambda: types.ModuleType("second"))
    second.value = "elsewhere"
    monkeypatch.setattr(plugin_finding, "entry_points_of", lambda group: [twin, second])
    longer = f"{name} (package elsewhere)"
    assert find_plugins().broken().name == longer
    registered = find_plugins(disabled=[longer])
    assert registered.broken() is None
    assert not registered.reports[name].disabled


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root and Windows have other rights")
def test_a_folder_of_plugins_that_cannot_be_read_bypasses_what_may_be_in_it(tmp_path):
    tmp_path.chmod(0)
    try:
        assert "Permission" in find_plugins(entry_points=False, folder=tmp_path).reports["plugin_dir"].broken
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_of_plugins_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    registered = find_plugins(entry_points=False, folder=tmp_path / "file")
    assert "NotADirectoryError" in registered.reports["plugin_dir"].broken


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_in_a_folder_like_tmp_only_our_own_files_are_run(tmp_path):
    tmp_path.chmod(0o1777)
    for name in ("ours", "theirs"):
        (tmp_path / f"{name}.py").write_text("")
    os.chown(tmp_path / "theirs.py", 12345, 12345)
    reports = find_plugins(entry_points=False, folder=tmp_path).reports
    assert reports["ours"].broken is None
    assert "somebody else's" in reports["theirs"].broken


def test_an_import_that_does_not_end_is_reported_while_it_hangs(tmp_path, monkeypatch, caplog):
    gate = types.ModuleType("zit_test_gate")
    gate.opened = threading.Event()
    monkeypatch.setitem(sys.modules, "zit_test_gate", gate)
    (tmp_path / "sloth.py").write_text("import zit_test_gate\nassert zit_test_gate.opened.wait(60)\n")

    class Opening(Troubles):
        def add(self, *given):
            gate.opened.set()
            return super().add(*given)

    troubles = Opening()
    registered = find_plugins(
        entry_points=False, folder=tmp_path, troubles=troubles, slow_seconds=0.01, hang_seconds=0.05
    )
    assert registered.reports["sloth"].broken is None
    kinds = {trouble.kind: trouble for trouble in troubles.all()}
    assert {(each.plugin, each.hook) for each in kinds.values()} == {("sloth", "")}
    assert "zit_test_gate.opened.wait" in kinds["hung"].words
    assert "to be imported" in caplog.text
    assert set(kinds) == {"hung", "slow"}


def test_what_zimage_cannot_open_is_told_with_what_to_do(tmp_path):
    def opens(model):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    registered = find_plugins(entry_points=False)
    registered.register(ZImage(opens), "zimage", "built in")
    hooks = Hooks(registered)
    with pytest.raises(ModelError, match=r"needs torch.*pip install 'zit_ext\[zimage\]'"):
        hooks.open_pipeline(ModelRef(source="weights", path=tmp_path))
    assert hooks.open_pipeline(ModelRef(source="stripes:red")) is None


def test_what_a_plugin_imports_may_be_as_odd_as_it_likes():
    class Proxy:
        def __getattr__(self, name):
            raise RuntimeError("working outside of a request")

    plugin = types.SimpleNamespace(
        request=Proxy(), zit_make_room=hookimpl(lambda: 1, specname="zit_make_room")
    )
    registered = find_plugins(entry_points=False)
    registered.register(plugin, "web")
    assert registered.reports["web"].hooks == ("zit_make_room",)
