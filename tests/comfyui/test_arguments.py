"""ComfyUI's command line in a key: whatever may change a picture, and nothing else."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from comfy_nodes.arguments import arguments_that_count


class Fast(Enum):
    FP16 = "fp16_accumulation"
    CUBLAS = "cublas_ops"


PLAIN: dict[str, Any] = {"port": 8188, "force_fp16": False, "fast": set(), "use_split_cross_attention": False}


@pytest.mark.parametrize(
    "other",
    [
        {"force_fp16": True},
        {"fast": {Fast.FP16}},
        {"use_split_cross_attention": True},
        {"an_option_of_tomorrow": True},
    ],
)
def test_what_may_change_a_picture_counts(other):
    assert arguments_that_count({**PLAIN, **other}) != arguments_that_count(PLAIN)


def test_the_order_of_several_does_not():
    both = arguments_that_count({**PLAIN, "fast": [Fast.CUBLAS, Fast.FP16]})
    assert both == arguments_that_count({**PLAIN, "fast": {Fast.FP16, Fast.CUBLAS}})
    assert both != arguments_that_count({**PLAIN, "fast": {Fast.CUBLAS}})


@pytest.mark.parametrize("other", [{"port": 8189}, {"verbose": "DEBUG"}, {"output_directory": "/tmp/x"}])
def test_what_changes_none_does_not(other):
    assert arguments_that_count({**PLAIN, **other}) == arguments_that_count(PLAIN)
