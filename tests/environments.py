"""Environments of each task for tests."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

import isp_env  # noqa: F401  (registers the environments)
from isp_env.envs import IspEnv, IspVectorEnv
from tests.fakes import small_core

TASKS = ["Tune", "Refine", "Tools"]


def make(task: str, **options: Any) -> IspEnv:
    """One environment of a task; on small frames where no core is given."""
    options.setdefault("core", small_core())
    env = gym.make(f"isp_env/{task}-v0", **options).unwrapped
    assert isinstance(env, IspEnv)
    return env


def make_vec(task: str, num_envs: int, **options: Any) -> IspVectorEnv:
    """A batch of environments of a task; on small frames where no core is given."""
    options.setdefault("core", small_core())
    envs = gym.make_vec(f"isp_env/{task}-v0", num_envs=num_envs, **options)
    assert isinstance(envs, IspVectorEnv)
    return envs


def actions_for(envs: IspVectorEnv, steps: int) -> list[np.ndarray]:
    """So many random actions of a batch, the same each time."""
    envs.action_space.seed(3)
    return [envs.action_space.sample() for _ in range(steps)]
