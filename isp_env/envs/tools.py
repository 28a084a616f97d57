"""``isp_env/Tools-v0``: a sequence of tools, each with a strength, until the agent stops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import torch
from gymnasium import spaces

from attiqa.errors import InputError
from isp_env.envs.core import Core
from isp_env.envs.frames import Group, Tensors
from isp_env.envs.task import UNIT, Task, continuous_actions, replaced
from isp_env.frame import RawBatch

Actions = Literal["multi_discrete", "discrete", "box"]
STOP = 0


class Tools(Protocol):
    """What an agent may reach for; `isp_env.toolset.ToolSet` is the one we ship."""

    names: tuple[str, ...]

    def start(self, batch: RawBatch) -> torch.Tensor:
        """The working image before any tool, float32 ``(b, 3, H, W)``; shown, it is the neutral render."""

    def apply(self, working: torch.Tensor, tools: np.ndarray, strengths: torch.Tensor) -> torch.Tensor:
        """Apply tool ``tools[i]`` (int64 ``(b,)``) with ``strengths[i]`` in [-1, 1] to image ``i``."""

    def show(self, working: torch.Tensor) -> torch.Tensor:
        """Working images to display sRGB in [0, 1]."""


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


class ToolsTask(Task):
    """One tool a step, in the agent's order, each at most once; the reward is the change in potential.

    A batch whose slots take different tools runs once a tool and shape. Only slots whose image changed are
    scored.

    Args:
        core: the frames and the reward; its parameters play no part.
        num_envs: slots.
        tools: what the agent may reach for.
        horizon: the most steps of an episode.
        actions: see `ActionCode`.
        levels: see `ActionCode`.
        costs: what using a tool costs, in units of the reward: one number for all, or by name.
    """

    def __init__(
        self,
        core: Core,
        num_envs: int,
        tools: Tools,
        horizon: int = 5,
        actions: Actions = "multi_discrete",
        levels: int = 8,
        costs: float | Mapping[str, float] = 0.0,
    ) -> None:
        super().__init__(core, num_envs, horizon)
        self.tools, self.code = tools, ActionCode(actions, len(tools.names), levels)
        self.costs = _costs(costs, tools.names)
        # the working images share one buffer, each in its top left corner, whatever their shapes
        sizes = [bucket.image.shape[-2:] for bucket in core.table.buckets]
        height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
        self._working = torch.zeros((num_envs, 3, height, width), device=core.device)
        self.order = np.zeros(
            (num_envs, len(tools.names)), dtype=np.int64
        )  # the step of use, from 1; 0 unused
        self.strengths = np.zeros((num_envs, len(tools.names)), dtype=np.float32)
        self.action_space = self.code.space
        count = (len(tools.names),)
        self.observation_space = spaces.Dict(
            core.observation_spaces()
            | {
                "strength": spaces.Box(-1.0, 1.0, count, np.float32),
                "order": spaces.Box(0.0, 1.0, count, np.float32),
                "available": spaces.MultiBinary(1 + len(tools.names)),
                "progress": UNIT,
            }
        )

    def advance(self, actions: Any) -> tuple[torch.Tensor, np.ndarray]:
        """Apply each slot's tool, or stop; ends at stop, at the horizon, or when every tool is used."""
        choices, strengths = self.code.decode(actions, self._open())
        self.steps += 1
        acting = np.flatnonzero((choices != STOP) & self._open()[np.arange(self.num_envs), choices])
        before, cost = self.now["potential"], np.zeros(self.num_envs, dtype=np.float32)
        if acting.size:
            used = choices[acting] - 1
            cost[acting] = self.costs[used]
            self.order[acting, used], self.strengths[acting, used] = self.steps[acting], strengths[acting]
            self._apply(acting, used, strengths[acting])
            self.now = replaced(self.now, acting, self._look_at(acting))
        reward = self.now["potential"] - before - torch.as_tensor(cost, device=self.core.device)
        over = (choices == STOP) | (self.steps >= self.horizon) | (self.order > 0).all(axis=1)
        return reward, over

    def observe(self) -> Tensors:
        """The current render's looks, what was used when and how strongly, what is open, progress."""
        device = self.core.device
        return self._seen_now() | {
            "strength": torch.tensor(self.strengths, device=device),
            "order": torch.tensor(self.order / self.horizon, device=device, dtype=torch.float32),
            "available": torch.tensor(self._open(), device=device, dtype=torch.int8),
            "progress": self._progress(),
        }

    def info(self) -> Tensors:
        """The shared entries, and ``order`` and ``strength`` ``(B, K)``: the sequence of tools."""
        return super().info() | {
            "order": torch.tensor(self.order),
            "strength": torch.tensor(self.strengths),
        }

    def images(self) -> list[torch.Tensor]:
        """The current render of each slot."""
        return self.core.images_of(self.frames, self._shown)

    def action_masks(self) -> np.ndarray:
        """bool ``(B, choices)``, which choices are open, laid out as sb3-contrib's MaskablePPO expects."""
        return self.code.masks(self._open())

    def state(self) -> dict[str, Any]:
        """The episodes as JSON values, for `restore`."""
        return super().state() | {"order": self.order.tolist(), "strengths": self.strengths.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the episodes that `state` describes: the tools are applied again, in their order."""
        super().restore(state)
        self.order = np.array(state["order"], dtype=np.int64)
        self.strengths = np.array(state["strengths"], dtype=np.float32)
        for step in range(1, self.horizon + 1):
            slots, tools = np.nonzero(self.order == step)
            if slots.size:
                self._apply(slots, tools, self.strengths[slots, tools])
        self.now = self._look_at(np.arange(self.num_envs))

    def _begin(self, slots: np.ndarray) -> None:
        self.order[slots], self.strengths[slots] = 0, 0.0
        self._put(slots, lambda group: self.tools.start(group.raw))

    def _open(self) -> np.ndarray:
        return np.hstack([np.ones((self.num_envs, 1), dtype=bool), self.order == 0])

    def _apply(self, slots: np.ndarray, tools: np.ndarray, strengths: np.ndarray) -> None:
        wanted = torch.as_tensor(strengths, device=self.core.device)

        def run(group: Group) -> torch.Tensor:
            chosen = tools[group.members.cpu().numpy()]
            return self.tools.apply(self._taken(slots, group), chosen, wanted[group.members])

        self._put(slots, run)

    @torch.no_grad()
    def _look_at(self, slots: np.ndarray) -> Tensors:
        return self.core.table.batched(
            self.frames[slots],
            lambda group: self.core.look(self.tools.show(self._taken(slots, group)), group),
        )

    def _shown(self, group: Group) -> torch.Tensor:
        return self.tools.show(self._taken(np.arange(self.num_envs), group))

    def _taken(self, slots: np.ndarray, group: Group) -> torch.Tensor:
        height, width = group.size
        return self._working[self._places(slots, group), :, :height, :width]

    @torch.no_grad()
    def _put(self, slots: np.ndarray, run: Any) -> None:
        for group in self.core.table.groups(self.frames[slots]):
            height, width = group.size
            self._working[self._places(slots, group), :, :height, :width] = run(group)

    def _places(self, slots: np.ndarray, group: Group) -> torch.Tensor:
        return torch.as_tensor(slots, device=self.core.device)[group.members]


def _costs(costs: float | Mapping[str, float], names: tuple[str, ...]) -> np.ndarray:
    if not isinstance(costs, Mapping):
        return np.full(len(names), costs, dtype=np.float32)
    unknown = [name for name in costs if name not in names]
    if unknown:
        raise InputError(f"there is no tool {', '.join(unknown)} to cost; choose from {', '.join(names)}.")
    return np.array([costs.get(name, 0.0) for name in names], dtype=np.float32)
