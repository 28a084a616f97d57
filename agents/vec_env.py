"""The native vector environments as an SB3 ``VecEnv``: arrays pass through, no pixel is looped over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from attiqa.errors import InputError
from isp_env.envs.shells import IspVectorEnv

Observations = dict[str, np.ndarray]

# An MLP policy reads the encoder's features of the same image instead (12 KB less an observation)
LEFT_OUT = ("thumbnail",)


class IspVecEnv(VecEnv):
    """SB3's view of a batch of episodes; on the CPU its arrays share the environment's memory.

    Rewards are multiplied by `reward_scale`, because value heads and clipped gradients expect rewards of
    about one, and a quality gain may be a hundredth.

    Args:
        env: the native vector environment.
        reward_scale: what each reward is multiplied by.
        left_out: entries of the observation that the policy does not read.
    """

    def __init__(self, env: IspVectorEnv, reward_scale: float = 1.0, left_out: Sequence[str] = LEFT_OUT):
        whole = env.single_observation_space
        if not isinstance(whole, spaces.Dict):
            raise InputError(f"expected an environment with a Dict observation; got {whole}.")
        seen = spaces.Dict({key: space for key, space in whole.spaces.items() if key not in left_out})
        self.env = env
        self.reward_scale = reward_scale
        self._actions: np.ndarray | None = None
        super().__init__(env.num_envs, seen, env.single_action_space)

    def reset(self) -> Observations:
        """Start new episodes everywhere; the first reset after `seed` uses it."""
        observation, _ = self.env.reset_tensors(seed=self._seeds[0])
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        return self.seen(observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Observations, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One step of all episodes; those that ended have begun anew in the observation returned."""
        step = self.env.step_tensors(self._actions)
        rewards = step.reward.cpu().numpy() * np.float32(self.reward_scale)
        if not np.isfinite(rewards).all():
            raise InputError(
                "the reward of a render is NaN or infinite: mend the reward before training on it."
            )
        terminated, truncated = step.terminated.cpu().numpy(), step.truncated.cpu().numpy()
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if step.final_observation is not None:
            last = self.seen(step.final_observation)
            for slot in np.flatnonzero(dones):  # views, no pixels: SB3 wants a dict a slot
                infos[slot]["terminal_observation"] = {key: value[slot] for key, value in last.items()}
                infos[slot]["TimeLimit.truncated"] = bool(truncated[slot] and not terminated[slot])
        return self.seen(step.observation), rewards, dones, infos

    def seen(self, observation: Mapping[str, torch.Tensor]) -> Observations:
        """The entries that the policy reads, as arrays ``(B, ...)``."""
        return {key: observation[key].cpu().numpy() for key in self.observation_space.spaces}  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the wrapped environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """One shared value for each slot; the slots are rows of one environment."""
        return [getattr(self.env, attr_name)] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the whole batch."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the whole batch once; each slot gets its row of what it returns."""
        result = getattr(self.env, method_name)(*args, **kwargs)
        rows = range(self.num_envs) if indices is None else self._get_indices(indices)
        return [result[row] for row in rows]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No slot has a wrapper of its own."""
        return [False] * self._count(indices)

    def _count(self, indices: Any) -> int:
        chosen: Iterable[int] = self._get_indices(indices)
        return len(list(chosen))
