"""How an action says which tool, how strongly, or stop: three spaces that SB3 accepts."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces

from attiqa.errors import InputError
from isp_env.envs.task import continuous_actions

Actions = Literal["multi_discrete", "discrete", "box"]
STOP = 0


class ActionCode:
    """How one action says which tool, how strongly, or stop.

    Args:
        kind: ``"multi_discrete"``: (choice, level); ``"discrete"``: 0 is stop, then each tool's levels in
            turn; ``"box"``: a preference for stop and for each tool, then the strength; the highest
            preference among what is open is taken.
        tools: K, the number of tools. Choices are 0 for stop, then 1 to K.
        levels: strengths of the discrete kinds, evenly from -1 to 1; an even number leaves out 0, which
            would do nothing.
    """

    def __init__(self, kind: Actions, tools: int, levels: int) -> None:
        if kind not in ("multi_discrete", "discrete", "box"):
            raise InputError(f"actions are 'multi_discrete', 'discrete' or 'box'; got {kind!r}.")
        if levels < 2:
            raise InputError(f"levels must be at least 2, for strengths -1 and 1; got {levels}.")
        self.kind, self.tools = kind, tools
        self.levels = np.linspace(-1.0, 1.0, levels, dtype=np.float32)
        self.space: spaces.Space = {
            "multi_discrete": spaces.MultiDiscrete([tools + 1, levels]),
            "discrete": spaces.Discrete(1 + tools * levels),
            "box": spaces.Box(-1.0, 1.0, (tools + 2,), np.float32),
        }[kind]

    def decode(self, actions: Any, open_choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Choices int64 ``(B,)`` and strengths float32 ``(B,)``; `open_choices` is bool ``(B, K + 1)``."""
        count = len(open_choices)
        if self.kind == "box":
            rows = continuous_actions(actions, (count, self.tools + 2), torch.device("cpu")).numpy()
            preferences = np.where(open_choices, rows[:, :-1], -np.inf)
            return preferences.argmax(axis=1), rows[:, -1]
        numbers = self._whole_numbers(actions, count)
        if self.kind == "multi_discrete":
            return numbers[:, 0], self.levels[numbers[:, 1]]
        tool, level = np.divmod(numbers[:, 0] - 1, len(self.levels))
        return tool + 1, self.levels[level]  # stop, 0, becomes tool -1 with a strength that nobody reads

    def masks(self, open_choices: np.ndarray) -> np.ndarray:
        """bool ``(B, choices)`` over all discrete choices, as sb3-contrib's MaskablePPO lays them out."""
        count = len(open_choices)
        if self.kind == "multi_discrete":
            return np.hstack([open_choices, np.ones((count, len(self.levels)), dtype=bool)])
        if self.kind == "discrete":
            tools = np.repeat(open_choices[:, 1:], len(self.levels), axis=1)
            return np.hstack([open_choices[:, :1], tools])
        raise InputError("this action space is continuous: it takes the best open choice, and has no mask.")

    def _whole_numbers(self, actions: Any, count: int) -> np.ndarray:
        numbers = torch.as_tensor(actions).cpu().numpy()
        limits = np.atleast_1d(self.space.nvec if self.kind == "multi_discrete" else self.space.n)  # type: ignore[attr-defined]
        expected = (count, 2) if self.kind == "multi_discrete" else (count,)
        if numbers.shape != expected or not np.issubdtype(numbers.dtype, np.integer):
            raise InputError(
                f"actions are integers of shape {expected}; got {numbers.dtype} of shape {numbers.shape}."
            )
        numbers = numbers.reshape(count, -1).astype(np.int64)
        if (numbers < 0).any() or (numbers >= limits).any():
            raise InputError(f"actions run from 0 to {(limits - 1).tolist()}; got {numbers.tolist()}.")
        return numbers
