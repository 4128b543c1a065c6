"""Memory that ran out is heard of in the host's log, or by torch's count."""

from __future__ import annotations

import itertools
import logging

import pytest

from comfy_nodes.memory_troubles import MemoryTroubles


class Counted:
    def __init__(self) -> None:
        self.ooms = 0
        self.log = logging.Logger("a log of its own")
        self.troubles = MemoryTroubles(map(float, itertools.count(1)).__next__, lambda: self.ooms)
        self.log.addHandler(self.troubles)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_nothing_went_wrong(counted):
    counted.log.warning("a LoRA key was not loaded")
    counted.log.info("out of memory is not what this is about")
    assert counted.troubles.last() is None


@pytest.mark.parametrize(
    "words",
    [
        "Warning: Ran out of memory when regular VAE decoding, retrying with tiled VAE decoding.",
        "out of memory error, increasing steps and trying again 2",
    ],
)
def test_what_the_host_says(counted, words):
    counted.log.warning(words)
    assert counted.troubles.last() == 1.0
    assert counted.troubles.last() == 1.0
    counted.log.warning(words)
    assert counted.troubles.last() == 2.0


def test_what_torch_counts(counted):
    assert counted.troubles.last() is None
    counted.ooms = 1
    assert counted.troubles.last() == 1.0
    assert counted.troubles.last() == 1.0
    counted.ooms = 3
    assert counted.troubles.last() == 2.0
