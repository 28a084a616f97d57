"""Everything in a run that looks at renders: reward, the policy's eye, the tables' score, judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from attiqa.checkpoint import read_card
from attiqa.errors import InputError
from attiqa.model import DEFAULT_MODEL, QualityModel, bundled_models, load
from attiqa.peers import OFFLINE_PEERS, Scorer, load_peer
from attiqa.rewards.protocol import ReferencedReward, Reward
from attiqa.rewards.registry import build_reward, full_name


@dataclass(frozen=True)
class Judges:
    """Scores that a reward does not contain, and what could not be had of them.

    Attributes:
        scores: by name; higher is better for all of them.
        about: by name: where the numbers come from, and a digest of weights and protocol.
        missing: a sentence for each judge that could not be had.
    """

    scores: Mapping[str, Reward] = field(default_factory=dict)
    about: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    missing: Sequence[str] = ()

    def describe(self, asked: bool) -> list[str]:
        """What a user should know, in sentences; `asked`: whether judges were asked for by name or folder."""
        missing = list(self.missing) if asked else []
        if self.scores:
            return [*missing, f"beside the reward, judged by {', '.join(self.scores)}."]
        hint = "" if asked else f" ({self.missing[0].rstrip('.')})" if self.missing else ""
        return [*missing, f"no judge outside the reward is at hand{hint}: nothing can tell if it is gamed."]


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


def judging(reward_name: str, device: str, judges: Judges | None = None) -> Judging:
    """Load what a run needs; `reward_name` as `attiqa.rewards.registry.build_reward` takes it.

    Args:
        reward_name: what the agent is paid by.
        device: where models run.
        judges: from `find_judges`; None for none.

    Raises:
        InputError: an unknown reward.
    """
    reward = build_reward(reward_name, device)
    eye = _eye(reward, device)
    model = {"name": DEFAULT_MODEL, "digest": eye.digest}
    about: dict[str, Any] = {"reward": full_name(reward_name), "reward_model": model, "eye": model}
    if judges is None:
        return Judging(reward, eye.features, eye.score, {}, about)
    about["judges"] = dict(judges.about)
    return Judging(reward, eye.features, eye.score, judges.scores, about)


def find_judges(
    reward_name: str, device: str, weights: Path | None = None, named: Sequence[str] = ()
) -> Judges:
    """Every judge that can be had here for a run with this reward; what cannot is said, not raised.

    These are the bundled models that the reward does not contain, the peers whose parameters are files
    (NIMA, NIQE, BRISQUE), and pyiqa's metrics by name.

    Args:
        reward_name: as `judging` takes it.
        device: where models run.
        weights: folder of the peers' files, see `attiqa.peers`; None leaves those peers out.
        named: further no-reference metrics of pyiqa.

    Raises:
        InputError: an unknown reward.
    """
    scores: dict[str, Reward] = {}
    about: dict[str, dict[str, Any]] = {}
    inside = _digests(build_reward(reward_name, device))
    for name in bundled_models():
        model = load(name, device)
        if model.digest not in inside:
            scores[name] = model.score
            about[name] = {"origin": "bundled", "digest": model.digest}
    missing = []
    if weights is None:
        missing.append(
            f"{', '.join(OFFLINE_PEERS)} do not judge: their parameters are files (--peer-weights)."
        )
    for name in dict.fromkeys([*(OFFLINE_PEERS if weights else ()), *named]):
        try:
            peer = load_peer(name, weights, device)
        except InputError as error:
            missing.append(f"{name} does not judge: {error}")
        else:
            scores[name] = _upwards(peer)
            about[name] = {
                "origin": peer.origin,
                "digest": peer.digest,
                "sign": -1 if peer.lower_is_better else 1,
            }
    return Judges(scores, about, missing)


def _eye(reward: Any, device: str) -> QualityModel:
    """The model that policies see through: the reward's own where that is it, so that it is loaded once."""
    digest = read_card(bundled_models()[DEFAULT_MODEL])["digest"]
    for part in _parts(reward):
        if isinstance(part, QualityModel) and (part.digest, part.precision) == (digest, "float32"):
            return part
    return load(DEFAULT_MODEL, device)


def _digests(reward: Any) -> set[str]:
    """Digests of the models that a reward contains."""
    return {part.digest for part in _parts(reward) if hasattr(part, "digest")}


def _parts(reward: Any) -> list[Any]:
    """A reward, and what it is made of."""
    return [reward, getattr(reward, "model", None), *getattr(reward, "scorers", ())]


def _upwards(peer: Scorer) -> Reward:
    """A peer as a score of which more is better."""
    sign = -1.0 if peer.lower_is_better else 1.0

    def score(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return sign * torch.as_tensor(peer.score(images), dtype=torch.float32).reshape(len(images)).cpu()

    return score
