"""Small stand-ins for the environments' collaborators: a source of random frames, a renderer, rewards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from attiqa.errors import InputError
from isp_env.envs import Core
from isp_env.frame import RawBatch, RawFrame
from isp_env.parameters import ParameterSpace


class RandomFrames:
    """A FrameSource of smooth random frames; `sizes` are (H, W), one frame each, `broken` ones refuse."""

    def __init__(self, sizes: Sequence[tuple[int, int]], broken: Sequence[int] = ()) -> None:
        self.sizes, self.broken = list(sizes), set(broken)

    @property
    def names(self) -> list[str]:
        return [f"frame{index}" for index in range(len(self.sizes))]

    def frame(self, index: int, short_side: int) -> RawFrame:
        if index in self.broken:
            raise InputError(f"frame{index} is broken.")
        generator = torch.Generator().manual_seed(index)
        coarse = torch.rand((1, 3, 5, 7), generator=generator) * 0.8
        image = torch.nn.functional.interpolate(coarse, self.sizes[index], mode="bilinear")[0]
        return RawFrame(image, torch.ones(3), torch.eye(3), f"frame{index}", f"{index:064d}")

    def libraw_auto(self, index: int, short_side: int) -> torch.Tensor:
        return self.frame(index, short_side).image.sqrt()


class Brightness:
    """A renderer with one visible parameter, exposure in EV; the others change nothing."""

    def __init__(self, space: ParameterSpace) -> None:
        self.exposure = space.names.index("exposure")
        self.neutral_values = space.neutral
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, batch: RawBatch, values: torch.Tensor) -> torch.Tensor:
        self.calls.append(tuple(batch.image.shape))
        gain = torch.exp2(values[:, self.exposure]).view(-1, 1, 1, 1)
        return (batch.image * gain).clamp(0.0, 1.0).sqrt()

    def neutral(self, batch: RawBatch) -> torch.Tensor:
        return self(batch, self.neutral_values.expand(len(batch), -1))


class MeanGrey:
    """Reward: minus the distance of an image's mean from `target`; counts the images it scores."""

    def __init__(self, target: float = 0.5) -> None:
        self.target, self.scored = target, 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.scored += len(images)
        return -(images.mean(dim=(1, 2, 3)) - self.target).abs()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


class DistanceFromNeutral:
    """A referenced reward: minus the mean absolute distance from the neutral render."""

    uses_reference = True

    def __call__(self, images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return -(images - reference).abs().mean(dim=(1, 2, 3))


MIXED = ((72, 96), (96, 72), (72, 96), (80, 80), (72, 96))


def small_core(
    reward: object = None,
    sizes: Sequence[tuple[int, int]] = MIXED,
    broken: Sequence[int] = (),
    **options: object,
) -> Core:
    """A core over random frames with the exposure-only renderer and two parameters."""
    space = ParameterSpace(["exposure", "contrast"])
    reward = MeanGrey() if reward is None else reward
    return Core(RandomFrames(sizes, broken), space, Brightness(space), reward, short_side=72, **options)  # type: ignore[arg-type]


class FakeTools:
    """Three tools on linear light: gain, gamma, and an inversion that ignores its strength; counts calls."""

    names = ("gain", "power", "invert")

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def render(self, batch: RawBatch, order: np.ndarray, strengths: torch.Tensor) -> torch.Tensor:
        image = batch.image.clone()
        for step in range(1, order.max(initial=0) + 1):
            for number in range(len(self.names)):
                chosen = torch.as_tensor(np.flatnonzero(order[:, number] == step))
                if len(chosen):
                    self.calls.append((self.names[number], len(chosen)))
                    power = torch.exp2(strengths[chosen, number]).view(-1, 1, 1, 1)
                    part = image[chosen]
                    image[chosen] = (part * power, part**power, 1.0 - part)[number]
        return image.clamp(0.0, 1.0).sqrt()
