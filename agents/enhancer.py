"""A stored policy at work on single raws: the parameters it chooses, and what they render."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.answers import Answer, Settings, measured
from agents.delivery import deliveries, no_worse_than_neutral
from agents.image_files import Pixels, finish
from agents.judging import Judging, judging
from agents.playing import STEPS_AN_EPISODE, best_so_far, envs_of, looks_of
from agents.policy_file import StoredPolicy, load_policy, sees_slopes
from attiqa.errors import InputError
from attiqa.model import DEFAULT_MODEL
from attiqa.rewards.registry import full_name, is_own
from isp_env.envs.core import Core
from isp_env.frame import RawBatch, RawFrame
from isp_env.parameters import ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.raw import shrink
from isp_env.sources import MemoryFrames

PROOF_SIDE = 640  # short side of the renders that sheets and reports show


@dataclass(frozen=True)
class Enhanced:
    """A policy's answer to one raw.

    Attributes:
        answer: what it sets, one row.
        neutral_score, score: plain quality of the preview, before and after.
        share: what was taken of what brightens in a setting, or of the strengths of tools, so that hardly a
            pixel is clipped anew; 1 is all.
        is_kept: false where the reward likes the neutral render better, which then is the answer.
    """

    answer: Answer
    neutral_score: float
    score: float
    share: float = 1.0
    is_kept: bool = True


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


def check_looks(card: Mapping[str, Any], looks: int | None) -> None:
    """Raise `InputError` where a policy cannot end after so many looks; None is as many as it takes."""
    most = STEPS_AN_EPISODE[str(card["task"])]
    if looks is None or looks == most:
        return
    if card["task"] != "refine":
        raise InputError(f"--looks is for policies of the task refine; this one is of {card['task']}.")
    if not 1 <= looks <= most:
        raise InputError(f"--looks lies between 1 and {most}, as many as the policy takes; got {looks}.")


def chooser(card: Mapping[str, Any]) -> str:
    """The name of the reward that chooses the best of a policy's looks; `InputError` where it has none.

    A policy of one look that sees no slopes of it can do without: where its reward is no part of this package
    the score of the tables takes its place, and its answers are exported whatever they are worth.
    """
    reward = card.get("reward")
    if not isinstance(reward, str):
        raise InputError("the policy's card is incomplete (it names no reward); copy the whole run folder.")
    can_do_without = card.get("task") == "tune" and not sees_slopes(card)
    return DEFAULT_MODEL if can_do_without and not is_own(reward) else reward


def load_enhancer(run: Path, device: str, looks: int | None = None) -> Enhancer:
    """The policy of a run folder at work, with the reward and the eye that its card names; see `Enhancer`."""
    stored = load_policy(run)
    check_looks(stored.card, looks)
    return Enhancer(stored, judging(chooser(stored.card), device), device, looks)


class Enhancer:
    """A stored policy, ready to set parameters for raws.

    Args:
        stored: the policy.
        scores: the reward, which chooses the best of several looks; the score; the eye, which must be the one
            that the policy was trained with.
        device: where frames are rendered and previews scored.
        looks: of a policy of several, how many it takes; None for all.

    Raises:
        InputError: the policy saw through another model, or knows parameters that this version lacks.
    """

    def __init__(
        self, stored: StoredPolicy, scores: Judging, device: str = "cpu", looks: int | None = None
    ) -> None:
        check_card(stored.card, scores)
        check_looks(stored.card, looks)
        names = [row["name"] for row in stored.card["parameters"]]
        self.task, self.short_side = str(stored.card["task"]), int(stored.card["short_side"])
        self.space = ParameterSpace(names)
        self.pipeline = Pipeline(self.space)
        self.stored, self._scores, self.device, self._looks = stored, scores, device, looks
        paid = full_name(str(stored.card.get("reward")))
        self._checks = scores.about.get("reward") == paid

    def look(self, frames: Sequence[RawFrame]) -> list[Enhanced]:
        """Choose the parameters of raws of any size, each for itself; several at once take less time each."""
        core = Core(
            MemoryFrames(frames),
            self.space,
            self.pipeline,
            self._scores.reward,
            short_side=self.short_side,
            device=self.device,
            encoder=self._scores.encoder,
        )
        numbers = np.arange(len(frames))
        looks = looks_of(envs_of(self.stored, core, self._looks), numbers, self.stored.act)
        *_, best = best_so_far(deliveries(core, numbers, looks))
        answer, is_kept = best.answer, np.ones(len(frames), bool)
        if self._checks:
            answer, is_kept = no_worse_than_neutral(core, numbers, best)
        before, after = (
            measured(core, numbers, each, lambda images, group: self._scores.score(images)).tolist()
            for each in (answer.scaled(0.0), answer)
        )
        return [
            Enhanced(answer.rows([row]), before[row], after[row], float(best.share[row]), bool(is_kept[row]))
            for row in range(len(frames))
        ]

    def finished(self, frame: RawFrame, answer: Answer, kind: str) -> Pixels:
        """The whole frame rendered as the one row of `answer` says, for `image_files.write_picture`."""
        # views: stacking would copy a frame of many megapixels
        alone = RawBatch(frame.image[None], frame.white_balance[None], frame.color_matrix[None])
        return finish(answer.render(alone.to(self.device), np.zeros(1, np.int64))[0], kind)

    def small(self, frame: RawFrame) -> RawFrame:
        """The frame at a size to look at and to measure on."""
        return replace(frame, image=shrink(frame.image, PROOF_SIDE))

    def proofs(self, small: RawFrame, answer: Answer) -> tuple[torch.Tensor, torch.Tensor]:
        """A small frame's neutral render and that of the one row of `answer`: ``(3, h, w)``, display sRGB."""
        batch = RawBatch.stack([small])
        return self.pipeline.neutral(batch)[0], answer.render(batch, np.zeros(1, np.int64))[0]

    def record(self, frame: RawFrame, enhanced: Enhanced) -> dict[str, Any]:
        """What stands beside an exported picture, as JSON values."""
        is_setting = isinstance(enhanced.answer, Settings)
        return enhanced.answer.record(0) | {
            "share_of_brightening" if is_setting else "share_of_strengths": enhanced.share,
            "neutral_kept": not enhanced.is_kept,
            "neutral_score": enhanced.neutral_score,
            "score": enhanced.score,
            "score_model": self._scores.about["eye"],
            "policy_digest": self.stored.digest,
            "source_digest": frame.digest,
            "notes": list(frame.notes),
        }
