"""One device, one story each: loads, leases, errors, ends."""

import asyncio

from tests.holder.shelf import ask, quiet
from zit_ext.testing import fake_content


async def test_a_request_is_answered_by_its_model(renderer):
    rendered = await renderer.render(ask(), quiet())
    assert rendered.content == fake_content(ask())


async def test_one_load_however_many_ask(renderer, shelf):
    await asyncio.gather(*(renderer.render(ask(seed=seed), quiet()) for seed in range(20)))
    assert shelf.opened == ["a"]
    assert renderer.holdings().loads == 1
    assert renderer.holdings().renders == 20
