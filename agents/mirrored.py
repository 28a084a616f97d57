"""PPO whose exploration comes in mirrored pairs: what is added to one action is taken off the other.

A setting that is explored costs more than it teaches: the guard charges for colours and light that go astray,
on whichever side, and of a neutral render's 14 parameters most rewards fall both ways. That cost, which
advantages over a value function take for noise, is the same on both sides of a pair to the second order, so
half of the difference of their rewards is left of it: the slope along the pair. Taken as the advantage of one
side and, with the other sign, of the other, it is the policy's gradient as before, with less noise
(antithetic variates: Hammersley and Morton, 1956; mirrored directions: Salimans et al., Evolution strategies
as a scalable alternative to reinforcement learning, 2017, section 2). How much less: TRIALS.md.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.preprocessing import get_action_dim

from agents.vec_env import IspVecEnv


class MirroredGaussian(DiagGaussianDistribution):
    """SB3's Gaussian, of which every second draw is the one before it, mirrored in the mean."""

    def sample(self) -> torch.Tensor:
        """Actions ``(B, P)``, of means ``(B, P)`` that are equal in rows 0 and 1, 2 and 3, and so on."""
        actions, means = super().sample(), self.distribution.mean
        actions[1::2] = 2 * means[1::2] - actions[: len(actions) // 2 * 2 : 2]
        return actions


class MirroredPPO(PPO):
    """SB3's PPO; in pairs where the slots of its environment show the same frame by twos, for one step.

    A last slot without another learns as SB3's PPO does.

    The value function learns as ever, and nothing asks it. Pairs do not tell how far to explore: the
    deviation stays about what it was.
    """

    def _setup_model(self) -> None:
        super()._setup_model()
        if self._in_pairs:
            self.policy.action_dist = MirroredGaussian(get_action_dim(self.action_space))

    def collect_rollouts(self, *args: Any, **named: Any) -> bool:
        """As SB3's; what a pair tells is its advantage."""
        whole = super().collect_rollouts(*args, **named)
        if self._in_pairs:
            told = slopes_along(self.rollout_buffer.rewards)
            self.rollout_buffer.advantages[:, : told.shape[1]] = told
        return whole

    @property
    def _in_pairs(self) -> bool:
        return are_paired(self.env)


def slopes_along(rewards: np.ndarray) -> np.ndarray:
    """Half of what each side of a pair earns more than the other.

    Args:
        rewards: ``(steps, slots)``.

    Returns:
        ``(steps, slots)``, without a last slot that has no other.
    """
    paired = rewards[:, : rewards.shape[1] // 2 * 2].reshape(len(rewards), -1, 2)
    sides: np.ndarray = (paired - paired[..., ::-1]) / 2
    return sides.reshape(len(rewards), -1)


def are_paired(env: Any) -> bool:
    """Whether slots show the same frame by twos (`isp_env.envs.drawing.FrameDraw`), in continuous actions."""
    continuous = isinstance(env, IspVecEnv) and isinstance(env.action_space, gym.spaces.Box)
    return continuous and env.env.draw == "paired"
