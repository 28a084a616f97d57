"""Environments by task name, and policies acting in them."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym
import numpy as np

import isp_env  # noqa: F401  registers the environments
from agents.policy import Observations
from agents.search import Floats
from agents.vec_env import IspVecEnv
from isp_env.envs.core import Core

TASKS = {"tune": "isp_env/Tune-v0", "refine": "isp_env/Refine-v0", "tools": "isp_env/Tools-v0"}
STEPS_AN_EPISODE = {"tune": 1, "refine": 5, "tools": 5}


def make_envs(task: str, core: Core, num_envs: int) -> IspVecEnv:
    """A batch of episodes of `task` over `core`, as SB3 sees it."""
    envs = gym.make_vec(TASKS[task], num_envs=num_envs, vectorization_mode="vector_entry_point", core=core)
    return IspVecEnv(envs)  # type: ignore[arg-type]


def first_look(env: IspVecEnv, frames: np.ndarray) -> Observations:
    """Start an episode on each of `frames` ``(B,)``, one a slot; returns what is seen, ``(B, ...)``."""
    observation, _ = env.env.reset_tensors(options={"frames": frames})
    return env.seen(observation)


def play(
    env: IspVecEnv, frames: np.ndarray, decide: Callable[[Observations], np.ndarray]
) -> tuple[Floats, int]:
    """Let a policy act once on each of `frames` ``(B,)``, one a slot, until its episode ends.

    Returns:
        The settings ``(B, P)`` in [-1, 1] at which the episodes ended, and the renders an episode took.
    """
    seen = first_look(env, frames)
    settings = np.zeros((len(frames), seen["setting"].shape[1]))
    running = np.ones(len(frames), dtype=bool)
    renders = 0
    while running.any():
        step = env.env.step_tensors(decide(seen))
        renders += 1
        ended = running & step.terminated.cpu().numpy()
        if step.final_observation is not None:
            settings[ended] = step.final_observation["setting"].cpu().numpy()[ended]
        running &= ~ended
        seen = env.seen(step.observation)
    return settings, renders


def exploration_spread(env: IspVecEnv, deviation: float, seed: int) -> float:
    """The standard deviation of the reward of one step under first, unlearnt exploration.

    Training divides rewards by it, so that one recipe fits rewards of any unit.
    """
    generator = np.random.default_rng(seed)
    env.seed(seed)
    env.reset()
    if isinstance(env.action_space, gym.spaces.Box):
        noise = generator.normal(0.0, deviation, (env.num_envs, *env.action_space.shape))
        actions = noise.clip(-1.0, 1.0).astype(np.float32)
    else:
        env.action_space.seed(seed)
        actions = np.stack([env.action_space.sample() for _ in range(env.num_envs)])
    rewards = env.step(actions)[1] / env.reward_scale
    return float(rewards.std())
