"""Each test tells one story of `zit-ext generate`, with a real store and a fake renderer."""

import os

import pytest

from zit_ext.cli.console import Console
from zit_ext.codecs import decode_png


def test_the_first_call_renders_and_the_second_finds_the_same_bytes(cli, model, home, rendered):
    first = cli("generate", "a lighthouse", "--seed", "7", "--json").lines()[0]
    second = cli("generate", "a lighthouse", "--seed", "7", "--json").lines()[0]
    assert (first["outcome"], second["outcome"]) == ("miss", "hit")
    assert first["key"] == second["key"]
    assert second["tier"] == "disk"
    assert second["saved_seconds"] == 1.0
    assert (home / first["file"]).read_bytes() == (home / second["file"]).read_bytes()
    assert (first["file"], second["file"]) == ("zit-7.png", "zit-7-1.png")
    assert len(rendered) == 1


def test_the_file_holds_the_pixels_of_the_digest(cli, model, home):
    row = cli("generate", "a lighthouse", "--seed", "7", "--json").lines()[0]
    assert decode_png((home / row["file"]).read_bytes()).digest == row["digest"]


def test_people_read_what_happened_in_a_line(cli, model):
    cli("generate", "a lighthouse", "--seed", "6")
    args = ("generate", "a lighthouse", "--seed", "7")
    assert "zit-7.png  rendered in" in (first := cli(*args)).out
    assert ", kept; seed 7; key " in first.out
    assert "zit-7-1.png  from disk in" in (second := cli(*args)).out
    assert "1 s saved; seed 7; key " in second.out
    assert (first.err, second.err) == ("", "")


def test_a_batch_is_partly_hits(cli, model, rendered):
    cli("generate", "a boat", "--seed", "5")
    rows = cli("generate", "a boat", "--seed", "4", "--count", "3", "--json").lines()
    assert [(row["seed"], row["outcome"]) for row in rows] == [(4, "miss"), (5, "hit"), (6, "miss")]
    assert sorted(request.seed for request in rendered) == [4, 5, 6]


def test_a_batch_longer_than_the_queue_is_answered_in_order(cli, model):
    ran = cli("generate", "a boat", "--seed", "0", "--count", "20", "--json", "--settings", "queue_limit=2")
    assert [row["seed"] for row in ran.lines()] == list(range(20))


def test_without_a_seed_one_is_drawn_and_told(cli, model):
    row = cli("generate", "a boat", "--json").lines()[0]
    assert (row["outcome"], row["detail"], row["stored"]) == ("bypass", "seed -1", False)
    assert row["file"] == f"zit-{row['seed']}.png"
    assert "the cache was bypassed: seed -1; seed " in cli("generate", "a boat").out


def test_no_cache_neither_looks_nor_keeps(cli, kept, rendered):
    kept("a boat")
    row = cli("generate", "a boat", "--seed", "7", "--no-cache", "--json").lines()[0]
    assert row["outcome"] == "bypass"
    assert len(rendered) == 2


def test_refresh_renders_and_keeps(cli, kept, rendered):
    kept("a boat")
    row = cli("generate", "a boat", "--seed", "7", "--cache", "refresh", "--json").lines()[0]
    assert (row["outcome"], row["stored"]) == ("miss", True)
    assert len(rendered) == 2


def test_only_never_renders(cli, model, rendered):
    ran = cli("generate", "a boat", "--seed", "7", "--cache", "only")
    assert ran.code == 2
    assert ran.err.startswith("zit-ext: cache = 'only': ")
    assert "ask with cache=use" in ran.err
    assert rendered == []


def test_a_name_and_a_folder_for_the_pictures(cli, model, home):
    cli("generate", "a boat", "--seed", "7", "--out", "new/boat.png")
    cli("generate", "a boat", "--seed", "7", "--count", "2", "--out", "pictures")
    found = sorted(path.relative_to(home).as_posix() for path in home.rglob("*.png"))
    assert found == ["new/boat.png", "pictures/zit-7.png", "pictures/zit-8.png"]


@pytest.mark.parametrize("more", [["--count", "2"], ["--json"]])
def test_stdout_takes_one_picture_only(cli, model, more, rendered):
    ran = cli("generate", "a boat", "--seed", "7", "--out", "-", *more)
    assert ran.code == 2
    assert "out = '-'" in ran.err
    assert rendered == []


def test_a_ttl_of_its_own_is_told(cli, model):
    assert cli("generate", "a boat", "--seed", "7", "--ttl", "2h", "--json").lines()[0]["ttl"] == 7200


def test_a_namespace_of_its_own_sees_nothing_of_the_others(cli, kept):
    kept("a boat")
    assert (
        cli("generate", "a boat", "--seed", "7", "--namespace", "ann", "--json").lines()[0]["outcome"]
        == "miss"
    )


def test_a_profile_and_settings_count_before_and_after_the_command(cli, model):
    args = ("generate", "a boat", "--seed", "7", "--json")
    assert (
        cli("--profile", "explore", *args).lines()[0]["detail"] == "the cache is disabled (profile explore)"
    )
    off = cli("--settings", "disable_cache=on", *args, "--settings", "max_entries=5").lines()[0]
    assert off["detail"] == "the cache is disabled (--settings)"


def test_weights_that_take_long_to_hash_are_hashed_before_the_program_ends(cli, model):
    with (model / "large.safetensors").open("wb") as file:
        file.truncate(257_000_000)  # beyond what is hashed while the request waits
    first, second = (cli("generate", "a boat", "--seed", "7", "--json").lines()[0] for _ in range(2))
    assert (first["outcome"], first["detail"]) == ("miss", "kept as soon as the weights are hashed")
    assert second["outcome"] == "hit"


def test_a_dynamic_prompt_says_why_it_was_bypassed(cli, model):
    row = cli("generate", "a {red|blue} boat", "--seed", "7", "--json").lines()[0]
    assert row["detail"] == "dynamic prompt: {red|blue}"


def test_no_bar_moves_where_nobody_looks(cli, model):
    assert cli("generate", "a boat", "--seed", "7").err == ""


def test_a_bar_moves_on_a_terminal_and_is_gone_at_the_end(cli, model, monkeypatch):
    monkeypatch.setattr(Console, "shows_progress", lambda self: True)
    err = cli("generate", "a boat", "--seed", "7", "--count", "2").err
    assert "picture 1/2 [###.....................] step 1/8" in err
    assert "picture 2/2 [########################] step 8/8" in err
    assert err.endswith("\r\x1b[K") or os.name == "nt"


def test_a_cache_that_cannot_be_written_costs_the_hit_and_not_the_picture(cli, model, tmp_path, home):
    (tmp_path / "file").write_text("in the way")
    ran = cli("generate", "a boat", "--seed", "7", "--json", "--cache-dir", str(tmp_path / "file" / "below"))
    assert ran.code == 0
    row = ran.lines()[0]
    assert row["outcome"] == "bypass"
    assert (home / row["file"]).exists()
    assert "warning: " in ran.err
    assert "Traceback" not in ran.err


def test_a_render_that_fails_is_one_line_and_leaves_no_file(cli, model, home, weights):
    weights.error = ZeroDivisionError("of ours")
    ran = cli("generate", "a boat", "--seed", "7")
    assert ran.code == 1
    assert ran.err == "zit-ext: unexpected ZeroDivisionError: of ours; run it again with -v to see where\n"
    assert list(home.iterdir()) == []
    assert "Traceback" in cli("-v", "generate", "a boat", "--seed", "7").err


def test_what_is_done_stays_done_when_a_later_picture_fails(cli, model, home, weights):
    weights.fails = lambda request: ZeroDivisionError() if request.seed == 9 else None
    assert cli("generate", "a boat", "--seed", "7", "--count", "3").code == 1
    assert sorted(path.name for path in home.iterdir()) == ["zit-7.png", "zit-8.png"]
