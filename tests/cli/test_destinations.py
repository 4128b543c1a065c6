"""Pictures find a place of their own, and nothing that is there is lost."""

import threading

import pytest

from zit_ext.cli.destinations import Destination
from zit_ext.errors import RequestError


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_a_name_pictures_go_where_you_are(tmp_path):
    assert Destination(None).write(b"1", name="zit-7").read_bytes() == b"1"
    assert (tmp_path / "zit-7.png").exists()


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "boat.png").write_bytes(b"old")
    written = [Destination("boat.png").write(b"new", name="-").name for _ in range(2)]
    assert written == ["boat-1.png", "boat-2.png"]
    assert (tmp_path / "boat.png").read_bytes() == b"old"


def test_overwriting_has_to_be_asked_for(tmp_path):
    (tmp_path / "boat.png").write_bytes(b"old")
    Destination("boat.png", overwrite=True).write(b"new", name="-")
    assert (tmp_path / "boat.png").read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["boat.png"]


def test_a_batch_does_not_overwrite_itself(tmp_path):
    place = Destination("boat.png", overwrite=True)
    assert [place.write(bytes([n]), name="-").name for n in range(3)] == [
        "boat.png",
        "boat-1.png",
        "boat-2.png",
    ]


@pytest.mark.parametrize("out", ["new/deep", "new/deep/", "."])
def test_a_folder_is_made_and_holds_pictures_by_their_seeds(tmp_path, out):
    assert Destination(out).write(b"1", name="zit-7") == tmp_path.joinpath(out, "zit-7.png").relative_to(
        tmp_path
    )


def test_the_folder_of_a_file_is_made():
    assert Destination("new/boat.png").write(b"1", name="-").as_posix() == "new/boat.png"


def test_a_folder_may_have_a_dot_in_its_name(tmp_path):
    (tmp_path / "v1.0").mkdir()
    assert Destination("v1.0").write(b"1", name="zit-7").as_posix() == "v1.0/zit-7.png"


def test_other_artifacts_have_their_own_suffix():
    assert Destination(None, media_type="audio/wav").write(b"1", name="zit-7").suffix == ".wav"


@pytest.mark.parametrize("out", ["boat.jpg", "boat.webp"])
def test_a_png_is_not_written_under_a_false_name(out):
    with pytest.raises(RequestError, match=r"out = .*name boat\.png or a folder"):
        Destination(out)


def test_a_place_that_cannot_be_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RequestError, match="out = 'file/below': name a folder that can be made"):
        Destination("file/below")


def test_programs_that_write_at_once_each_get_a_name():
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(Destination("boat.png").write(b"1", name="-")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 8
