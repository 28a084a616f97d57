"""What our off-policy learners share: many episodes at once, and a memory of what they learn from alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


class Remembering(OffPolicyAlgorithm):
    """SB3's off-policy algorithm over continuous actions, with a memory of rows instead of observations.

    Subclasses call `_setup_model` at the end of their ``__init__``, as SB3's own do, and set the memory in
    it: SB3 makes one, of whole observations, only where there is none.

    Args:
        policy, env, arguments: as SB3's algorithms take them.
    """

    def __init__(self, policy: Any, env: Any, **arguments: Any) -> None:
        super().__init__(
            policy,
            env,
            sde_support=False,
            supported_action_spaces=(spaces.Box,),
            support_multi_env=True,
            **arguments,
        )
        self._n_updates = 0

    @abstractmethod
    def _remembered(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> np.ndarray | None:
        """What is kept of a step, ``(slots, D)``, or None; the observation before it is `_last_obs`."""

    def _memory(self, size: int, features: int) -> ReplayBuffer:
        """For `size` rows of so many numbers."""
        return ReplayBuffer(
            size,
            spaces.Box(-np.inf, np.inf, (features,), np.float32),
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=True,  # the state after a step is not kept
            handle_timeout_termination=False,
        )

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        rows = self._remembered(dones, infos)
        if rows is not None:
            replay_buffer.add(rows, rows, buffer_action, reward, dones, infos)
        self._last_obs = new_obs
