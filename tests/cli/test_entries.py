"""Listing, showing, removing and pinning what is stored."""

import pytest

from zit_ext.codecs import decode_png


def keys(ran):
    return [row["key"] for row in ran.json()]


@pytest.fixture
def three(kept):
    return [kept(prompt, seed=seed) for seed, prompt in enumerate(("a boat", "a lighthouse", "100% fog"))]


def test_the_newest_comes_first(cli, three):
    assert keys(cli("ls", "--json")) == [row["key"] for row in reversed(three)]


def test_people_see_a_table(cli, three):
    head, first, *_ = cli("ls").out.splitlines()
    assert head.split() == ["key", "age", "left", "size", "uses", "saves", "model", "prompt"]
    assert first.startswith(three[2]["key"][:12])
    assert first.endswith("100% fog")


def test_an_empty_store_says_so_beside_the_output(cli, model):
    ran = cli("ls")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing is stored that fits\n")
    assert cli("ls", "--json").json() == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["BOAT"], [0]),
        (["100%"], [2]),
        (["%"], [2]),
        (["--model", "weights"], [2, 1, 0]),
        (["--model", "others"], []),
        (["--namespace", "default"], [2, 1, 0]),
        (["--namespace", "ann"], []),
        (["--younger", "1h"], [2, 1, 0]),
        (["--older", "1h"], []),
        (["--min-size", "1 MB"], []),
        (["--max-size", "1 MB"], [2, 1, 0]),
        (["--order", "oldest"], [0, 1, 2]),
        (["--limit", "1"], [2]),
        (["--limit", "1", "--offset", "1"], [1]),
        (["--pinned"], []),
        (["--stale"], []),
    ],
)
def test_a_filter_leaves_what_fits(cli, three, arguments, expected):
    assert keys(cli("ls", "--json", *arguments)) == [three[index]["key"] for index in expected]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--older", "yesterday"], "older"),
        (["--younger", "-1"], "younger"),
        (["--min-size", "big"], "min_size"),
        (["--order", "random"], "order"),
        (["--limit", "-1"], "limit"),
        (["--limit", "x"], "limit"),
        (["--offset", "1.5"], "offset"),
    ],
)
def test_a_filter_that_makes_no_sense_is_named(cli, model, arguments, field):
    ran = cli("ls", *arguments)
    assert ran.code == 2
    assert ran.err.startswith(f"zit-ext: {field} = ")


def test_a_list_that_was_cut_says_so(cli, three):
    assert "--limit 0" in cli("ls", "--limit", "2").err
    assert cli("ls", "--limit", "4").err == ""


def test_a_prompt_cannot_move_the_cursor(cli, kept):
    kept("a\x1b[2Jboat\nwith two lines")
    assert "a [2Jboat with two lines" in cli("ls").out


def test_show_names_every_field_and_finds_it_by_the_beginning_of_its_key(cli, three):
    out = cli("show", three[1]["key"][:8]).out
    for part in (three[1]["key"], three[1]["digest"], "a lighthouse", "model.digest", "environment"):
        assert part in out


def test_show_for_programs_has_the_fields(cli, three):
    row = cli("show", three[1]["key"], "--json").json()
    assert row["key"] == three[1]["key"]
    assert (row["fields"]["prompt"], row["fields"]["seed"]) == ("a lighthouse", 1)
    assert row["cost"] == 1.0


def test_show_writes_the_picture(cli, three, home):
    ran = cli("show", three[1]["key"], "--out", "found.png")
    assert ran.code == 0
    assert decode_png((home / "found.png").read_bytes()).digest == three[1]["digest"]


def test_uses_are_counted_over_processes(cli, kept):
    key = kept("a boat")["key"]
    for _ in range(3):
        cli("generate", "a boat", "--seed", "7", "--out", "pictures")
    assert cli("show", key, "--json").json()["uses"] == 3


@pytest.mark.parametrize("command", ["show", "rm", "pin", "unpin"])
def test_a_key_that_is_not_there_is_named(cli, three, command):
    absent = next(each for each in "0123456789abcdef" if not any(row["key"][0] == each for row in three))
    ran = cli(command, absent)
    assert ran.code == 2
    assert f"key = '{absent}': no entry's key begins so" in ran.err
    assert cli(command, "x").code == 2
    assert len(keys(cli("ls", "--json"))) == 3


def test_a_key_with_two_meanings_is_refused(cli, kept):
    first = [kept(f"boat {number}", seed=number)["key"][0] for number in range(17)]
    twice = next(each for each in first if first.count(each) > 1)
    ran = cli("rm", twice)
    assert ran.code == 2
    assert "several begin so" in ran.err


def test_rm_removes_all_or_nothing(cli, three):
    assert cli("rm", three[0]["key"], "zzz").code == 2
    assert len(keys(cli("ls", "--json"))) == 3
    ran = cli("rm", three[0]["key"][:16], three[1]["key"])
    assert (ran.code, ran.out) == (0, "removed 2 entries\n")
    assert keys(cli("ls", "--json")) == [three[2]["key"]]


def test_what_is_removed_is_rendered_again(cli, kept, rendered):
    cli("rm", kept("a boat")["key"])
    assert cli("generate", "a boat", "--seed", "7", "--json").lines()[0]["outcome"] == "miss"
    assert len(rendered) == 2


def test_a_pinned_entry_stays_and_can_be_let_go(cli, three):
    assert cli("pin", three[0]["key"]).out == "pinned 1 entry\n"
    assert keys(cli("ls", "--pinned", "--json")) == [three[0]["key"]]
    assert "pinned" in cli("ls", "--pinned").out
    cli("prune", "--settings", "max_entries=1")
    assert three[0]["key"] in keys(cli("ls", "--json"))
    assert cli("unpin", three[0]["key"]).out == "unpinned 1 entry\n"
    assert keys(cli("ls", "--pinned", "--json")) == []


def test_prompts_that_are_not_stored_are_not_shown(cli, model):
    cli("generate", "a secret boat", "--seed", "7", "--settings", "store_prompts=off")
    for shown in (cli("ls").out, cli("ls", "--json").out):
        assert "secret" not in shown
    key = keys(cli("ls", "--json"))[0]
    assert "secret" not in cli("show", key).out


def test_a_stale_entry_cannot_be_pinned(cli, kept):
    key = kept("a boat", "--ttl", "0.001")["key"]
    ran = cli("pin", key, "--json")
    assert (ran.code, ran.json()) == (1, {"pinned": 0, "keys": [key]})
    assert ran.err == "zit-ext: 1 of 1 went meanwhile, or their time is over\n"


def test_a_key_that_is_named_twice_counts_once(cli, kept):
    key = kept("a boat")["key"]
    assert cli("rm", key, key[:10], "--json").json() == {"removed": 1, "keys": [key]}
