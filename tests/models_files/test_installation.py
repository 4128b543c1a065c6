"""What a program runs on has one name: the same as long as nothing that may change bits changed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zit_ext.models.installation import installation, packages, variables

from .conftest import age, write


def test_it_is_the_same_every_time_and_in_every_process():
    here = installation("python")
    assert here == installation("python")
    assert len(here) == 64
    program = "import sys; sys.path[:] = sys.argv[1:]\nfrom zit_ext.models.installation import installation\n"
    there = subprocess.run(
        [sys.executable, "-c", program + "print(installation('python'), 'torch' in sys.modules)", *sys.path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout.split()
    assert there == [here, "False"]


def test_programs_that_set_torch_up_in_their_own_way_are_told_apart():
    assert installation("comfyui") != installation("python")


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF"])
def test_a_variable_that_may_change_numbers_changes_it(name):
    assert installation("python", {name: "2"}) != installation("python", {})
    assert installation("python", {name: "2"}) != installation("python", {name: "3"})


@pytest.mark.parametrize(
    "name", ["HOME", "TERM", "CUDA_HOME", "TORCH_HOME", "TRITON_CACHE_DIR", "MKL_VERBOSE"]
)
def test_a_variable_that_changes_none_does_not(name):
    assert variables({name: "x"}) == {}
    assert installation("python", {name: "x"}) == installation("python", {})


def test_a_variable_may_hold_what_is_no_unicode():
    assert installation("python", {"OMP_PLACES": "\udcff"}) != installation("python", {})


def test_another_path_with_other_packages_changes_it(tmp_path, monkeypatch):
    before = installation("python")
    (tmp_path / "torch-9.9.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert installation("python") != before


def test_packages_are_told_by_name_version_and_when_they_were_written(tmp_path):
    record = write(tmp_path / "torch-2.13.0.dist-info" / "RECORD", "files")

    def told():
        return list(packages([str(tmp_path)], prefix=str(tmp_path)))

    before = told()
    assert before[0][0][0] == "torch-2.13.0.dist-info"
    age(record, 100)
    rebuilt = told()
    assert rebuilt != before
    write(record, "more files")
    assert told() != rebuilt
    record.parent.rename(tmp_path / "torch-2.14.0.dist-info")
    assert told()[0][0][0] == "torch-2.14.0.dist-info"


def test_packages_of_conda_count_too(tmp_path):
    write(tmp_path / "conda-meta" / "pytorch-2.5-cuda.json", "{}")
    ((found,),) = packages([], prefix=str(tmp_path))
    assert found[0] == "pytorch-2.5-cuda.json"


def test_what_is_no_folder_is_passed_over(tmp_path):
    assert (
        list(packages([str(tmp_path / "gone"), str(write(tmp_path / "a.zip"))], prefix=str(tmp_path))) == []
    )
