"""Gymnasium's two faces of a task: one environment (`IspEnv`) and a native batch of them (`IspVectorEnv`)."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from attiqa.errors import InputError
from isp_env.envs.drawing import Draw, FrameDraw
from isp_env.envs.frames import Tensors
from isp_env.envs.task import Task
from isp_env.envs.viewer import Viewer

RENDER_MODES = ["rgb_array", "human"]


class TensorStep(NamedTuple):
    """One step of a batch, everything still on the device.

    Attributes:
        observation: each entry ``(B, ...)``; episodes that ended show their successor's start.
        reward: float32 ``(B,)``.
        terminated, truncated: bool ``(B,)``; `truncated` is always false, because the horizon is observed.
        info: each entry ``(B, ...)``, of the state that `observation` shows.
        final_observation, final_info: of the states that the step led to, of all episodes, before any began
            anew; None where none ended.
    """

    observation: Tensors
    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    info: Tensors
    final_observation: Tensors | None
    final_info: Tensors | None


class IspEnv(gym.Env[Any, Any]):
    """One episode at a time: the batch of one.

    Args:
        task: a task with ``num_envs=1``.
        render_mode: None, ``"rgb_array"`` (`render` returns the current render, uint8 ``(H, W, 3)``) or
            ``"human"`` (a window with the neutral and the current render, redrawn after each step).
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 4}  # noqa: RUF012 - Gymnasium declares it so

    def __init__(self, task: Task, render_mode: str | None = None) -> None:
        self.task, self.render_mode = task, _checked_mode(render_mode)
        self.action_space, self.observation_space = task.action_space, task.observation_space
        self._draw = FrameDraw(task.core.table.bucket_of, 1, "independent")
        self._running = False
        self._viewer = Viewer() if render_mode == "human" else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; ``options={"frame": n}`` chooses the frame, else it is drawn."""
        unseeded = self._np_random is None
        super().reset(seed=seed)
        if seed is not None or unseeded:
            self._draw.restart(int(self.np_random_seed or 0))
        slot = np.zeros(1, dtype=np.int64)
        frame = (options or {}).get("frame")
        self.task.begin(slot, self._draw.next(slot) if frame is None else np.array([frame]))
        self._running = True
        self._show()
        return _single(self.task.observe()), self._info()

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Take one step; see the class for actions, rewards and the end of an episode."""
        if not self._running:
            raise gym.error.ResetNeeded("the episode is over, or never began: call reset() before step().")
        reward, terminated = self.task.advance(_batch_of_one(action))
        self._running = not bool(terminated[0])
        self._show()
        return _single(self.task.observe()), _finite(reward).item(), bool(terminated[0]), False, self._info()

    def render(self) -> np.ndarray | None:
        """The current render, uint8 ``(H, W, 3)`` display sRGB, under ``"rgb_array"``; otherwise None."""
        return _pixels(self.task.images()[0]) if self.render_mode == "rgb_array" else None

    def action_masks(self) -> np.ndarray:
        """bool ``(choices,)``, which choices are open now, laid out as sb3-contrib's MaskablePPO expects."""
        return self.task.action_masks()[0]

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._viewer is not None:
            self._viewer.close()

    def _info(self) -> dict[str, Any]:
        rows = _single(self.task.info())
        info = {name: row.item() if row.ndim == 0 else row for name, row in rows.items()}
        return info | {"name": self.task.core.names[int(self.task.frames[0])]}

    def _show(self) -> None:
        if self._viewer is not None:
            core, frame = self.task.core, self.task.frames
            neutral = core.images_of(frame, core.neutral_images)[0]
            self._viewer.show(_pixels(neutral), _pixels(self.task.images()[0]), core.names[int(frame[0])])


class IspVectorEnv(VectorEnv[Any, Any, np.ndarray]):
    """Many episodes that move together on one device.

    `step` and `reset` speak NumPy, as Gymnasium does; `step_tensors` and `reset_tensors` are the same
    without leaving the device. An episode that ends begins anew in the same step.

    Args:
        task: a task with the wanted number of slots.
        draw: see `isp_env.envs.drawing.FrameDraw`; an attribute too.
        render_mode: None or ``"rgb_array"`` (`render` returns one uint8 ``(H, W, 3)`` a slot).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium declares it so
        "render_modes": ["rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, task: Task, draw: Draw = "independent", render_mode: str | None = None) -> None:
        if _checked_mode(render_mode) == "human":
            raise InputError("a batch has no window: use render_mode='rgb_array', or gym.make for one env.")
        self.task, self.render_mode, self.num_envs = task, render_mode, task.num_envs
        self.single_action_space = task.action_space
        self.single_observation_space = task.observation_space
        self.action_space = batch_space(task.action_space, self.num_envs)
        self.observation_space = batch_space(task.observation_space, self.num_envs)
        self.draw = draw
        self._draw = FrameDraw(task.core.table.bucket_of, self.num_envs, draw)
        self._begun = False

    def reset_tensors(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensors, Tensors]:
        """Start episodes; returns observation and info on the device.

        Args:
            seed: slot ``i`` will see the frames that a single environment seeded ``seed + i`` sees
                (with ``draw="independent"``).
            options: ``frames``, one frame number a slot, else they are drawn; ``reset_mask``, bool
                ``(B,)``, restarts those slots alone.
        """
        unseeded = self._np_random is None
        super().reset(seed=seed)
        if seed is not None or unseeded:
            self._draw.restart(int(self.np_random_seed or 0))
        options = options or {}
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise InputError(f"reset_mask is a bool array of shape ({self.num_envs},) with a slot to reset.")
        slots, frames = np.flatnonzero(mask), options.get("frames")
        if frames is not None and len(frames) != self.num_envs:
            raise InputError(f"frames has one number a slot ({self.num_envs}); got {len(frames)}.")
        self.task.begin(slots, self._draw.next(slots) if frames is None else np.asarray(frames)[slots])
        self._begun = True
        return self.task.observe(), self.task.info()

    def step_tensors(self, actions: Any) -> TensorStep:
        """Take one step in every slot and begin anew where an episode ended.

        Args:
            actions: ``(B, ...)``, tensor or array; see the class.
        """
        if not self._begun:
            raise gym.error.ResetNeeded("no episode has begun: call reset() before step().")
        reward, done = self.task.advance(actions)
        final_observation = final_info = None
        if done.any():
            final_observation, final_info = self.task.observe(), self.task.info()
            slots = np.flatnonzero(done)
            self.task.begin(slots, self._draw.next(slots))
        terminated = torch.as_tensor(done, device=reward.device)
        return TensorStep(
            observation=self.task.observe(),
            reward=reward,
            terminated=terminated,
            truncated=torch.zeros_like(terminated),
            info=self.task.info(),
            final_observation=final_observation,
            final_info=final_info,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """`reset_tensors` in NumPy."""
        observation, info = self.reset_tensors(seed=seed, options=options)
        return _arrays(observation), _infos(info, np.ones(self.num_envs, dtype=bool))

    def step(
        self, actions: Any
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """`step_tensors` in NumPy, with Gymnasium's ``final_obs`` and ``final_info`` where episodes ended."""
        result = self.step_tensors(actions)
        done = result.terminated.cpu().numpy()
        infos = _infos(result.info, np.ones(self.num_envs, dtype=bool))
        if result.final_observation is not None and result.final_info is not None:
            last = _arrays(result.final_observation)
            final = np.full(self.num_envs, None, dtype=object)
            for slot in np.flatnonzero(done):
                final[slot] = {name: rows[slot] for name, rows in last.items()}
            infos |= {"final_obs": final, "_final_obs": done.copy()}
            infos |= {"final_info": _infos(result.final_info, done), "_final_info": done.copy()}
        truncated = result.truncated.cpu().numpy()
        return _arrays(result.observation), _finite(result.reward).numpy(), done, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current render of each slot, uint8 ``(H, W, 3)`` display sRGB, under ``"rgb_array"``."""
        return tuple(map(_pixels, self.task.images())) if self.render_mode == "rgb_array" else None

    def action_masks(self) -> np.ndarray:
        """bool ``(B, choices)``, which choices are open, laid out as sb3-contrib's MaskablePPO expects."""
        return self.task.action_masks()

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as JSON values, for `restore`."""
        return {"draw": self._draw.state(), "task": self.task.state()}

    def restore(self, state: dict[str, Any]) -> Tensors:
        """Go on where `state` was taken; returns the observation, on the device."""
        self._np_random_seed = int(state["draw"]["seed"])
        super().reset(seed=self._np_random_seed)
        self._draw.restore(state["draw"])
        self.task.restore(state["task"])
        self._begun = True
        return self.task.observe()


def _checked_mode(render_mode: str | None) -> str | None:
    if render_mode not in (None, *RENDER_MODES):
        raise InputError(f"render_mode is None, 'rgb_array' or 'human'; got {render_mode!r}.")
    return render_mode


def _batch_of_one(action: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(action))[None]


def _arrays(rows: Tensors) -> dict[str, np.ndarray]:
    return {name: values.cpu().numpy() for name, values in rows.items()}


def _single(rows: Tensors) -> dict[str, np.ndarray]:
    return {name: values[0].cpu().numpy() for name, values in rows.items()}


def _infos(rows: Tensors, present: np.ndarray) -> dict[str, Any]:
    infos: dict[str, Any] = _arrays(rows)
    return infos | {f"_{name}": present.copy() for name in rows}


def _finite(reward: torch.Tensor) -> torch.Tensor:
    reward = reward.cpu()
    if not bool(torch.isfinite(reward).all()):
        raise InputError("the reward of a render is NaN or infinite: mend the reward before training on it.")
    return reward


def _pixels(image: torch.Tensor) -> np.ndarray:
    scaled = (image.permute(1, 2, 0) * 255.0).round().clamp(0, 255)
    return scaled.to(torch.uint8).cpu().numpy()
