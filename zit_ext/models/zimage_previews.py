"""How a picture looks while it is made: a rough, cheap guess from its latents.

The colours are a linear guess. Its 16 x 3 numbers are measured on the model's own VAE when it is
opened, so that any VAE has previews without a table that somebody must keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..codecs import Pixels, encode_png

AT_MOST = 3  # previews of one render


class LatentColours:
    """Turns latents into small pictures, an eighth of the side of the real one."""

    def __init__(self, vae: Any) -> None:
        import torch

        channels = vae.config.latent_channels
        # The plain grey of no latents, and what each channel adds to it, away from the borders.
        probes = torch.cat([torch.zeros(1, channels), torch.eye(channels)])
        tiles = (
            probes[:, :, None, None].expand(-1, -1, 4, 4) / vae.config.scaling_factor
            + vae.config.shift_factor
        )
        decoded = vae.decode(tiles.to(vae.dtype), return_dict=False)[0].float()
        side = decoded.shape[-1]
        inner = slice(side // 4, side - side // 4)
        colours = decoded[:, :, inner, inner].mean(dim=(2, 3))
        self._grey = colours[0]
        self._of_channel = colours[1:] - colours[0]

    def picture(self, latents: Any) -> Pixels:
        """Return the guess for latents of shape 1 x channels x height x width."""
        import torch

        flat = latents[0].to("cpu", torch.float32)
        colours = torch.einsum("chw,cr->hwr", flat, self._of_channel) + self._grey
        pixels = ((colours / 2 + 0.5).clamp(0, 1).nan_to_num() * 255).round().to(torch.uint8).contiguous()
        height, width, _ = pixels.shape
        return Pixels(width, height, 3, pixels.numpy().tobytes())


class PreviewSteps:
    """Shows a render's guesses, a few times at most."""

    def __init__(self, colours: LatentColours, show: Callable[[bytes], None]) -> None:
        self._colours = colours
        self._show = show
        self._before: Any = None

    def step(self, done: int, total: int, latents: Any, sigmas: Any) -> None:
        """Take note of the latents after a step, and show how they look if it is time.

        `sigmas` are the scheduler's noise levels, ending at the one after this step. Two steps show
        where the latents are heading: the guess is of the finished picture, not of the noise.
        """
        before, self._before = self._before, latents
        if done >= total or done not in {total * part // (AT_MOST + 1) for part in range(1, AT_MOST + 1)}:
            return
        if before is not None:
            earlier, now = (float(sigma) for sigma in sigmas[-2:])
            if earlier != now:
                latents = latents - now * (latents - before) / (now - earlier)
        self._show(encode_png(self._colours.picture(latents)))
