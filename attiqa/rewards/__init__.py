"""Rewards: the contract, the guarded reward, and adapters for other people's loops."""

from attiqa.rewards.guarded import GuardedReward
from attiqa.rewards.protocol import ReferencedReward, Reward
from attiqa.rewards.registry import build_reward, reward_names

__all__ = ["GuardedReward", "ReferencedReward", "Reward", "build_reward", "reward_names"]
