"""Is everything still what was written, and what would be rendered now?"""

import pytest

NO_WEIGHTS = b"\x02" + bytes(7) + b"{}"
"""A whole safetensors file with nothing in it."""


@pytest.fixture
def blob(tmp_path):
    """The file of the one picture that is stored."""
    return lambda: next(path for path in (tmp_path / "cache/results/blobs").rglob("*") if path.is_file())


def test_a_whole_store_is_whole(cli, kept):
    kept("a boat")
    ran = cli("verify")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("verified 1 entry, ")
    assert "as it was written" in ran.out


def test_a_flipped_bit_is_found_and_named(cli, kept, blob):
    key = kept("a boat")["key"]
    path = blob()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ran = cli("verify", "--json")
    assert ran.code == 1
    assert [(each["name"], each["what"]) for each in ran.json()["problems"]] == [("corrupt", key)]
    assert key[:12] in cli("verify").out


def test_what_is_damaged_can_be_set_aside(cli, kept, blob):
    kept("a boat")
    blob().write_bytes(b"x")
    assert cli("verify", "--set-aside", "--json").json()["set_aside"] == 1
    assert cli("ls", "--json").json() == []


def test_a_stray_file_is_found_and_pruned(cli, kept, blob):
    kept("a boat")
    blob().with_name("0" * 64).write_bytes(b"stray")
    assert [each["name"] for each in cli("verify", "--json").json()["problems"]] == ["orphan"]


def audit(cli, number="5"):
    ran = cli("verify", "--audit", number, "--json")
    return ran.code, sorted((each["finding"], each["detail"]) for each in ran.json()["audits"])


def test_an_audit_renders_again_and_finds_the_same_pixels(cli, kept, rendered):
    for seed in range(3):
        kept("a boat", seed=seed)
    assert audit(cli, "2") == (0, [("same", ""), ("same", "")])
    assert len(rendered) == 5
    assert len(cli("ls", "--json").json()) == 3


def test_an_audit_repeats_everything_that_the_request_asked_for(cli, kept, rendered, tmp_path):
    folder = tmp_path / "models" / "loras"
    folder.mkdir(parents=True)
    (folder / "ink.safetensors").write_bytes(NO_WEIGHTS)
    kept(
        "a boat", "--guidance", "2", "--negative-prompt", "fog", "--sigmas", "1,0.5", "--lora", "ink:0.5",
        "--extra", "a.b=[1,2]", "--scheduler-config", "shift=2", "--namespace", "ann", "--dtype", "float32",
        "--settings", f"model_dirs={tmp_path / 'models'}",
    )  # fmt: skip
    ran = cli("verify", "--audit", "1", "--json", "--settings", f"model_dirs={tmp_path / 'models'}")
    assert [each["finding"] for each in ran.json()["audits"]] == ["same"], ran.out
    first, second = rendered
    assert first == second


def test_an_audit_that_finds_other_pixels_fails(cli, kept, weights):
    key = kept("a boat")["key"]
    weights.salt = 1
    code, [(finding, detail)] = audit(cli)
    assert (code, finding) == (1, "differs")
    assert detail.startswith("rendered again, its digest is ")
    assert f"{key[:12]}  differs" in cli("verify", "--audit", "1").out


def test_replaced_weights_cannot_be_audited(cli, kept, model):
    kept("a boat")
    (model / "model.safetensors").write_bytes(b"others!")
    code, [(finding, detail)] = audit(cli)
    assert (code, finding) == (0, "not auditable")
    assert "model.digest" in detail


def test_weights_that_are_gone_cannot_be_audited(cli, kept, model):
    kept("a boat")
    (model / "model.safetensors").unlink()
    model.rmdir()
    code, [(finding, detail)] = audit(cli)
    assert (code, finding) == (0, "not auditable")
    assert "no weights for" in detail


def test_a_lora_that_is_gone_cannot_be_audited(cli, kept, home):
    (home / "ink.safetensors").write_bytes(NO_WEIGHTS)
    kept("a boat", "--lora", "ink.safetensors")
    (home / "ink.safetensors").unlink()
    code, [(finding, detail)] = audit(cli)
    assert (code, finding) == (0, "not auditable")
    assert detail.startswith("its LoRA ")


def test_a_picture_to_start_from_cannot_be_audited(cli, kept, home):
    (home / "start.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    kept("a boat", "--image", "start.png")
    assert audit(cli)[1][0][0] == "not auditable"


def test_prompts_that_are_not_stored_cannot_be_audited(cli, kept):
    kept("a boat", "--settings", "store_prompts=off")
    assert audit(cli) == (0, [("not auditable", "its prompt is not stored")])


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5"])
def test_a_number_of_audits_that_makes_no_sense_is_refused(cli, model, number):
    ran = cli("verify", "--audit", number)
    assert ran.code == 2
    assert ran.err.startswith("zit-ext: audit = ")
