"""Everything in a run that looks at renders: reward, the policy's eye, the tables' score, judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from attiqa.model import DEFAULT_MODEL, load
from attiqa.rewards.protocol import ReferencedReward, Reward
from attiqa.rewards.registry import build_reward


@dataclass(frozen=True)
class Judging:
    """Scores by their roles.

    Attributes:
        reward: what the agent is paid by.
        encoder: display sRGB ``(B, 3, H, W)`` to features ``(B, D)``: what the policy sees of a render.
        score: the plain quality score of the tables.
        judges: further scores, by name, that the reward does not contain.
        about: names and digests of them all, for the record.
    """

    reward: Reward | ReferencedReward
    encoder: Callable[[torch.Tensor], torch.Tensor]
    score: Reward
    judges: Mapping[str, Reward]
    about: dict[str, Any]


def judging(reward_name: str, device: str) -> Judging:
    """Load what a run needs; `reward_name` as `attiqa.rewards.registry.build_reward` takes it.

    Raises:
        InputError: an unknown reward.
    """
    reward = build_reward(reward_name, device)
    eye = load(DEFAULT_MODEL, device)
    model = {"name": DEFAULT_MODEL, "digest": eye.digest}
    about = {"reward": reward_name, "reward_model": model, "eye": model}
    return Judging(reward, eye.features, eye.score, {}, about)
