"""The guarded reward: a quality gain that several views must agree on, minus penalties on cheap tricks.

A no-reference score, maximised alone, is exploited by over-saturation, over-sharpening and blown highlights.
This one is ``mean - k * std`` of the gain over the neutral render, across scorers and views, minus hinges on
newly clipped pixels and on colour distance from the neutral render, and minus charges for lost chroma, for
paling, for darkening, for greying, for tinting and for turned hues. All of its constants are our choice.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from attiqa.errors import InputError
from attiqa.rewards.differences import color_terms, newly_clipped
from attiqa.rewards.protocol import Reward, together

# what a scorer is shown, from float32 (B, 3, H, W) display sRGB
VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "whole": lambda images: images,
    "mirrored": lambda images: images.flip(-1),
    "cropped": lambda images: _center(images),
    "cropped-mirrored": lambda images: _center(images).flip(-1),
}
_CROPPED = 0.75  # of each side
# clipped pixels are counted on a grid of about this short side, colours compared on areas of this one: the
# guard then costs less than a tenth of a small network
_GRID_SIDE = 64
_AREA_SIDE = 32


class GuardedReward:
    """Guarded quality gain over the neutral render; a `ReferencedReward` and a `PartedReward`.

    ``reward = mean(g) - deviations * std(g) - clip_weight * relu(newly_clipped - clip_tolerance)
    - color_weight * relu(color_distance - color_radius) - chroma_weight * lost_chroma
    - darkening_weight * darkening - paling_weight * paling - greying_weight * greying
    - tinting_weight * tinting - turning_weight * turning``,
    where ``g`` is ``score(image) - score(reference)``, once for each scorer and view, and ``std`` the
    population's: with two of them and one deviation the reward is the smaller gain. It is zero at the
    reference itself. What is charged for is measured by `attiqa.rewards.differences`.

    Scores of references are remembered, by content at reduced size: a training loop that compares many
    renders with the same neutral ones pays for each neutral once.

    Args:
        scorers: plain rewards of one scale, or brought to one by `attiqa.rewards.calibration`.
        views: names from `VIEWS`; a gain that only one of them sees is discounted by the deviation. Models
            that bring every image to one size see the central crop at a larger scale; it is mirrored by
            default, because searches find renders that a network likes one way round only (agents/TRIALS.md).
        deviations: the k above.
        clip_weight: score units for a fraction of 1 of newly clipped pixels.
        clip_tolerance: fraction of newly clipped pixels that is free.
        color_weight: score units for one unit of colour distance.
        color_radius: free distance, wide enough for mending. On the Kodak suite, white-balance gains of
            (1.4, 1, 0.7) cost 10 to 14, one EV of exposure 2 to 8, doubled saturation 8 to 25.
        chroma_weight: score units for one unit of lost chroma. A network cares little whether a picture
            pales, and what pales stays within `color_radius`; most judges like what a search finds better
            with this charge (agents/TRIALS.md). Expert C of FiveK loses .4 on 17 scenes, 2.6 at most.
        darkening_weight: score units for one unit of CIELAB lightness by which the mean falls below the
            reference's, or below 50 where that is brighter. A network likes deep contrast however dark; on 17
            scenes of FiveK expert C darkens two, by 3 at most (agents/TRIALS.md).
        paling_weight: score units for one unit of `paling`. What is brightened without its colours keeps its
            chroma and looks paler; on 17 scenes of FiveK expert C pales by .1 at most (agents/TRIALS.md).
        greying_weight: score units for one unit of `greying`. Policies darken burnt-out skies, which no score
            here minds; on six pictures white areas lose 3 units of lightness at most with this charge, 17
            without it (agents/TRIALS.md).
        tinting_weight: score units for one unit of `tinting`. Expert C of FiveK gives light greys 1.7 units
            of chroma on four scenes, five looks without this charge 4.5 (agents/TRIALS.md).
        turning_weight: score units for one unit of `turning`. A network that people's scores trained does not
            know which balance is right: without this charge five looks leave one that is 12 mired wrong 23
            wrong, with it 16 (agents/TRIALS.md). Expert C of FiveK turns hues by 1.2 units on 17 scenes.
        remembered: how many references to remember.
    """

    uses_reference = True

    def __init__(
        self,
        scorers: Sequence[Reward],
        views: Sequence[str] = ("whole", "cropped-mirrored"),
        *,
        deviations: float = 1.0,
        clip_weight: float = 2.0,
        clip_tolerance: float = 0.01,
        color_weight: float = 0.02,
        color_radius: float = 12.0,
        chroma_weight: float = 0.01,
        darkening_weight: float = 0.005,
        paling_weight: float = 0.02,
        greying_weight: float = 0.05,
        tinting_weight: float = 0.02,
        turning_weight: float = 0.01,
        remembered: int = 4096,
    ) -> None:
        unknown = [view for view in views if view not in VIEWS]
        if unknown or not views:
            raise InputError(f"views must be some of {', '.join(VIEWS)}; these are {list(views)}.")
        if not scorers:
            raise InputError("a guarded reward needs at least one scorer; the list is empty.")
        weights = (
            clip_weight,
            color_weight,
            chroma_weight,
            darkening_weight,
            paling_weight,
            greying_weight,
            tinting_weight,
            turning_weight,
        )
        if min(deviations, clip_tolerance, color_radius, *weights) < 0:
            raise InputError(
                "the weights, tolerances and deviations of a guarded reward must not be negative."
            )
        self.scorers = tuple(scorers)
        self.views = tuple(views)
        self.deviations = deviations
        self.clip_weight = clip_weight
        self.clip_tolerance = clip_tolerance
        self.color_weight = color_weight
        self.color_radius = color_radius
        self.chroma_weight = chroma_weight
        self.darkening_weight = darkening_weight
        self.paling_weight = paling_weight
        self.greying_weight = greying_weight
        self.tinting_weight = tinting_weight
        self.turning_weight = turning_weight
        self._baselines = _Memo(remembered)

    @property
    def part_count(self) -> int:
        """K: each scorer with each view."""
        return len(self.scorers) * len(self.views)

    def __call__(self, images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Guarded gain ``(B,)`` of `images` over `reference`, both float32 ``(B, 3, H, W)`` display sRGB."""
        return self.parts(images, reference)["reward"]

    def parts(self, images: torch.Tensor, reference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every term of the formula, ``(B,)`` each, for logs: `reward` is what the call returns.

        Gradients flow to `images` that ask for them, but for that of the clipped fraction, which is a count.
        """
        smaller = self._smaller(images, reference)
        gains = self._gains(images, reference, smaller)
        terms = self._terms(images, smaller)
        penalty = self._penalty(terms)
        return {
            "reward": together(gains, self.deviations) - penalty,
            "gain": gains.mean(dim=1),
            "deviation": gains.std(dim=1, correction=0),
            **terms,
            "penalty": penalty,
        }

    def apart(self, images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """The gain by each scorer and view: ``(B, K)``; see `PartedReward`. Gradients flow as in `parts`."""
        return self._gains(images, reference, self._smaller(images, reference))

    def charge(self, images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """The penalty alone ``(B,)``, for which nothing is scored; see `PartedReward`.

        Gradients flow as in `parts`.
        """
        return self._penalty(self._terms(images, self._smaller(images, reference)))

    def _smaller(self, images: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The reference's grid and areas; `InputError` where `images` cannot be compared with it."""
        if images.shape != reference.shape or images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                "a guarded reward compares images with reference renders of one shape (B, 3, H, W); "
                f"these are {tuple(images.shape)} and {tuple(reference.shape)}."
            )
        with torch.set_grad_enabled(_wants_gradients(images)):
            return _grid(reference), _areas(reference)

    def _gains(
        self, images: torch.Tensor, reference: torch.Tensor, smaller: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        with torch.set_grad_enabled(_wants_gradients(images)):
            with torch.no_grad():
                keys = _fingerprints(torch.cat([small.flatten(1) for small in smaller], dim=1))
                baselines = self._baselines(keys, reference, self._scores)  # (B, K)
            # every environment begins with the references themselves: they are not scored twice
            return (baselines if images is reference else self._scores(images)) - baselines

    def _terms(
        self, images: torch.Tensor, smaller: tuple[torch.Tensor, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """What is charged for by name, ``(B,)`` each."""
        grid, areas = smaller
        with torch.set_grad_enabled(_wants_gradients(images)):
            return {
                "newly_clipped": newly_clipped(_grid(images), grid),
                **color_terms(_areas(images), areas),
            }

    def _penalty(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        penalty = self.clip_weight * F.relu(terms["newly_clipped"] - self.clip_tolerance)
        penalty = penalty + self.color_weight * F.relu(terms["color_distance"] - self.color_radius)
        penalty = penalty + self.chroma_weight * terms["lost_chroma"]
        penalty = penalty + self.darkening_weight * terms["darkening"]
        penalty = penalty + self.paling_weight * terms["paling"]
        penalty = penalty + self.greying_weight * terms["greying"]
        penalty = penalty + self.tinting_weight * terms["tinting"]
        return penalty + self.turning_weight * terms["turning"]

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        """Scores ``(B, K)``: one column for each pair of scorer and view."""
        shown = [VIEWS[view](images) for view in self.views]
        return torch.stack([scorer(view).float() for scorer in self.scorers for view in shown], dim=1)


def _wants_gradients(images: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and images.requires_grad


def _grid(images: torch.Tensor) -> torch.Tensor:
    """Every n-th pixel, not averaged: a clipped fraction then does not depend on the size."""
    step = max(1, min(images.shape[-2:]) // _GRID_SIDE)
    return images[..., step // 2 :: step, step // 2 :: step]


def _areas(images: torch.Tensor) -> torch.Tensor:
    """Means over squares, so that noise and its removal are no change of colour."""
    return F.avg_pool2d(images, max(1, min(images.shape[-2:]) // _AREA_SIDE))


def _center(images: torch.Tensor) -> torch.Tensor:
    height, width = (max(1, round(side * _CROPPED)) for side in images.shape[-2:])
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


class _Memo:
    """Remembers one row of numbers for each key; the oldest go first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: OrderedDict[int, torch.Tensor] = OrderedDict()

    def __call__(
        self, keys: list[int], images: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Rows ``(B, V)`` of `images` by their `keys`; those that are not remembered are computed."""
        missing = [i for i, key in enumerate(keys) if key not in self._rows]
        if missing:
            fresh = compute(images[missing])
            self._rows.update((keys[i], row) for i, row in zip(missing, fresh, strict=True))
        for key in keys:
            self._rows.move_to_end(key)
        rows = torch.stack([self._rows[key] for key in keys])
        while len(self._rows) > self._size:
            self._rows.popitem(last=False)
        return rows


def _fingerprints(values: torch.Tensor) -> list[int]:
    """One integer a row of float32 ``(B, N)``: its bits times fixed random odd weights, wrapped, summed."""
    bits = values.view(torch.int32)
    return (bits * _hash_weights(bits.shape[1], bits.device)).sum(dim=1).tolist()


@functools.lru_cache(maxsize=8)
def _hash_weights(count: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    weights = torch.randint(-(2**30), 2**30, (count,), generator=generator, dtype=torch.int32) * 2 + 1
    return weights.to(device)
