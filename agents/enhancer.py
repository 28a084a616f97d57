"""A stored policy at work on single raws: the parameters it chooses, and what they render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from agents.image_files import Pixels, finish
from agents.judging import Judging
from agents.playing import make_envs, play
from agents.policy_file import StoredPolicy
from attiqa.errors import InputError
from attiqa.rewards.guarded import newly_clipped
from isp_env.envs.core import Core
from isp_env.frame import RawBatch, RawFrame
from isp_env.parameters import ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.raw import shrink
from isp_env.sources import MemoryFrames

MOST_CLIPPED = 0.01  # fraction of a picture's pixels that may be clipped where the neutral render is not
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of what brightens in the policy's setting, tried in this order
_TONES = ("highlights", "whites", "tone_midtones", "tone_highlights", "contrast", "clarity", "dehaze")
BRIGHTENING = frozenset(("exposure", "gamma", *_TONES))
PROOF_SIDE = 640  # short side of the renders that sheets and reports show


@dataclass(frozen=True)
class Enhanced:
    """A policy's answer to one raw.

    Attributes:
        values: ``(P,)``, physical units.
        neutral_score, score: plain quality of the preview, before and after.
        share: what was taken of what brightens in the policy's setting, so that hardly a pixel is clipped
            anew; 1 is all.
    """

    values: torch.Tensor
    neutral_score: float
    score: float
    share: float = 1.0


def check_card(card: Mapping[str, Any], scores: Judging) -> None:
    """Raise `InputError` where a policy's card lacks what using it needs, or names another eye."""
    try:
        names = [row["name"] for row in card["parameters"]]
        wanted, digest, _ = card["eye"], card["eye"]["digest"], (names, card["task"], int(card["short_side"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the policy's card is incomplete ({error!r}); copy the whole run folder.") from None
    if wanted != scores.about["eye"]:
        raise InputError(
            f"the policy sees through {wanted['name']} {digest[:12]}..., and this installation "
            f"has {scores.about['eye']['digest'][:12]}...; train again, or install the one it came from."
        )


class Enhancer:
    """A stored policy, ready to set parameters for raws.

    Args:
        stored: the policy.
        scores: the score and the eye; the eye must be the one that the policy was trained with.
        device: where frames are rendered and previews scored.

    Raises:
        InputError: the policy saw through another model, or knows parameters that this version lacks.
    """

    def __init__(self, stored: StoredPolicy, scores: Judging, device: str = "cpu") -> None:
        check_card(stored.card, scores)
        names = [row["name"] for row in stored.card["parameters"]]
        self.task, self.short_side = str(stored.card["task"]), int(stored.card["short_side"])
        self.space = ParameterSpace(names)
        self.pipeline = Pipeline(self.space)
        self.stored, self._scores, self._device = stored, scores, device

    def look(self, frame: RawFrame) -> Enhanced:
        """Choose the parameters of one raw of any size."""
        core = Core(
            MemoryFrames([frame]),
            self.space,
            self.pipeline,
            self._scores.score,
            short_side=self.short_side,
            device=self._device,
            encoder=self._scores.encoder,
        )
        numbers = np.zeros(1, np.int64)
        setting, _ = play(make_envs(self.task, core, 1), numbers, self.stored.act)
        values, share = self._unclipped(core, torch.as_tensor(setting, dtype=torch.float32))
        score = core.potential_of(numbers, values)
        return Enhanced(values[0], float(core.neutral["potential"][0]), float(score[0]), share)

    def _unclipped(self, core: Core, setting: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Physical values near a setting ``(1, P)`` that hardly clip anew, and the share of what brightens.

        The reward charges for clipped pixels on average; of a single picture nothing should be lost that the
        neutral render has. Where less brightening does not help, the neutral values are taken. Our choice.
        """
        numbers = np.zeros(1, np.int64)
        (neutral,) = core.render_of(numbers, self.space.neutral_values(1))
        brightens = torch.tensor([name in BRIGHTENING for name in self.space.names]) & (setting > 0)
        for share in SHARES:
            values = self.space.to_physical(torch.where(brightens, share * setting, setting))
            (render,) = core.render_of(numbers, values)
            if float(newly_clipped(render[None], neutral[None])) <= MOST_CLIPPED:
                return values, share
        return self.space.neutral_values(1), 0.0

    def finished(self, frame: RawFrame, values: torch.Tensor, kind: str) -> Pixels:
        """The whole frame rendered with physical `values` ``(P,)``, for `image_files.write_picture`."""
        on_device = replace(
            frame,
            image=frame.image.to(self._device),
            white_balance=frame.white_balance.to(self._device),
            color_matrix=frame.color_matrix.to(self._device),
        )
        return finish(self.pipeline.render_full(on_device, values), kind)

    def small(self, frame: RawFrame) -> RawFrame:
        """The frame at a size to look at and to measure on."""
        return replace(frame, image=shrink(frame.image, PROOF_SIDE))

    def proofs(self, small: RawFrame, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A small frame's neutral render and that with physical `values`: ``(3, h, w)``, display sRGB."""
        batch = RawBatch.stack([small])
        return self.pipeline.neutral(batch)[0], self.pipeline(batch, values[None])[0]

    def record(self, frame: RawFrame, enhanced: Enhanced) -> dict[str, Any]:
        """What stands beside an exported picture, as JSON values."""
        return {
            "parameters": self.space.as_dict(enhanced.values),
            "share_of_brightening": enhanced.share,
            "units": {row.name: row.unit for row in self.space.parameters},
            "neutral_score": enhanced.neutral_score,
            "score": enhanced.score,
            "score_model": self._scores.about["eye"],
            "policy_digest": self.stored.digest,
            "source_digest": frame.digest,
            "notes": list(frame.notes),
        }
