"""The tiny Z-Image model in a real server: the same pixels as here, and no second load."""

from __future__ import annotations

from pathlib import Path

import pytest

from zit_ext.model_server.starting import stop
from zit_ext.records import ModelRef, Outcome
from zit_ext.renderers.model_server import ServerRenderer
from zit_ext.runtime import Runtime
from zit_ext.testing import make_request

from .conftest import World, until

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zit_ext.models.tiny import build

    return build(tmp_path_factory.mktemp("models") / "tiny")


async def test_the_server_renders_the_very_pixels_that_this_program_does(world: World, tiny: Path) -> None:
    asked = make_request(
        prompt="one", model=ModelRef(source=str(tiny)), width=64, height=64, steps=2, guidance=1.5
    )
    local = world.with_settings(renderer="local", cache_dir=str(world.folder / "local cache"))
    with Runtime(local) as here, Runtime(world.settings) as there:
        one, other = await here.generate(asked), await there.generate(asked)

    assert (one.status.outcome, other.status.outcome) == (Outcome.MISS, Outcome.MISS)
    assert other.status.stored
    assert other.digest == one.digest
    assert other.pixels() == one.pixels()


async def test_after_the_ui_was_killed_the_next_miss_needs_no_load(world: World, tiny: Path) -> None:
    renderer = ServerRenderer(world.settings)
    first = world.client("killed", source=str(tiny))
    await until(world.home.state)
    first.kill()

    again = world.client("again", source=str(tiny)).answer()
    third = world.client("third", source=str(tiny)).answer()

    assert (again["outcome"], third["outcome"]) == ("miss", "miss")
    assert not again["torch"]
    held = await renderer.holdings()
    assert held is not None
    assert held.loads == 1
    await renderer.close()


async def test_a_hit_in_a_new_program_imports_no_torch_and_starts_no_server(world: World, tiny: Path) -> None:
    made = world.client("kept", source=str(tiny)).answer()
    assert await stop(world.home)

    found = world.client("kept", source=str(tiny)).answer()

    assert (made["outcome"], found["outcome"]) == ("miss", "hit")
    assert found["digest"] == made["digest"]
    assert not found["torch"]
    assert not world.is_alive()
