"""Variety at load: random crops, exposure, balance and sensor noise on the frames of another source."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attiqa.errors import InputError
from isp_env.frame import FrameSource, RawFrame
from isp_env.unprocess import balance_error_gains

Range = tuple[float, float]


@dataclass(frozen=True)
class _Draw:
    """What happens to one frame: see `PerturbedSource`; `place` is the window's, from 0 to 1."""

    zoom: float
    place: tuple[float, float]
    exposure: float
    balance_error: float
    shot_noise: float
    noise_seed: int


class PerturbedSource:
    """A source whose frames are several seeded variations of each frame of another one.

    Args:
        source: where the frames come from.
        seed: the same seed gives the same variations, in whatever order they are asked for.
        copies: variations of each frame; they follow one another.
        crop: share of each side that is kept, uniform; the window keeps the aspect.
        exposure: EV, uniform; what passes saturation is lost, as on a sensor.
        balance_error: mired, uniform, in the recorded white balance; above 0 renders too warm.
        shot_noise: variance a unit of signal that is added, log-uniform; None adds none. A sensor's ISO
            scales it: `isp_env.unprocess` has 1e-4 at the lowest ISO and 0.012 at the highest.
        every: of the variations of a frame, one in so many changes all of that, beginning with the first; the
            others are crops alone.

    Raises:
        InputError: `copies` is below 1, or `crop` not within (0, 1].
    """

    def __init__(
        self,
        source: FrameSource,
        seed: int = 0,
        copies: int = 1,
        crop: Range = (1.0, 1.0),
        exposure: Range = (0.0, 0.0),
        balance_error: Range = (0.0, 0.0),
        shot_noise: Range | None = None,
        every: int = 1,
    ) -> None:
        if min(copies, every) < 1 or not 0 < crop[0] <= crop[1] <= 1:
            raise InputError(
                "at least 1 copy, errors in every 1st or later one, and crops within (0, 1] are needed; "
                f"got {copies} copies, every {every} and crops {crop}."
            )
        self._source, self._copies = source, copies
        changed, cropped = (crop, exposure, balance_error, shot_noise), (crop, (0.0, 0.0), (0.0, 0.0), None)
        self._draws = [
            _draw(np.random.default_rng((seed, index)), *(cropped if index % copies % every else changed))
            for index in range(len(source.names) * copies)
        ]

    @property
    def names(self) -> Sequence[str]:
        """The names of the source, numbered where there are several copies."""
        if self._copies == 1:
            return list(self._source.names)
        return [f"{name}-{copy}" for name in self._source.names for copy in range(self._copies)]

    def frame(self, index: int, short_side: int) -> RawFrame:
        """Variation `index`; a crop is decoded larger, so that its own short side is `short_side`."""
        draw = self._draws[index]
        frame = self._source.frame(index // self._copies, _decode_side(short_side, draw))
        image = _window(frame.image, short_side, draw) * 2.0**draw.exposure
        if draw.shot_noise > 0:
            generator = torch.Generator().manual_seed(draw.noise_seed)
            noise = torch.randn(image.shape, generator=generator)
            image = image + noise * (draw.shot_noise * image.clamp_min(0.0)).sqrt()
        to_camera = torch.linalg.inv(frame.color_matrix)[None]
        gains = frame.white_balance * balance_error_gains(torch.tensor([draw.balance_error]), to_camera)[0]
        return dataclasses.replace(
            frame,
            image=image.clamp(max=1.0),
            white_balance=gains / gains.min(),
            name=self.names[index],
        )

    def libraw_auto(self, index: int, short_side: int) -> Tensor:
        """LibRaw's automatic render of the file as it is, cropped like the frame."""
        draw = self._draws[index]
        render = self._source.libraw_auto(index // self._copies, _decode_side(short_side, draw))
        return _window(render, short_side, draw)


def _draw(
    random: np.random.Generator, crop: Range, exposure: Range, balance_error: Range, shot_noise: Range | None
) -> _Draw:
    zoom, ev, mired = (float(random.uniform(*range_)) for range_ in (crop, exposure, balance_error))
    top, left, noise = random.random(3)
    level = 0.0
    if shot_noise is not None:
        low, high = map(math.log, shot_noise)
        level = math.exp(low + (high - low) * noise)
    return _Draw(zoom, (top, left), ev, mired, level, int(random.integers(2**31)))


def _decode_side(short_side: int, draw: _Draw) -> int:
    return math.ceil(short_side / draw.zoom)


def _window(image: Tensor, short_side: int, draw: _Draw) -> Tensor:
    """The draw's window of an image ``(3, H, W)``; its aspect is the image's, its short side `short_side`.

    A file too small for that gives the same share of its own pixels.
    """
    height, width = image.shape[-2:]
    share = min(short_side, math.floor(min(height, width) * draw.zoom + 0.5)) / min(height, width)
    rows, columns = round(height * share), round(width * share)
    top, left = (
        int(place * (room + 1))
        for place, room in zip(draw.place, (height - rows, width - columns), strict=True)
    )
    return image[:, top : top + rows, left : left + columns]
