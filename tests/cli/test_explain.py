"""Why a request would hit, miss or be bypassed, and why two entries differ."""

import pytest


def explained(cli, *arguments):
    ran = cli("explain", *arguments, "--json")
    assert ran.code == 0, ran.err
    return ran.json()


def test_a_request_that_is_stored_would_hit(cli, kept, rendered):
    key = kept("a boat")["key"]
    row = explained(cli, "a boat", "--seed", "7")
    assert (row["verdict"], row["key"], row["entry"]["key"]) == ("hit", key, key)
    assert len(rendered) == 1


def test_explaining_is_no_use_of_the_entry(cli, kept):
    key = kept("a boat")["key"]
    explained(cli, "a boat", "--seed", "7")
    assert cli("show", key, "--json").json()["uses"] == 0


def test_a_miss_names_the_nearest_entry_and_what_differs(cli, kept):
    kept("a lighthouse", seed=1)
    near = kept("a boat", seed=7)["key"]
    row = explained(cli, "a boat", "--seed", "8")
    assert (row["verdict"], row["nearest"]["key"]) == ("miss", near)
    assert row["differences"] == {"seed": [8, 7]}
    out = cli("explain", "a boat", "--seed", "8", "--steps", "9").out
    assert out.startswith("miss: no entry has every field of the request\n")
    assert f"nearest entry: {near[:12]}, which differs in\n" in out
    assert [line.split() for line in out.splitlines()[-2:]] == [["seed", "8", "7"], ["steps", "9", "8"]]


def test_before_the_first_render_nothing_is_known_of_the_machine(cli, model):
    row = explained(cli, "a boat", "--seed", "7")
    assert row["verdict"] == "miss"
    assert row["reason"].startswith("packages, driver or model are new here: render once")


def test_an_empty_store_is_named(cli, kept):
    kept("a boat")
    cli("clear", "--yes")
    assert explained(cli, "a boat", "--seed", "7")["reason"] == "the store is empty"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a boat"], "seed -1"),
        (["a boat", "--seed", "7", "--no-cache"], "asked for by the caller"),
        (["a boat", "--seed", "7", "--debug"], "debug mode"),
        (["a {red|blue} boat", "--seed", "7"], "dynamic prompt: {red|blue}"),
        (["a boat", "--seed", "7", "--settings", "disable_cache=1"], "the cache is disabled (--settings)"),
    ],
)
def test_a_bypass_has_its_reason(cli, kept, arguments, reason):
    kept("a boat")
    row = explained(cli, *arguments)
    assert (row["verdict"], row["reason"]) == ("bypass", reason)


def test_refresh_would_render(cli, kept):
    kept("a boat")
    row = explained(cli, "a boat", "--seed", "7", "--cache", "refresh")
    assert (row["verdict"], row["reason"]) == ("miss", "refresh renders without looking")


def test_a_stale_entry_is_a_miss_and_says_so(cli, kept):
    kept("a boat", "--ttl", "0.001")
    row = explained(cli, "a boat", "--seed", "7")
    assert row["verdict"] == "miss"
    assert row["reason"].startswith("its entry is stale")


def test_a_damaged_blob_is_a_miss_and_says_so(cli, kept, tmp_path):
    kept("a boat")
    blob = next(path for path in (tmp_path / "cache/results/blobs").rglob("*") if path.is_file())
    blob.write_bytes(b"x" * blob.stat().st_size)
    row = explained(cli, "a boat", "--seed", "7")
    assert row["verdict"] == "miss"
    assert "damaged" in row["reason"]


def test_a_replaced_file_of_the_model_differs_in_its_digest(cli, kept, model):
    kept("a boat")
    (model / "model.safetensors").write_bytes(b"others!")
    row = explained(cli, "a boat", "--seed", "7", "--settings", "consistency=portable")
    assert row["verdict"] == "miss"
    assert set(row["differences"]) == {"model.digest", "environment"}


def test_a_request_from_a_file_and_from_options_are_one(cli, kept, home):
    kept("a boat")
    (home / "request.json").write_text('{"prompt": "a boat", "seed": 7}')
    assert explained(cli, "--request", "request.json")["verdict"] == "hit"


def test_two_entries_side_by_side(cli, kept):
    one, other = kept("a boat")["key"], kept("a ship", seed=8)["key"]
    row = explained(cli, one[:20], other[:20])
    assert row["differences"] == {"prompt": ["a boat", "a ship"], "seed": [7, 8]}
    head, *lines = cli("explain", one[:20], other[:20]).out.splitlines()
    assert head.split() == ["field", one[:12], other[:12]]
    assert [line.split(maxsplit=1)[0] for line in lines] == ["prompt", "seed"]
    assert cli("explain", one, one).out == "They have the same fields.\n"


def test_entries_whose_prompts_are_not_stored_are_compared_by_their_digests(cli, kept):
    silent = ("--settings", "store_prompts=off")
    one, other = kept("a boat", *silent)["key"], kept("a boat", "--steps", "9")["key"]
    assert explained(cli, one, other)["differences"] == {"steps": [8, 9]}
    cli("rm", other)
    row = explained(cli, "a boat", "--seed", "8", *silent)
    assert row["differences"] == {"seed": [8, 7]}
    assert "a boat" not in str(explained(cli, "a ship", "--seed", "7", *silent)["differences"])


def test_a_model_that_is_not_there_is_an_error_and_not_an_answer(cli, kept):
    ran = cli("explain", "a boat", "--seed", "7", "--model", "no/where/at/all")
    assert ran.code == 1
    assert "no weights for 'no/where/at/all'" in ran.err


def test_three_words_are_no_request(cli, model):
    assert cli("explain", "a", "red", "boat").code == 2
