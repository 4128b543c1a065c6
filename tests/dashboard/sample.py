"""A cache with a week behind it, for pictures of the page: painted landscapes, made-up answers."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

from tests.http.server import Served
from zit_ext.answered import Answered
from zit_ext.codecs import Pixels
from zit_ext.history.tally import Look, Size
from zit_ext.models.holdings import HeldModel, HeldPart, Holdings
from zit_ext.pipeline import WeightTier
from zit_ext.records import Request
from zit_ext.testing_engine import TrialEngine

SIDE = 384
GB = 10**9
PROMPTS = (
    "mountains at dusk, oil on canvas",
    "misty mountains at dawn",
    "dunes under a pale moon",
    "hills before the storm",
    "hills in spring, gouache",
    "a valley in the last light",
    "polar night, woodcut",
    "terraces in morning haze",
    "a ridge by moonlight",
    "a lake without wind",
    "foothills, ink on silk",
    "the road to the pass",
    "autumn haze, watercolour",
    "a bay full of fog",
    "high plateau, early snow",
    "summer night above the vineyards",
)
SKIES = (
    ((29, 38, 84), (240, 138, 93), (255, 214, 140)),
    ((120, 170, 205), (250, 214, 190), (255, 246, 225)),
    ((10, 16, 40), (38, 60, 110), (222, 228, 240)),
    ((30, 62, 74), (120, 160, 158), (235, 236, 214)),
    ((90, 190, 214), (222, 240, 208), (255, 250, 220)),
    ((70, 40, 96), (232, 108, 120), (255, 196, 150)),
)


def paint(seed: int, side: int = SIDE) -> Pixels:
    """Return a small landscape: a sky, a sun or moon, and hills, one behind the other."""
    chance = random.Random(seed * 7919 + 13)
    top, low, light = SKIES[seed % len(SKIES)]
    sun_x, sun_y = chance.uniform(0.2, 0.8) * side, chance.uniform(0.18, 0.42) * side
    radius = chance.uniform(0.05, 0.1) * side
    layers = []
    for number in range(4):
        base = side * (0.5 + 0.13 * number)
        waves = [
            (
                chance.uniform(0.6, 3.2),
                chance.uniform(0, 6.3),
                chance.uniform(0.2, 1) * side * 0.09 / (1 + each),
            )
            for each in range(4)
        ]
        edge = [
            base
            + sum(
                size * math.sin(often * (1 + each) * 6.3 * x / side + at)
                for each, (often, at, size) in enumerate(waves)
            )
            for x in range(side)
        ]
        share = (number + 1) / 4.6
        colour = tuple(int(low[c] * (1 - share) * 0.8 + top[c] * share * 0.55) for c in range(3))
        layers.append((edge, colour))
    data = bytearray()
    for y in range(side):
        share = min(1.0, y / (side * 0.62))
        sky = tuple(top[c] + (low[c] - top[c]) * share for c in range(3))
        for x in range(side):
            glow = max(0.0, 1 - math.hypot(x - sun_x, y - sun_y) / (side * 0.5)) ** 3 * 0.55
            disc = min(1.0, max(0.0, radius - math.hypot(x - sun_x, y - sun_y) + 0.5))
            mix = max(glow, disc)
            pixel = tuple(sky[c] + (light[c] - sky[c]) * mix for c in range(3))
            for edge, colour in layers:
                cover = min(1.0, max(0.0, y - edge[x]))
                if cover:
                    fade = 1 - 0.25 * min(1.0, (y - edge[x]) / (side * 0.3))
                    pixel = tuple(pixel[c] + (colour[c] * fade - pixel[c]) * cover for c in range(3))
            data += bytes(int(max(0, min(255, value))) for value in pixel)
    return Pixels(side, side, 3, bytes(data))


def held() -> Holdings:
    """Return what a device of 24 GB might hold."""

    def parts(tier: WeightTier) -> tuple[HeldPart, ...]:
        sizes = {"text_encoder": 8.0, "transformer": 12.3, "vae": 0.2}
        return tuple(HeldPart(name=name, bytes=int(size * GB), tier=tier) for name, size in sizes.items())

    return Holdings(
        device="cuda:0",
        models=(
            HeldModel(
                key="1",
                source="Tongyi-MAI/Z-Image-Turbo",
                parts=parts(WeightTier.VRAM),
                used_at=time.time() - 40,
                keep_alive=300,
                load_seconds=11.0,
            ),
        ),
        vram_bytes=int(20.5 * GB),
        loads=9,
        load_seconds=99.0,
        renders=412,
    )


class Sample:
    """A server whose cache has a week behind it."""

    def __init__(self, folder: Path) -> None:
        self.trial = TrialEngine(
            folder,
            installed=False,
            memory_bytes=50_000_000,
            model="Tongyi-MAI/Z-Image-Turbo",
            max_bytes=2 * GB,
        )
        pipeline = self.trial.pipeline
        pipeline.seconds = 6.4
        original = pipeline.render

        def render(request: Request, lease: Any, watcher: Any) -> Any:
            rendered = original(request, lease, watcher)
            return type(rendered)(paint(request.seed), pipeline.seconds, rendered.environment)

        pipeline.render = render  # type: ignore[method-assign]
        self._remember_a_week()

        async def holdings() -> Holdings:
            return held()

        self.trial.runtime.holdings = holdings  # type: ignore[method-assign]
        self.served = Served(self.trial.runtime)
        for seed, prompt in enumerate(PROMPTS):
            self.served.generate(prompt, seed=seed)
        self.trial.runtime.store.flush()
        for seed in (0, 3, 5, 0, 9, 0):
            self.served.generate(PROMPTS[seed], seed=seed)
        self.served.generate("mountains at dusk, gouache", seed=0)
        self.served.generate("whatever comes", seed=-1)
        self.trial.runtime.store.flush()
        newest = self.served.get("/zit/v1/entries?prompt=at dusk").json()["entries"]
        self.served.post("/zit/v1/entries/pin", {"keys": [newest[-1]["key"]]})

    def _remember_a_week(self) -> None:
        history = self.trial.runtime.observer.history
        chance = random.Random(3)
        now = time.time()
        for hour in range(24 * 7 + 1):
            at = now - hour * 3600 - 60
            daylight = max(0.0, math.sin((time.localtime(at).tm_hour - 7) / 15 * math.pi))
            busy = int(14 * daylight * chance.uniform(0.5, 1.3))
            for _ in range(busy):
                history.answered(self._answer(at - chance.uniform(0, 3000), chance, hour))
            if busy:
                # What a look at the store and the weights would have seen.
                history._tally.saw(Look(at, {None: Size(10**8, 100)}, ("Tongyi-MAI/Z-Image-Turbo",)))
            if hour % 24 == 0:
                history.flush()

    def _answer(self, at: float, chance: random.Random, hour: int) -> Answered:
        share = chance.random()
        hits = 0.78 - 0.002 * hour
        outcome = "hit" if share < hits else "miss" if share < 0.95 else "bypass"
        collapsed = outcome == "miss" and chance.random() < 0.16
        reason = {
            "hit": None,
            "miss": chance.choice(("absent",) * 6 + ("stale", "stale", "refresh")),
            "bypass": chance.choice(("seed", "seed", "dynamic_prompts")),
        }[outcome]
        seconds = chance.lognormvariate(math.log(0.0035), 0.7) if outcome == "hit" else chance.gauss(7.4, 1.5)
        return Answered(
            at=at,
            outcome=outcome,
            reason=reason,
            detail=None,
            key=None,
            tier="memory" if outcome == "hit" else "render",
            stored=outcome == "miss",
            collapsed=collapsed,
            seconds=max(0.001, seconds),
            saved_seconds=6.4 if outcome == "hit" or collapsed else 0.0,
            render_seconds=6.4 if outcome != "hit" and not collapsed else 0.0,
            namespace="default",
            model="Tongyi-MAI/Z-Image-Turbo",
            prompt="",
            seed=1,
            width=1024,
            height=1024,
            media_type="image/png",
            blob=None,
            request_id=None,
        )

    def close(self) -> None:
        self.served.close()
        self.trial.close()
