"""Policies of several looks, the first of which is the answer of another policy, which does not learn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.td3.policies import Actor
from torch import Tensor, nn


class BegunPolicy(BasePolicy):
    """What such policies share.

    Attributes:
        first: the actor of the first look; None: the policy makes that look itself. `agents.policy.begin`
            fills it.
    """

    first: Actor | None

    def first_actor(self, net_arch: list[int], unseen: Iterable[str]) -> Actor:
        """An actor that does not learn and sees all of the observation but the entries `unseen`."""
        hidden = {"change", *unseen}
        sees = spaces.Dict({key: box for key, box in entries(self.observation_space) if key not in hidden})
        eye = self.features_extractor_class(sees, **self.features_extractor_kwargs)
        acts: Any = self.action_space
        actor = Actor(sees, acts, net_arch, eye, eye.features_dim, nn.Tanh)
        actor.requires_grad_(False)
        return actor

    def first_answer(self, observation: Any) -> Tensor:
        """Its actions ``(B, P)``."""
        if self.first is None:
            raise ValueError(f"this {type(self).__name__} makes its first look itself")
        seen = dict(entries(observation))
        answer: Tensor = self.first({key: seen[key] for key, _ in entries(self.first.observation_space)})
        return answer


def entries(observation: Any) -> Iterable[tuple[str, Any]]:
    """The entries of a Dict observation, or of its space."""
    return (observation.spaces if isinstance(observation, spaces.Dict) else observation).items()
