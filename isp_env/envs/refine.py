"""``isp_env/Refine-v0``: change the parameters a few times, looking at the result in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces

from attiqa.errors import InputError
from isp_env.envs.building import RewardLike, Source, build_core
from isp_env.envs.core import Core
from isp_env.envs.drawing import Draw
from isp_env.envs.frames import Tensors
from isp_env.envs.shells import IspEnv, IspVectorEnv
from isp_env.envs.task import ParameterTask, continuous_actions, replaced


class RefineTask(ParameterTask):
    """Each action moves the parameters; the reward is the change in potential, each state scored once.

    Args:
        core: the frames, the renderer and the reward.
        num_envs: slots.
        horizon: steps of an episode.
        step_size: how far an action of 1 moves a parameter, in action units.
        slopes: whether the way uphill is seen.
    """

    def __init__(
        self, core: Core, num_envs: int, horizon: int = 5, step_size: float = 1.0, slopes: bool = False
    ) -> None:
        super().__init__(core, num_envs, horizon)
        if not 0.0 < step_size <= 2.0:
            raise InputError(f"step_size lies in (0, 2], the width of an action being 2; got {step_size}.")
        self._step_size = step_size
        self.change = torch.zeros_like(self.setting)
        self.observation_space = spaces.Dict(
            {
                **self.observation_space.spaces,
                "change": spaces.Box(-2.0, 2.0, self.setting.shape[1:], np.float32),
            }
        )
        self.uphill: torch.Tensor | None = None
        if slopes:
            self.uphill = torch.zeros_like(self.setting)
            self.observation_space = spaces.Dict(
                {**self.observation_space.spaces, "uphill": self.action_space}
            )

    def advance(self, actions: Any) -> tuple[torch.Tensor, np.ndarray]:
        """Move by ``step_size * actions`` ``(B, P)``, render from the raw, score; ends at the horizon."""
        moves = continuous_actions(actions, tuple(self.setting.shape), self.core.device) * self._step_size
        setting = (self.setting + moves).clamp(-1.0, 1.0)
        self.change, self.setting = setting - self.setting, setting
        self.steps += 1
        before = self.now["potential"]
        self._look()
        return self.now["potential"] - before, self.steps >= self.horizon

    def observe(self) -> Tensors:
        """The current render's looks, the setting, its last change, progress; with slopes the way uphill."""
        seen = self._seen_now() | {
            "setting": self.setting.clone(),
            "progress": self._progress(),
            "change": self.change.clone(),
        }
        return seen if self.uphill is None else seen | {"uphill": self.uphill.clone()}

    def state(self) -> dict[str, Any]:
        """The episodes as JSON values, for `restore`."""
        return super().state() | {"change": self.change.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the episodes that `state` describes."""
        super().restore(state)
        self.change = torch.tensor(state["change"], device=self.core.device)
        self._look()

    def _look(self) -> None:
        values = self.core.space.to_physical(self.setting)
        goes_on = (self.steps > 0) & (self.steps < self.horizon)
        slopes = self.uphill is not None and bool(goes_on.any())
        self.now = self.core.look_at(self.frames, values, slopes=slopes)
        if self.uphill is not None:
            self.uphill = torch.zeros_like(self.setting)
        if slopes:
            slope = self.now.pop("slope") * self.core.space.units_of(self.setting)
            seen = torch.as_tensor(goes_on, device=self.core.device)[:, None]
            self.uphill = torch.where(seen, _uphill(slope, self.setting), self.setting.new_zeros(()))

    def _begin(self, slots: np.ndarray) -> None:
        super()._begin(slots)
        rows = torch.zeros((len(slots), self.change.shape[1]), device=self.core.device)
        self.change = replaced({"change": self.change}, slots, {"change": rows})["change"]
        if self.uphill is not None:
            self.uphill = replaced({"uphill": self.uphill}, slots, {"uphill": rows})["uphill"]


def _uphill(slope: torch.Tensor, setting: torch.Tensor) -> torch.Tensor:
    """The unit vectors ``(B, P)`` along slopes that stay inside [-1, 1]; zero where there is no way up."""
    stuck = ((setting >= 1.0) & (slope > 0.0)) | ((setting <= -1.0) & (slope < 0.0))
    return F.normalize(slope.masked_fill(stuck, 0.0), dim=1)


class RefineEnv(IspEnv):
    """Refine the ISP parameters of a raw over a few steps, looking at each result.

    ## Description

    As in `isp_env.envs.tune.TuneEnv`, but the agent changes the parameters `horizon` times and sees the
    current render before each change. Every state is rendered anew from the raw, so nothing accumulates.

    ## Action space

    `Box(-1, 1, (P,), float32)`: changes of the parameters, times `step_size`, in the action units of
    `Tune-v0` (its table gives the physical limits, which the sum never leaves). 0 changes nothing.
    Values outside are clipped; NaN and infinity are refused.

    ## Observation space

    `Dict`, of the current render.

    | Key        | Space                           | What                                                   |
    |------------|---------------------------------|--------------------------------------------------------|
    | thumbnail  | Box(0, 255, (3, 64, 64), uint8) | current render, long side averaged to 64, on grey      |
    | histogram  | Box(0, 1, (64,), float32)       | shares of pixels in 16 bins of luma, red, green, blue  |
    | clipping   | Box(0, 1, (6,), float32)        | shares of pixels at 0 in R, G, B, then at 255          |
    | features   | Box((D,), float32)              | the encoder's features; only with an encoder           |
    | setting    | Box(-1, 1, (P,), float32)       | the parameters as they stand, as actions               |
    | progress   | Box(0, 1, (1,), float32)        | steps taken / horizon                                  |
    | change     | Box(-2, 2, (P,), float32)       | what the last step changed, after clipping             |

    With `slopes` also `uphill`, Box(-1, 1, (P,), float32): the direction, a unit vector in action units, in
    which the potential of the current render rises most steeply without leaving the limits; zeros before the
    first step, after the last and where there is no way up.

    ## Rewards

    `potential(new render) - potential(previous render)`, where the potential is the value of `reward`.
    The rewards of an episode sum to the gain over the neutral render, whatever the path; each state is
    scored once. With a reward in [a, b] a step, and an episode too, lies in [a - b, b - a].

    ## Starting state

    A frame drawn evenly from the source, all parameters neutral. `reset(options={"frame": n})` chooses
    the frame; `seed` repeats the draws exactly.

    ## Episode end

    Terminated after `horizon` steps, which `progress` shows; never truncated.

    ## Info

    As in `Tune-v0`, of the current render.

    ## Arguments

    ```python
    env = gym.make("isp_env/Refine-v0", source="raws/", horizon=5, step_size=0.5)
    ```

    Those of `Tune-v0`, and:

    | Argument  | Default | What                                                    |
    |-----------|---------|---------------------------------------------------------|
    | horizon   | 5       | steps of an episode                                     |
    | step_size | 1.0     | how far an action of 1 moves a parameter, in (0, 2]     |
    | slopes    | False   | whether `uphill` is seen: a backward pass a step, by a  |
    |           |         | reward that torch can differentiate                     |

    ## Version history

    * v0: first version.
    """

    def __init__(
        self,
        source: Source = None,
        reward: RewardLike = None,
        parameters: Sequence[str] | None = None,
        *,
        horizon: int = 5,
        step_size: float = 1.0,
        slopes: bool = False,
        render_mode: str | None = None,
        **scenes: Any,
    ) -> None:
        core = build_core(source, reward, parameters, **scenes)
        super().__init__(RefineTask(core, 1, horizon, step_size, slopes), render_mode)


class RefineVectorEnv(IspVectorEnv):
    """`RefineEnv` as a native batch: same spaces, rewards and arguments, and `num_envs` and `draw`."""

    def __init__(
        self,
        num_envs: int = 1,
        source: Source = None,
        reward: RewardLike = None,
        parameters: Sequence[str] | None = None,
        *,
        horizon: int = 5,
        step_size: float = 1.0,
        slopes: bool = False,
        draw: Draw = "independent",
        render_mode: str | None = None,
        **scenes: Any,
    ) -> None:
        core = build_core(source, reward, parameters, **scenes)
        super().__init__(RefineTask(core, num_envs, horizon, step_size, slopes), draw, render_mode)
