"""``isp_env/Tools-v0``: a sequence of tools, each with a strength, until the agent stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces

from attiqa.errors import InputError
from isp_env.envs.action_code import STOP, ActionCode, Actions
from isp_env.envs.building import RewardLike, Source, build_core
from isp_env.envs.core import Core, Renderer
from isp_env.envs.drawing import Draw
from isp_env.envs.frames import Group, Tensors
from isp_env.envs.shells import IspEnv, IspVectorEnv
from isp_env.envs.task import UNIT, Task, replaced
from isp_env.frame import RawBatch
from isp_env.parameters import ParameterSpace
from isp_env.toolset import ToolSet


class Tools(Protocol):
    """What an agent may reach for."""

    names: tuple[str, ...]

    def render(self, batch: RawBatch, order: np.ndarray, strengths: torch.Tensor) -> torch.Tensor:
        """Render from the raw with each image's own tools.

        Args:
            batch: frames, ``(b, 3, H, W)`` camera linear.
            order: int64 ``(b, K)``: the step in which each tool was used, from 1; 0 for unused. Without
                any, the render is the neutral one.
            strengths: float32 ``(b, K)`` in [-1, 1].

        Returns:
            float32 ``(b, 3, H, W)``, display sRGB in [0, 1].
        """


class ParameterTools:
    """One tool a parameter: using it sets the parameter, for good.

    The renderer keeps its own order of operators and starts from the raw each time, so nothing that one
    tool clips or rounds is lost to the next, and what an episode found exports like any other setting.

    Args:
        space: the parameters; a strength is an action of the space.
        pipeline: the renderer that takes them.
    """

    def __init__(self, space: ParameterSpace, pipeline: Renderer) -> None:
        self.names, self._space, self._pipeline = space.names, space, pipeline

    def render(self, batch: RawBatch, order: np.ndarray, strengths: torch.Tensor) -> torch.Tensor:
        """See `Tools`; the order plays no part."""
        used = torch.as_tensor(order > 0, device=strengths.device)
        return self._pipeline(batch, self._space.to_physical(strengths * used))


class ToolsTask(Task):
    """One tool a step, in the agent's order, each at most once; the reward is the change in potential.

    Only slots whose image changed are rendered and scored.

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

    @torch.no_grad()
    def images(self) -> list[torch.Tensor]:
        """The current render of each slot, rendered anew from the raw."""
        return self.core.images_of(self.frames, lambda group: self._render(np.arange(self.num_envs), group))

    def action_masks(self) -> np.ndarray:
        """bool ``(B, choices)``, which choices are open, laid out as sb3-contrib's MaskablePPO expects."""
        return self.code.masks(self._open())

    def state(self) -> dict[str, Any]:
        """The episodes as JSON values, for `restore`."""
        return super().state() | {"order": self.order.tolist(), "strengths": self.strengths.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the episodes that `state` describes."""
        super().restore(state)
        self.order = np.array(state["order"], dtype=np.int64)
        self.strengths = np.array(state["strengths"], dtype=np.float32)
        self.now = self._look_at(np.arange(self.num_envs))

    def _begin(self, slots: np.ndarray) -> None:
        self.order[slots], self.strengths[slots] = 0, 0.0

    def _open(self) -> np.ndarray:
        return np.hstack([np.ones((self.num_envs, 1), dtype=bool), self.order == 0])

    @torch.no_grad()
    def _look_at(self, slots: np.ndarray) -> Tensors:
        return self.core.table.batched(
            self.frames[slots], lambda group: self.core.look(self._render(slots, group), group)
        )

    def _render(self, slots: np.ndarray, group: Group) -> torch.Tensor:
        chosen = slots[group.members.cpu().numpy()]
        strengths = torch.as_tensor(self.strengths[chosen], device=self.core.device)
        return self.tools.render(group.raw, self.order[chosen], strengths)


def _costs(costs: float | Mapping[str, float], names: tuple[str, ...]) -> np.ndarray:
    if not isinstance(costs, Mapping):
        return np.full(len(names), costs, dtype=np.float32)
    unknown = [name for name in costs if name not in names]
    if unknown:
        raise InputError(f"there is no tool {', '.join(unknown)} to cost; choose from {', '.join(names)}.")
    return np.array([costs.get(name, 0.0) for name in names], dtype=np.float32)


class ToolsEnv(IspEnv):
    """Retouch a raw with a sequence of tools, each with a strength, and stop when it is good.

    ## Description

    A raw photograph is drawn and rendered neutrally. At each step the agent looks at the current render
    and picks one tool and its strength, or stops; a tool is used once at most. This is the setting of
    Exposure (Hu et al., ACM TOG 2018) and DRL-ISP (Shin et al., IROS 2022); a cost for each tool makes
    short pipelines pay, as in AdaptiveISP (Wang et al., NeurIPS 2024).

    ## Action space

    Choice 0 stops, choice k takes tool k - 1 of the K tools. By default these are `isp_env.toolset.TOOLS`:
    operators of the ISP and the fixed tools of DRL-ISP, each on what the tools before it left. Strengths
    run from -1 to 1, 0 changes nothing, and what is blended in goes by the size of the strength alone.

    | Num | Tool               | What it changes                              |
    |-----|--------------------|----------------------------------------------|
    | 0   | exposure           | light, by up to 1 EV                         |
    | 1   | temperature        | red against blue, by up to half a stop each  |
    | 2   | highlights         | bright regions                               |
    | 3   | shadows            | dark regions                                 |
    | 4   | dehaze             | the veil of haze, less or more               |
    | 5   | clarity            | local contrast                               |
    | 6   | sharpen            | fine detail                                  |
    | 7   | brightness         | display values, by up to 0.1                 |
    | 8   | contrast           | the slope at middle grey, 0.55 to 1.45       |
    | 9   | gamma              | midtones, exponents 1.23 to 0.81             |
    | 10  | hue                | hues, by up to 10 degrees                    |
    | 11  | saturation         | colours, 0.5 to 1.4                          |
    | 12  | clahe              | local equalisation, blended in               |
    | 13  | equalize_histogram | global equalisation of luma, blended in      |
    | 14  | grey_world         | channel means made equal, blended in         |
    | 15  | white_patch        | channel maxima made equal, blended in        |
    | 16  | box                | box filter, blended in                       |
    | 17  | gaussian           | gaussian filter, blended in                  |
    | 18  | median             | median filter of 3 x 3 pixels, blended in    |
    | 19  | bilateral          | bilateral filter of 5 x 5 pixels, blended in |
    | 20  | guided             | guided filter, blended in                    |

    With ``tools="parameters"`` there is one tool a parameter, in the order of `Tune-v0`, whose table gives
    the physical value at strength -1, 0 and 1: each render then starts from the raw, in the ISP's own order,
    and what an episode found exports like any other setting.

    | `actions`        | Space                              | Meaning                                     |
    |------------------|------------------------------------|---------------------------------------------|
    | "multi_discrete" | MultiDiscrete([K + 1, levels])     | choice, level                               |
    | "discrete"       | Discrete(1 + K * levels)           | 0 stops; else tool by tool, level by level  |
    | "box"            | Box(-1, 1, (K + 2,), float32)      | preferences for stop and each tool, strength |

    Levels run evenly from strength -1 to 1. Of preferences, the highest among the open choices is taken.
    A tool that was used before changes nothing and still takes the step; `action_masks()` says what is
    open, in the layout of sb3-contrib's MaskablePPO. NaN, infinity and unknown numbers are refused.

    ## Observation space

    `Dict`, of the current render.

    | Key        | Space                           | What                                                   |
    |------------|---------------------------------|--------------------------------------------------------|
    | thumbnail  | Box(0, 255, (3, 64, 64), uint8) | current render, long side averaged to 64, on grey      |
    | histogram  | Box(0, 1, (64,), float32)       | shares of pixels in 16 bins of luma, red, green, blue  |
    | clipping   | Box(0, 1, (6,), float32)        | shares of pixels at 0 in R, G, B, then at 255          |
    | features   | Box((D,), float32)              | the encoder's features; only with an encoder           |
    | strength   | Box(-1, 1, (K,), float32)       | strength of each used tool; 0 where unused             |
    | order      | Box(0, 1, (K,), float32)        | step of each tool's use / horizon; 0 where unused      |
    | available  | MultiBinary(K + 1)              | 1 where a choice is open; stop always is               |
    | progress   | Box(0, 1, (1,), float32)        | steps taken / horizon                                  |

    ## Rewards

    `potential(new render) - potential(previous render) - cost of the tool`, where the potential is the
    value of `reward`; 0 for stopping and for a tool that was used before. The rewards of an episode sum to
    the gain over the neutral render less all costs; each state is scored once. With a reward in [a, b] and
    no costs a step, and an episode too, lies in [a - b, b - a].

    ## Starting state

    A frame drawn evenly from the source, no tool used. `reset(options={"frame": n})` chooses the frame;
    `seed` repeats the draws exactly.

    ## Episode end

    Terminated by stopping, after `horizon` steps, or when every tool is used; never truncated.

    ## Info

    `frame` and `name` of the raw, `potential`, `neutral_potential`, `clipped_fraction`, and `order` and
    `strength` (K,), which are the whole sequence.

    ## Arguments

    ```python
    env = gym.make("isp_env/Tools-v0", source="raws/", actions="discrete", costs={"median": 0.01})
    ```

    Those of `Tune-v0`, and:

    | Argument | Default          | What                                                             |
    |----------|------------------|------------------------------------------------------------------|
    | tools    | None             | names of `isp_env.toolset.TOOLS`; "parameters": one a parameter; |
    |          |                  | or a `Tools`. None: all of `TOOLS`, or, where `parameters` are   |
    |          |                  | named, one tool for each of them                                 |
    | horizon  | 5                | the most steps of an episode                                     |
    | actions  | "multi_discrete" | see above                                                        |
    | levels   | 8                | strengths of the discrete kinds; an even number leaves out 0     |
    | costs    | 0.0              | of using a tool, in the reward's unit: one number, or by name    |

    ## Version history

    * v0: first version.
    """

    def __init__(
        self,
        source: Source = None,
        reward: RewardLike = None,
        parameters: Sequence[str] | None = None,
        *,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(_tools_task(1, source, reward, parameters, options), render_mode)


class ToolsVectorEnv(IspVectorEnv):
    """`ToolsEnv` as a native batch: same spaces, rewards and arguments, and `num_envs` and `draw`."""

    def __init__(
        self,
        num_envs: int = 1,
        source: Source = None,
        reward: RewardLike = None,
        parameters: Sequence[str] | None = None,
        *,
        draw: Draw = "independent",
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(_tools_task(num_envs, source, reward, parameters, options), draw, render_mode)


def _tools_task(
    num_envs: int,
    source: Source,
    reward: RewardLike,
    parameters: Sequence[str] | None,
    options: Mapping[str, Any],
) -> ToolsTask:
    own = {name: options[name] for name in ("horizon", "actions", "levels", "costs") if name in options}
    scenes = {name: value for name, value in options.items() if name not in {*own, "tools"}}
    core = build_core(source, reward, parameters, **scenes)
    tools = options.get("tools")
    if tools is None and parameters is not None:
        tools = "parameters"
    return ToolsTask(core, num_envs, _tools_of(tools, core), **own)


def _tools_of(tools: Tools | str | Sequence[str] | None, core: Core) -> Tools:
    """What the argument ``tools`` names, over the renderer of `core`."""
    if tools == "parameters":
        return ParameterTools(core.space, core.pipeline)
    if tools is None or isinstance(tools, Sequence):
        return ToolSet([tools] if isinstance(tools, str) else tools, core.pipeline)
    return tools
