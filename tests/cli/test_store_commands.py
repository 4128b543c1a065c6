"""The store as a whole: statistics, pruning, clearing, moving to another machine."""

import zipfile

import pytest

from zit_ext.cli.console import Console


def count(cli, *arguments):
    return cli("stats", "--json", *arguments).json()["entries"]


def test_stats_of_an_empty_store(cli, model):
    row = cli("stats", "--json").json()
    assert (row["entries"], row["hits"], row["saved_seconds"]) == (0, 0, 0)


def test_stats_say_what_hits_have_saved_over_all_processes(cli, kept):
    kept("a boat")
    for _ in range(3):
        cli("generate", "a boat", "--seed", "7")
    row = cli("stats", "--json").json()
    assert (row["entries"], row["hits"], row["saved_seconds"]) == (1, 3, 3.0)
    assert row["max_entries"] == 1000
    assert row["hit_rate"] == 0.75
    assert (row["history"]["hit"], row["history"]["miss"], row["damage"]) == (3, 1, {})


def test_stats_for_people(cli, kept):
    kept("a boat")
    kept("a boat", "--namespace", "ann")
    out = cli("stats").out
    assert "entries          2 of 1,000" in out
    assert "hit rate         0% of 2 looked up" in out
    assert sorted(line.split()[:2] for line in out.splitlines()[-2:]) == [["ann", "1"], ["default", "1"]]


def test_stats_say_which_damage_was_found_by_any_program(cli, kept, tmp_path):
    kept("a boat")
    assert "damage" not in cli("stats").out
    blob = next(path for path in (tmp_path / "cache/results/blobs").rglob("*") if path.is_file())
    blob.write_bytes(b"no picture")
    cli("generate", "a boat", "--seed", "7")

    # A request looks twice, and may meet the same damage again before it is mended.
    damage = cli("stats", "--json").json()["damage"]
    assert damage in ({"corrupt": 1, "healed": 1}, {"corrupt": 2, "healed": 1})
    line = f"damage found     {damage['corrupt']} corrupt: a blob was not what was written"
    assert line in cli("stats").out
    row = cli("stats", "--json", "--namespace", "nobody").json()
    assert (row["hit_rate"], row["damage"]) == (None, {})


def test_stats_without_a_history_say_so(cli, model):
    assert "not known: nothing was looked up" in cli("stats").out
    row = cli("stats", "--json").json()
    assert (row["hit_rate"], row["history"]) == (None, {"since": None})


def test_stats_of_one_namespace(cli, kept):
    kept("a boat")
    kept("a fog", "--namespace", "ann", seed=8)
    assert count(cli, "--namespace", "ann") == 1
    assert count(cli) == 2


def test_prune_removes_what_is_over_a_cap(cli, kept):
    for seed in range(3):
        kept("a boat", seed=seed)
    row = cli("prune", "--json", "--settings", "max_entries=1").json()
    assert row["evicted"] + row["stale"] <= 2
    assert count(cli) == 1
    assert cli("prune").out.startswith("freed ")


def test_clear_without_a_yes_removes_nothing(cli, kept):
    kept("a boat")
    ran = cli("clear")
    assert ran.code == 2
    assert "say --yes" in ran.err
    assert count(cli) == 1


def test_clear_removes_everything_pinned_or_not(cli, kept):
    cli("pin", kept("a boat")["key"])
    assert cli("clear", "--yes", "--json").json() == {"removed": 1}
    assert count(cli) == 0
    assert cli("clear").code == 0


@pytest.mark.parametrize(("answer", "left"), [(True, 0), (False, 1)])
def test_clear_asks_whoever_is_there(cli, kept, monkeypatch, answer, left):
    kept("a boat")
    monkeypatch.setattr(Console, "confirmed", lambda self, question: answer)
    cli("clear")
    assert count(cli) == left


def test_clear_of_a_namespace_leaves_the_others(cli, kept):
    kept("a boat")
    kept("a boat", "--namespace", "ann")
    cli("clear", "--namespace", "ann", "--yes")
    assert count(cli) == 1


def test_an_export_is_imported_elsewhere_and_hits_there(cli, kept, home, tmp_path, rendered):
    key = kept("a boat")["key"]
    assert cli("export", "out/results.zip").code == 0
    elsewhere = ("--cache-dir", str(tmp_path / "elsewhere"))
    assert "1 entry" in cli("import", "out/results.zip", *elsewhere).out
    assert cli("ls", "--json", *elsewhere).json()[0]["key"] == key
    assert "1 were there already" in cli("import", "out/results.zip", *elsewhere).out


def test_an_export_does_not_overwrite(cli, kept, home):
    kept("a boat")
    (home / "old.zip").write_text("mine")
    ran = cli("export", "old.zip")
    assert (ran.code, (home / "old.zip").read_text()) == (2, "mine")
    assert cli("export", "old.zip", "--overwrite").code == 0
    assert zipfile.is_zipfile(home / "old.zip")


@pytest.mark.parametrize("content", [None, b"no archive", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_export_is_refused_in_one_line(cli, model, home, content):
    if content is not None:
        (home / "results.zip").write_bytes(content)
    ran = cli("import", "results.zip")
    assert ran.code in (1, 2)
    assert len(ran.err.splitlines()) == 1
    assert "results.zip" in ran.err or "archive" in ran.err
