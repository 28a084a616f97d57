"""``isp_env/Refine-v0``: change the parameters a few times, looking at the result in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from attiqa.errors import InputError
from isp_env.envs.building import RewardLike, Source, build_core
from isp_env.envs.core import SAMPLE, Core
from isp_env.envs.drawing import Draw
from isp_env.envs.frames import Tensors
from isp_env.envs.shells import IspEnv, IspVectorEnv
from isp_env.envs.task import LIMIT, ParameterTask, continuous_actions


class RefineTask(ParameterTask):
    """Each action moves the parameters; the reward is the change in potential, each state scored once.

    Args:
        core: the frames, the renderer and the reward.
        num_envs: slots.
        horizon: steps of an episode.
        step_size: how far an action of 1 moves a parameter, in action units.
        trail: whether the trail of the episode is seen, with the slopes of the potential, and its raw.
        slopes: whether ``slope`` is seen, as in ``Tune-v0``.
        looks: steps after which episodes end all the same; None for `horizon`.
    """

    def __init__(
        self,
        core: Core,
        num_envs: int,
        horizon: int = 5,
        step_size: float = 1.0,
        trail: bool = False,
        slopes: bool = False,
        looks: int | None = None,
    ) -> None:
        super().__init__(core, num_envs, horizon, slopes)
        if looks is not None and not 1 <= looks <= horizon:
            raise InputError(
                f"episodes of {horizon} steps may end after 1 to {horizon} of them; got {looks}."
            )
        self._last = looks or horizon
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
        self.trail: Tensors = {}
        if trail:
            parts = core.part_count
            own = {
                "trail_setting": spaces.Box(-1.0, 1.0, (horizon, len(core.space)), np.float32),
                "trail_gain": spaces.Box(-LIMIT, LIMIT, (horizon, parts), np.float32),
                "trail_slope": spaces.Box(-LIMIT, LIMIT, (horizon, parts, len(core.space)), np.float32),
                "trail_charge": spaces.Box(0.0, LIMIT, (horizon,), np.float32),
            }
            of_raw = {
                "raw": spaces.Box(-LIMIT, LIMIT, (3, SAMPLE, SAMPLE), np.float32),
                "raw_color": spaces.Box(-LIMIT, LIMIT, (4, 3), np.float32),
            }
            self.observation_space = spaces.Dict({**self.observation_space.spaces, **own, **of_raw})
            self.trail = {
                name: torch.zeros((num_envs, *space.shape), device=core.device) for name, space in own.items()
            }

    def advance(self, actions: Any) -> tuple[torch.Tensor, np.ndarray]:
        """Move by ``step_size * actions`` ``(B, P)``, render from the raw, score; the last step ends it."""
        moves = continuous_actions(actions, tuple(self.setting.shape), self.core.device) * self._step_size
        setting = self.core.space.within(self.setting + moves)
        self.change, self.setting = setting - self.setting, setting
        self.steps += 1
        before = self.now["potential"]
        self._look()
        return self.now["potential"] - before, self.steps >= self._last

    def observe(self) -> Tensors:
        """The current render's looks, the setting, its last change, progress; where they are seen, slopes at
        the neutral render, trail and raw."""
        own = {"change": self.change} | self.trail
        seen = self._seen_now() | super().observe() | {name: rows.clone() for name, rows in own.items()}
        if self.trail:
            raw = self.core.samples_of(self.frames)
            seen["raw"] = raw.image
            seen["raw_color"] = torch.cat([raw.white_balance[:, None], raw.color_matrix], dim=1)
        return seen

    def state(self) -> dict[str, Any]:
        """The episodes as JSON values, for `restore`."""
        rows = {"change": self.change} | self.trail
        return super().state() | {name: values.tolist() for name, values in rows.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the episodes that `state` describes."""
        super().restore(state)
        self.change = torch.tensor(state["change"], device=self.core.device)
        self.trail = {name: torch.tensor(state[name], device=self.core.device) for name in self.trail}
        self.now = self.core.look_at(self.frames, self.core.space.to_physical(self.setting))

    def _look(self) -> None:
        """Render and score; with a trail, all but the last look of an episode go on its trail."""
        values = self.core.space.to_physical(self.setting)
        goes_on = self.steps < self._last
        slopes = bool(self.trail) and bool(goes_on.any())
        self.now = self.core.look_at(self.frames, values, slopes=slopes)
        if slopes:
            new = (
                self.setting,
                self.now.pop("parts")
                - self.core.neutral_of(self.frames, ("potential",))["potential"][:, None],
                self.now.pop("slope") * self.core.space.units_of(self.setting)[:, None],
                self.now.pop("charge"),
            )
            slots = torch.as_tensor(np.flatnonzero(goes_on), device=self.core.device)
            row = torch.as_tensor(self.steps[goes_on], device=self.core.device)
            for rows, of_look in zip(self.trail.values(), new, strict=True):
                rows[slots, row] = of_look[slots]

    def _begin(self, slots: np.ndarray) -> None:
        super()._begin(slots)
        index = torch.as_tensor(slots, device=self.core.device)
        self.change = self.change.index_fill(0, index, 0.0)
        self.trail = {name: rows.index_fill(0, index, 0.0) for name, rows in self.trail.items()}
        if self.trail:  # it begins at the neutral render, which is no gain
            self.trail["trail_slope"][index, 0] = self.core.neutral_slopes_of(self.frames[slots])


class RefineEnv(IspEnv):
    """Refine the ISP parameters of a raw over a few steps, looking at each result.

    ## Description

    As in `isp_env.envs.tune.TuneEnv`, but the agent changes the parameters `horizon` times and sees the
    current render before each change. Every state is rendered anew from the raw, so nothing accumulates.

    ## Action space

    `Box(-1, 1, (P,), float32)`: changes of the parameters, times `step_size`, in the action units of
    `Tune-v0` (its table gives the physical limits, which the sum never leaves; where neutral is one of them,
    it stays on the side that does something). 0 changes nothing. Values outside are clipped; NaN and infinity
    are refused.

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

    ## Rewards

    `potential(new render) - potential(previous render)`, where the potential is the value of `reward`.
    The rewards of an episode sum to the gain over the neutral render, whatever the path; each state is
    scored once. With a reward in [a, b] a step, and an episode too, lies in [a - b, b - a].

    ## Starting state

    A frame drawn evenly from the source, all parameters neutral. `reset(options={"frame": n})` chooses
    the frame; `seed` repeats the draws exactly.

    ## Episode end

    Terminated after `horizon` steps, which `progress` shows; never truncated.

    ## Slopes

    With `slopes` the observation also has `slope`, as in `Tune-v0`: that of the neutral render, all along.

    ## The trail

    With `trail` the observation also has the trail of the episode: a row for the neutral render and one for
    each step so far, in their order, and zeros below. The last step of an episode leaves none. And it has the
    raw itself, small, to render what is considered: what a reward charges for is known of a render without a
    score.

    | Key           | Space                        | What                                                    |
    |---------------|------------------------------|---------------------------------------------------------|
    | trail_setting | Box(-1, 1, (T, P), float32)  | the parameters after each step, as actions              |
    | trail_gain    | Box((T, K), float32)         | how far each part of the potential lies there above the |
    |               |                              | potential of the neutral render                         |
    | trail_slope   | Box((T, K, P), float32)      | how each part rises there with each parameter, a unit   |
    |               |                              | of action (for a parameter at 0, a unit above it)       |
    | trail_charge  | Box(0, inf, (T,), float32)   | what is taken off there besides (`Core.charge`)         |
    | raw           | Box((3, 64, 64), float32)    | camera linear, as in `isp_env.frame.RawFrame`: pixels   |
    |               |                              | of the preview, evenly apart whatever its shape         |
    | raw_color     | Box((4, 3), float32)         | white-balance gains, and below them the colour matrix   |

    T is the horizon, and the K parts are those of `attiqa.rewards.protocol.PartedReward`: the views of a
    guarded reward, of which the potential is the mean minus `core.deviations` of their standard deviations
    and minus the charge. Of other rewards the potential is the one part.

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
    | looks     | None    | steps after which it ends all the same, progress being  |
    |           |         | counted by the horizon; None for the horizon            |
    | step_size | 1.0     | how far an action of 1 moves a parameter, in (0, 2]     |
    | trail     | False   | whether trail and raw are seen: a backward pass a step  |
    |           |         | for each part of a reward that torch can differentiate  |

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
        trail: bool = False,
        slopes: bool = False,
        looks: int | None = None,
        render_mode: str | None = None,
        **scenes: Any,
    ) -> None:
        core = build_core(source, reward, parameters, **scenes)
        super().__init__(RefineTask(core, 1, horizon, step_size, trail, slopes, looks), render_mode)


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
        trail: bool = False,
        slopes: bool = False,
        looks: int | None = None,
        draw: Draw = "independent",
        render_mode: str | None = None,
        **scenes: Any,
    ) -> None:
        core = build_core(source, reward, parameters, **scenes)
        task = RefineTask(core, num_envs, horizon, step_size, trail, slopes, looks)
        super().__init__(task, draw, render_mode)
