"""The batched heart of every environment: frames on the device, render, score, look.

Searches use it directly (`Core.potential_of`); the Gymnasium classes are thin shells over it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces

from attiqa.errors import InputError
from attiqa.rewards.differences import is_clipped
from attiqa.rewards.protocol import PartedReward, ReferencedReward, Reward, together
from isp_env.envs import looking
from isp_env.envs.frames import FrameTable, Group, Tensors
from isp_env.envs.kept import KeptRows
from isp_env.frame import FrameSource, RawBatch
from isp_env.parameters import ParameterSpace
from isp_env.slopes import carried_back, slopes_of, tracing

AnyReward = Reward | ReferencedReward

SAMPLE = 64  # pixels a side of what is seen of a raw: enough for counts and means of a picture


class Renderer(Protocol):
    """What turns frames and parameters into images; `isp_env.pipeline.Pipeline` is the one we ship."""

    def __call__(self, batch: RawBatch, values: torch.Tensor) -> torch.Tensor:
        """Render with physical `values` ``(B, P)``; returns ``(B, 3, H, W)`` display sRGB in [0, 1]."""

    def neutral(self, batch: RawBatch) -> torch.Tensor:
        """The camera default: ``(B, 3, H, W)`` display sRGB in [0, 1]."""


@runtime_checkable
class Traceable(Protocol):
    """A renderer whose renders have slopes."""

    def traced(self, batch: RawBatch, values: torch.Tensor) -> torch.Tensor:
        """As the renderer's call, so that gradients flow to `values` inside `isp_env.slopes.tracing`."""


class Core:
    """Frames of one source under one renderer and one reward.

    Everything that depends on a frame alone (its preview, its neutral render's potential and looks) is
    computed once, at construction, and kept on the device; a million pixels take 12 MB, twice that where
    the reward compares with the neutral render.

    Args:
        source: where frames come from; see `isp_env.frame.FrameSource`.
        space: the parameters that `pipeline` takes, in order.
        pipeline: the renderer.
        reward: display sRGB ``(B, 3, H, W)`` to ``(B,)``, with ``reference=neutral`` where its
            ``uses_reference`` is true. Its value is the *potential* of an image.
        short_side: pixels of a preview's short side.
        device: where frames, renders and observations live.
        max_batch: most images in one pass.
        encoder: images to float32 ``(B, D)``, observed as ``features``. None takes ``features`` of the
            reward, or of the first of its ``scorers``, where there is one; False leaves features out.

    Attributes:
        neutral: for all N frames, float32 ``potential (N,)``, ``clipped_fraction (N,)``,
            ``histogram (N, 64)``, ``clipping (N, 6)``, uint8 ``thumbnail (N, 3, 64, 64)`` and, with an
            encoder, ``features (N, D)``, each of the neutral render.
        part_count: K, of how many parts the reward is made (`attiqa.rewards.protocol.PartedReward`); 1 where
            it does not say.
        deviations: how many standard deviations over them it takes off their mean.
        charge: what it takes off besides, of renders and references ``(B, 3, H, W)`` of any size: ``(B,)``,
            for which nothing is scored; None where it does not say.
    """

    def __init__(
        self,
        source: FrameSource,
        space: ParameterSpace,
        pipeline: Renderer,
        reward: AnyReward,
        *,
        short_side: int = 256,
        device: torch.device | str = "cpu",
        max_batch: int = 64,
        encoder: Callable[[torch.Tensor], torch.Tensor] | bool | None = None,
    ) -> None:
        if short_side < looking.THUMBNAIL:
            raise InputError(f"short_side must be at least {looking.THUMBNAIL} pixels; got {short_side}.")
        self.device = torch.device(device)
        self.space, self.pipeline = space, pipeline
        self._reward: Callable[..., torch.Tensor] = reward
        self._compares = bool(getattr(reward, "uses_reference", False))
        parted = reward if isinstance(reward, PartedReward) else None
        self.part_count, self.deviations = (parted.part_count, parted.deviations) if parted else (1, 0.0)
        self.charge = parted.charge if parted else None
        self._encoder = _encoder_of(reward) if encoder is None else encoder or None
        self.table = FrameTable.load(source, short_side, self.device, max_batch)
        self._references: list[torch.Tensor] = (
            [torch.empty_like(bucket.image) for bucket in self.table.buckets] if self._compares else []
        )
        self.neutral = self.table.batched(np.arange(len(self)), self._look_at_neutral)
        self._refuse_bad_potentials()
        self._slopes_apart = self._kept_slopes(apart=True)
        self._slopes_together = self._kept_slopes(apart=False)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def names(self) -> list[str]:
        """One name a frame; frame numbers index it."""
        return self.table.names

    def render_of(self, frames: np.ndarray, values: torch.Tensor) -> list[torch.Tensor]:
        """Render frame ``frames[i]`` with physical ``values[i]``.

        Args:
            frames: frame numbers, int64 ``(B,)``, repeats allowed.
            values: float32 ``(B, P)``, physical units.

        Returns:
            B images ``(3, H, W)``, display sRGB in [0, 1], each as large as its frame.
        """
        values = self._check_values(frames, values)
        return self.images_of(frames, lambda group: self._render(group, values))

    @torch.no_grad()
    def images_of(self, frames: np.ndarray, run: Callable[[Group], torch.Tensor]) -> list[torch.Tensor]:
        """Run a group to its images and return them singly, in the batch's order."""
        images: list[torch.Tensor] = [torch.empty(0)] * len(frames)
        for group in self.table.groups(frames):
            for member, image in zip(group.members.tolist(), run(group), strict=True):
                images[member] = image
        return images

    def potential_of(self, frames: np.ndarray, values: torch.Tensor) -> torch.Tensor:
        """The reward's value of frame ``frames[i]`` rendered with physical ``values[i]``.

        Args:
            frames: frame numbers, int64 ``(B,)``, repeats allowed.
            values: float32 ``(B, P)``, physical units.

        Returns:
            float32 ``(B,)``. The gain over the camera default is this minus ``neutral["potential"][frames]``.
        """
        return self.look_at(frames, values, observe=False)["potential"]

    @torch.no_grad()
    def look_at(
        self, frames: np.ndarray, values: torch.Tensor, observe: bool = True, slopes: bool = False
    ) -> Tensors:
        """Render, score and, with `observe`, look: the entries of `neutral`, for these renders.

        Args:
            frames: frame numbers, int64 ``(B,)``.
            values: float32 ``(B, P)``, physical units.
            observe: without it only ``potential`` and ``clipped_fraction`` are computed.
            slopes: adds ``parts (B, K)``, what the reward is made of (`attiqa.rewards.protocol.PartedReward`;
                itself alone where it does not say), ``slope (B, K, P)``, how each part rises with each value,
                per physical unit, by a backward pass a part through score and render, and ``charge (B,)``.

        Raises:
            InputError: `slopes` of a renderer or a reward that has none.
        """
        values = self._check_values(frames, values)
        if slopes:
            return self.table.batched(frames, partial(self._look_back, values=values, observe=observe))
        return self.table.batched(
            frames, lambda group: self.look(self._render(group, values), group, observe=observe)
        )

    @torch.no_grad()
    def look(self, images: torch.Tensor, group: Group, observe: bool = True) -> Tensors:
        """Score renders ``(b, 3, H, W)`` of the frames of `group` and, with `observe`, look at them."""
        return self._look(images, self._reference(group), observe)

    @torch.no_grad()
    def score(self, images: torch.Tensor, group: Group) -> torch.Tensor:
        """The potentials ``(b,)`` of renders ``(b, 3, H, W)`` of the frames of `group`: the reward alone."""
        return self._score(images, self._reference(group))

    def neutral_images(self, group: Group) -> torch.Tensor:
        """The neutral renders ``(b, 3, H, W)`` of `group`, kept where the reward compares with them."""
        kept = self._reference(group)
        return self.pipeline.neutral(group.raw) if kept is None else kept

    def neutral_of(self, frames: np.ndarray, names: tuple[str, ...] | None = None) -> Tensors:
        """Rows of `neutral` for these frames, as new tensors; `names` chooses entries."""
        rows = torch.as_tensor(self.table.check(frames), device=self.device)
        return {name: self.neutral[name][rows] for name in names or self.neutral}

    def neutral_slope_of(self, frames: np.ndarray) -> torch.Tensor:
        """How the reward rises with each parameter at the neutral render: float32 ``(B, P)``.

        The mean over its parts, a unit of action above 0; of one side where an operator or the reward has a
        corner. A backward pass computes it when it is first asked for, for `max_batch` frames at once, and it
        is kept; where its parts alone are known it is their mean.

        Args:
            frames: frame numbers, int64 ``(B,)``.

        Raises:
            InputError: a renderer or a reward that has no slopes.
        """
        frames = self.table.check(frames)
        kept = self._slopes_together
        if not kept.knows(frames) and (self.part_count == 1 or self._slopes_apart.knows(frames)):
            return self._slopes_apart.of(frames).mean(dim=1)
        return kept.of(frames)

    def neutral_slopes_of(self, frames: np.ndarray) -> torch.Tensor:
        """As `neutral_slope_of`, of each part of the reward: float32 ``(B, K, P)``; a backward pass each."""
        return self._slopes_apart.of(self.table.check(frames))

    def know_neutral_slopes(self, slopes: torch.Tensor) -> None:
        """Take float32 ``(F, P)`` or ``(F, K, P)`` for what would be measured of all frames."""
        (self._slopes_apart if slopes.ndim == 3 else self._slopes_together).take(slopes)

    def samples_of(self, frames: np.ndarray) -> RawBatch:
        """`SAMPLE` pixels a side of each frame ``(B,)``, evenly apart, whatever its shape."""
        frames = self.table.check(frames)
        images = torch.empty((len(frames), 3, SAMPLE, SAMPLE), device=self.device)
        colors = torch.empty((len(frames), 4, 3), device=self.device)
        middles = (torch.arange(SAMPLE, device=self.device) + 0.5) / SAMPLE
        channels = torch.arange(3, device=self.device)[:, None, None]
        for group in self.table.groups(frames):
            down, across = ((middles * side).long() for side in group.size)
            of_frame = group.rows[:, None, None, None]
            images[group.members] = group.shelf.image[of_frame, channels, down[:, None], across]
            colors[group.members, 0] = group.shelf.white_balance[group.rows]
            colors[group.members, 1:] = group.shelf.color_matrix[group.rows]
        return RawBatch(images, colors[:, 0], colors[:, 1:])

    def observation_spaces(self) -> dict[str, spaces.Space]:
        """The spaces of what is seen of a render."""
        features = self.neutral.get("features")
        return looking.observation_spaces(0 if features is None else features.shape[1])

    def _kept_slopes(self, apart: bool) -> KeptRows:
        """Slopes at the neutral renders of all frames, of each part ``(F, K, P)``, or of their mean."""
        shape = (len(self), self.part_count, len(self.space)) if apart else (len(self), len(self.space))
        measure = partial(self._measure_slopes, apart=apart)
        what = "measuring slopes at neutral renders"
        return KeptRows(shape, measure, self.table.max_batch, what, self.device)

    def _measure_slopes(self, frames: np.ndarray, apart: bool) -> torch.Tensor:
        still = self.space.neutral_values(len(frames), self.device)
        seen = self.table.batched(frames, partial(self._look_back, values=still, observe=False, apart=apart))
        slopes = seen["slope"] * self.space.units_of(torch.zeros_like(still))[:, None]
        return slopes if apart else slopes[:, 0]

    def _render(self, group: Group, values: torch.Tensor) -> torch.Tensor:
        return self.pipeline(group.raw, values[group.members])

    def _look_back(self, group: Group, values: torch.Tensor, observe: bool, apart: bool = True) -> Tensors:
        """As `look`, of a render that is made here, with the slopes of its parts, or of their mean alone."""
        if not isinstance(self.pipeline, Traceable):
            raise InputError(f"{type(self.pipeline).__name__} cannot be traced: its renders have no slopes.")
        # and again below, traced: a render more costs less than a score inside of tracing
        images = self._render(group, values)
        with torch.enable_grad():
            shown = images.detach().requires_grad_()
            parts = self._parted(shown, self._reference(group))
            if not parts.requires_grad:
                name = getattr(self._reward, "__name__", type(self._reward).__name__)
                raise InputError(
                    "slopes need a reward that torch can differentiate, as the models of this package are; "
                    f"{name} gives no gradient. Go without slopes."
                )
            pixels = slopes_of(parts if apart else parts.mean(dim=1, keepdim=True), shown)
        with tracing():
            own = values[group.members].detach().requires_grad_()
            slope = carried_back(pixels, self.pipeline.traced(group.raw, own), own)
        parts, charge = self._own(parts), self._charged(images, self._reference(group))
        potential = together(parts, self.deviations) - charge
        seen = self._seen(images, potential, observe)
        return seen | {"parts": parts, "charge": charge, "slope": self._own(slope)}

    def _reference(self, group: Group) -> torch.Tensor | None:
        return self._references[group.bucket][group.rows] if self._compares else None

    @torch.no_grad()
    def _look_at_neutral(self, group: Group) -> Tensors:
        images = self.pipeline.neutral(group.raw)
        if self._compares:
            self._references[group.bucket][group.rows] = images
        return self._look(images, images, observe=True)

    def _look(self, images: torch.Tensor, reference: torch.Tensor | None, observe: bool) -> Tensors:
        return self._seen(images, self._score(images, reference), observe)

    def _seen(self, images: torch.Tensor, potential: torch.Tensor, observe: bool) -> Tensors:
        seen = {
            "potential": potential,
            "clipped_fraction": is_clipped(images).float().mean(dim=(1, 2)),
        }
        if observe:
            seen |= {
                "thumbnail": looking.thumbnail(images),
                "histogram": looking.histogram(images),
                "clipping": looking.clipping(images),
            }
            if callable(self._encoder):
                seen["features"] = self._own(self._encoder(images))
        return seen

    def _score(self, images: torch.Tensor, reference: torch.Tensor | None) -> torch.Tensor:
        return self._own(self._scored(images, reference))

    def _parted(self, images: torch.Tensor, reference: torch.Tensor | None) -> torch.Tensor:
        """The parts of the reward ``(B, K)``; of one that has none, itself."""
        if isinstance(self._reward, PartedReward) and reference is not None:
            return self._reward.apart(images, reference)
        return self._scored(images, reference)[:, None]

    def _charged(self, images: torch.Tensor, reference: torch.Tensor | None) -> torch.Tensor:
        """What is taken off its parts besides ``(B,)``; nothing of a reward that has none."""
        if self.charge is None or reference is None:
            return torch.zeros(len(images), device=self.device)
        return self._own(self.charge(images, reference))

    def _scored(self, images: torch.Tensor, reference: torch.Tensor | None) -> torch.Tensor:
        arguments = {"reference": reference} if self._compares else {}
        scores = torch.as_tensor(self._reward(images, **arguments))
        if scores.shape != (len(images),):
            raise InputError(
                f"a reward returns one number an image, shape ({len(images)},); "
                f"it returned shape {tuple(scores.shape)}."
            )
        return scores

    def _own(self, rows: torch.Tensor) -> torch.Tensor:
        # a clone, because a model's inference tensors must not reach a learner's graph
        return rows.detach().to(self.device, torch.float32).clone()

    def _check_values(self, frames: np.ndarray, values: torch.Tensor) -> torch.Tensor:
        expected = (len(frames), len(self.space))
        if tuple(values.shape) != expected:
            raise InputError(f"values have one row a frame, shape {expected}; got {tuple(values.shape)}.")
        return values.to(self.device, torch.float32)

    def _refuse_bad_potentials(self) -> None:
        bad = (~torch.isfinite(self.neutral["potential"])).nonzero().flatten().tolist()
        if bad:
            raise InputError(
                f"the reward is not finite on the neutral render of {len(bad)} of {len(self)} frames "
                f"(the first: {self.names[bad[0]]}); mend the reward or leave these frames out."
            )


def _encoder_of(reward: AnyReward) -> Callable[[torch.Tensor], torch.Tensor] | None:
    offers = [getattr(part, "features", None) for part in (reward, *getattr(reward, "scorers", ())[:1])]
    return next((offer for offer in offers if callable(offer)), None)
