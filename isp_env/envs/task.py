"""Episodes that move together: what the three tasks share, without Gymnasium's two faces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from attiqa.errors import InputError
from isp_env.envs.core import Core
from isp_env.envs.frames import Tensors

UNIT = spaces.Box(0.0, 1.0, (1,), np.float32)
LIMIT = float(np.finfo(np.float32).max)  # of what has none
SCORED = ("potential", "clipped_fraction")
SLOPE = "slope"  # the entry of an observation that shows slopes at the neutral render
SEEN = ("thumbnail", "histogram", "clipping", "features")


class Task(ABC):
    """The state of B episodes over one core; each subclass is one way of acting.

    Frame numbers and step counts live on the CPU, because they decide control flow; whatever is
    computed from pixels stays on the core's device.

    Args:
        core: the frames, the renderer and the reward.
        num_envs: B.
        horizon: the most steps of an episode.

    Attributes:
        frames: int64 ``(B,)``, the frame of each episode.
        steps: int64 ``(B,)``, steps taken in each episode.
        now: what `Core.look` gave of each episode's current render, each ``(B, ...)``.
    """

    action_space: spaces.Space
    observation_space: spaces.Dict
    keeps: tuple[str, ...] | None = None  # the entries of `now`; None for all

    def __init__(self, core: Core, num_envs: int, horizon: int) -> None:
        if num_envs < 1 or horizon < 1:
            raise InputError(f"num_envs and horizon must be at least 1; got {num_envs} and {horizon}.")
        self.core, self.num_envs, self.horizon = core, num_envs, horizon
        self.frames = np.zeros(num_envs, dtype=np.int64)
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self.now = core.neutral_of(self.frames, self.keeps)

    def begin(self, slots: np.ndarray, frames: np.ndarray) -> None:
        """Start new episodes in `slots` (int64 ``(b,)``) on `frames` (int64 ``(b,)``)."""
        frames = self.core.table.check(frames)
        self.frames[slots], self.steps[slots] = frames, 0
        self.now = replaced(self.now, slots, self.core.neutral_of(frames, self.keeps))
        self._begin(slots)

    @abstractmethod
    def _begin(self, slots: np.ndarray) -> None:
        """Put the rest of the state of `slots` at its start."""

    @abstractmethod
    def advance(self, actions: Any) -> tuple[torch.Tensor, np.ndarray]:
        """Take one step in every slot; returns rewards float32 ``(B,)`` and terminated bool ``(B,)``."""

    @abstractmethod
    def observe(self) -> Tensors:
        """What the agents see, as new tensors on the device, each ``(B, ...)``."""

    def info(self) -> Tensors:
        """``frame``, ``potential``, ``neutral_potential``, ``clipped_fraction`` (each ``(B,)``)."""
        return {
            "frame": torch.as_tensor(self.frames.copy()),
            "neutral_potential": self.core.neutral_of(self.frames, ("potential",))["potential"],
        } | {name: self.now[name].clone() for name in SCORED}

    @abstractmethod
    def images(self) -> list[torch.Tensor]:
        """The current render of each slot: ``(3, H, W)``, display sRGB in [0, 1]."""

    def action_masks(self) -> np.ndarray:
        """bool ``(B, choices)``, which choices are open, laid out as sb3-contrib's MaskablePPO expects."""
        raise InputError("this action space is continuous: every action is open, and there is no mask.")

    def state(self) -> dict[str, Any]:
        """The episodes as JSON values, for `restore`."""
        return {"frames": self.frames.tolist(), "steps": self.steps.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the episodes that `state` describes."""
        self.begin(np.arange(self.num_envs), np.array(state["frames"]))
        self.steps[:] = state["steps"]

    def _seen_now(self) -> Tensors:
        return {name: self.now[name].clone() for name in SEEN if name in self.now}

    def _progress(self) -> torch.Tensor:
        share = self.steps[:, None] / self.horizon
        return torch.as_tensor(share, device=self.core.device, dtype=torch.float32)


class ParameterTask(Task):
    """A task whose state is one setting of all parameters an episode.

    Args:
        core: the frames, the renderer and the reward.
        num_envs: B.
        horizon: the most steps of an episode.
        slopes: whether ``slope`` is seen: how the reward rises at the neutral render with each parameter.

    Attributes:
        setting: float32 ``(B, P)`` in [-1, 1], on the core's device; 0 is neutral.
    """

    def __init__(self, core: Core, num_envs: int, horizon: int, slopes: bool = False) -> None:
        super().__init__(core, num_envs, horizon)
        self._slopes = slopes
        self.setting = torch.zeros((num_envs, len(core.space)), device=core.device)
        self.action_space = spaces.Box(-1.0, 1.0, (len(core.space),), np.float32)
        own = {"setting": self.action_space, "progress": UNIT}
        if slopes:
            own[SLOPE] = spaces.Box(-LIMIT, LIMIT, (len(core.space),), np.float32)
        self.observation_space = spaces.Dict(core.observation_spaces() | own)

    def info(self) -> Tensors:
        """The shared entries, and ``values`` ``(B, P)``: the parameters in physical units."""
        return super().info() | {"values": self.core.space.to_physical(self.setting)}

    def observe(self) -> Tensors:
        """The setting, progress and, where they are seen, slopes at the neutral render."""
        slope = {SLOPE: self.core.neutral_slope_of(self.frames)} if self._slopes else {}
        return {"setting": self.setting.clone(), "progress": self._progress()} | slope

    def images(self) -> list[torch.Tensor]:
        """The current render of each slot, rendered anew from the raw."""
        return self.core.render_of(self.frames, self.core.space.to_physical(self.setting))

    def state(self) -> dict[str, Any]:
        """The episodes as JSON values, for `restore`."""
        return super().state() | {"setting": self.setting.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the episodes that `state` describes."""
        super().restore(state)
        self.setting = torch.tensor(state["setting"], device=self.core.device)

    def _begin(self, slots: np.ndarray) -> None:
        rows = torch.zeros((len(slots), self.setting.shape[1]), device=self.core.device)
        self.setting = replaced({"setting": self.setting}, slots, {"setting": rows})["setting"]


def replaced(rows: Tensors, slots: np.ndarray, new: Tensors) -> Tensors:
    """`rows` with the rows of `slots` taken from `new`; no tensor is changed in place."""
    names = rows.keys() & new.keys()
    some = next(iter(rows.values()))
    if len(slots) == len(some):
        order = torch.as_tensor(np.argsort(slots), device=some.device)
        return {name: new[name][order] for name in names}
    index = torch.as_tensor(slots, device=some.device)
    return {name: rows[name].index_copy(0, index, new[name]) for name in names}


def continuous_actions(actions: Any, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Actions as float32 of `shape` on `device`, clipped to [-1, 1].

    Raises:
        InputError: another shape, or a value that is not finite: clipping would hide a broken policy.
    """
    actions = torch.as_tensor(actions, dtype=torch.float32, device=device).detach()
    if tuple(actions.shape) != tuple(shape):
        raise InputError(f"actions have shape {tuple(shape)}; got {tuple(actions.shape)}.")
    if not bool(torch.isfinite(actions).all()):
        raise InputError("actions must be finite numbers in [-1, 1]; got NaN or infinity: check the policy.")
    return actions.clamp(-1.0, 1.0)
