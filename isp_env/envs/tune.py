"""``isp_env/Tune-v0``: all parameters at once, one step an episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from isp_env.envs.building import RewardLike, Source, build_core
from isp_env.envs.core import Core
from isp_env.envs.drawing import Draw
from isp_env.envs.frames import Tensors
from isp_env.envs.shells import IspEnv, IspVectorEnv
from isp_env.envs.task import SCORED, SEEN, ParameterTask, continuous_actions


class TuneTask(ParameterTask):
    """One action sets every parameter; the reward is the gain in potential over the neutral render.

    What is seen of pixels belongs to the neutral render, before and after the step, and comes from the
    core's table: a step costs one render and one scoring, nothing more.
    """

    keeps = SCORED

    def __init__(self, core: Core, num_envs: int, slopes: bool = False) -> None:
        super().__init__(core, num_envs, horizon=1, slopes=slopes)
        self._seen = tuple(name for name in SEEN if name in core.neutral)

    def advance(self, actions: Any) -> tuple[torch.Tensor, np.ndarray]:
        """Render with `actions` ``(B, P)`` in [-1, 1] and score; every episode ends."""
        self.setting = continuous_actions(actions, tuple(self.setting.shape), self.core.device)
        self.steps += 1
        values = self.core.space.to_physical(self.setting)
        self.now = self.core.look_at(self.frames, values, observe=False)
        before = self.core.neutral_of(self.frames, ("potential",))["potential"]
        return self.now["potential"] - before, np.ones(self.num_envs, dtype=bool)

    def observe(self) -> Tensors:
        """The neutral render's looks and, where they are seen, its slopes; the setting, progress."""
        return self.core.neutral_of(self.frames, self._seen) | super().observe()


class TuneEnv(IspEnv):
    """Find the ISP parameters of a raw in one step.

    ## Description

    A raw photograph is drawn. The agent sees the camera's default ("neutral") render of it, sets all
    parameters of the ISP at once, and is paid what the new render gains over the neutral one under a
    quality model. This is the setting of ATTIQA's application to a camera ISP (Kwon et al., ACCV 2024,
    section 4.4): "find optimal parameters"; as a learning problem it is a contextual bandit.

    ## Action space

    `Box(-1, 1, (P,), float32)`: one number a parameter. 0 is the neutral value, -1 and 1 are the limits
    below, and the map between is linear on either side. Values outside are clipped; NaN and infinity are
    refused. `parameters` chooses any others of `isp_env.parameters.PARAMETERS`. By default:

    | Num | Parameter | Unit | At -1 | At 0 | At 1 |
    |-----|-----------|------|-------|------|------|
    | 0 | denoise_luma | - | 0 | 0 | 1 |
    | 1 | denoise_chroma | - | 0 | 0 | 1 |
    | 2 | temperature | mired | -80 | 0 | 80 |
    | 3 | tint | EV | -0.25 | 0 | 0.25 |
    | 4 | exposure | EV | -2 | 0 | 2 |
    | 5 | highlights | - | -1 | 0 | 1 |
    | 6 | shadows | - | -1 | 0 | 1 |
    | 7 | tone_shadows | - | -0.2 | 0 | 0.2 |
    | 8 | tone_midtones | - | -0.2 | 0 | 0.2 |
    | 9 | tone_highlights | - | -0.2 | 0 | 0.2 |
    | 10 | contrast | - | -1 | 0 | 1 |
    | 11 | saturation | - | -1 | 0 | 1 |
    | 12 | vibrance | - | -1 | 0 | 1 |
    | 13 | sharpen | - | 0 | 0 | 1.5 |

    ## Observation space

    `Dict`. All of it is known before the step; after it only `setting` and `progress` have changed.
    The current render is to be had from `render()`.

    | Key        | Space                          | What                                                   |
    |------------|--------------------------------|--------------------------------------------------------|
    | thumbnail  | Box(0, 255, (3, 64, 64), uint8) | neutral render, long side averaged to 64, on grey      |
    | histogram  | Box(0, 1, (64,), float32)      | shares of pixels in 16 bins of luma, red, green, blue   |
    | clipping   | Box(0, 1, (6,), float32)       | shares of pixels at 0 in R, G, B, then at 255           |
    | features   | Box((D,), float32)             | the encoder's features; only with an encoder            |
    | setting    | Box(-1, 1, (P,), float32)      | the parameters as set, as actions; 0 at the start       |
    | progress   | Box(0, 1, (1,), float32)       | 0 before the step, 1 after it                           |

    ## Rewards

    `potential(render) - potential(neutral render)`, where the potential is the value of `reward`. The
    neutral action gives exactly what rendering neutrally again gives: zero. With a reward in [a, b] it
    lies in [a - b, b - a].

    ## Shapes

    A frame keeps the shape of its photograph, its short side averaged down: nothing is cropped, squashed
    or padded. In a batch the slots that share a shape run together, once a shape; ``draw="bucketed"`` lets
    all slots that begin together share one. Thumbnails are letterboxed on grey.

    ## Slopes

    With `slopes` the observation also has how the reward rises at the neutral render. That takes one backward
    pass a frame, when it is first seen.

    | Key   | Space              | What                                                                     |
    |-------|--------------------|--------------------------------------------------------------------------|
    | slope | Box((P,), float32) | the rise with each parameter, a unit of action above 0; of a reward in   |
    |       |                    | parts (`attiqa.rewards.protocol.PartedReward`), that of their mean       |

    ## Starting state

    A frame drawn evenly from the source, all parameters neutral. `reset(options={"frame": n})` chooses
    the frame; `seed` repeats the draws exactly.

    ## Episode end

    Terminated after one step; never truncated.

    ## Info

    `frame` and `name` of the raw, `potential`, `neutral_potential`, `clipped_fraction` (the share of
    pixels that `attiqa.rewards.differences.is_clipped`), `values` (the parameters in physical units).

    ## Arguments

    ```python
    import gymnasium as gym
    import isp_env

    env = gym.make("isp_env/Tune-v0", source="raws/", reward=my_reward, short_side=256)
    envs = gym.make_vec("isp_env/Tune-v0", num_envs=32, source="raws/", device="cuda")
    ```

    | Argument    | Default       | What                                                                 |
    |-------------|---------------|----------------------------------------------------------------------|
    | source      | None          | raw files or folders, or a `FrameSource`; None: the embedded scenes  |
    | reward      | None          | a callable, (B, 3, H, W) display sRGB to (B,), or a name that        |
    |             |               | `build_reward` knows; None: "guarded", on the bundled model          |
    | parameters  | None          | names of parameters; None: the table above                           |
    | slopes      | False         | whether slopes are seen; torch must be able to differentiate the     |
    |             |               | reward                                                               |
    | core        | None          | a ready `Core` to share, instead of source, reward and parameters    |
    | short_side  | 256           | pixels of a preview's short side                                     |
    | device      | "cpu"         | where frames, renders and observations live                          |
    | max_batch   | 64            | most images in one pass                                              |
    | encoder     | None          | images to features (B, D); None: the reward's own `features`, where  |
    |             |               | it or its first scorer has them; False: none                         |
    | compiled    | False         | fuse the renderer's pointwise work with `torch.compile`: the first   |
    |             |               | batches wait up to a minute, later ones take about two thirds of the |
    |             |               | time; without a C++ compiler it says so and goes on uncompiled       |
    | render_mode | None          | "rgb_array", or "human": a window (`make` only, needs a display)     |
    | num_envs    | 1             | slots (`make_vec` only)                                              |
    | draw        | "independent" | how slots draw frames (`make_vec` only): see `drawing.FrameDraw`     |

    ## Version history

    * v0: first version.
    """

    def __init__(
        self,
        source: Source = None,
        reward: RewardLike = None,
        parameters: Sequence[str] | None = None,
        *,
        slopes: bool = False,
        render_mode: str | None = None,
        **scenes: Any,
    ) -> None:
        super().__init__(TuneTask(build_core(source, reward, parameters, **scenes), 1, slopes), render_mode)


class TuneVectorEnv(IspVectorEnv):
    """`TuneEnv` as a native batch: same spaces, rewards and arguments, and `num_envs` and `draw`."""

    def __init__(
        self,
        num_envs: int = 1,
        source: Source = None,
        reward: RewardLike = None,
        parameters: Sequence[str] | None = None,
        *,
        slopes: bool = False,
        draw: Draw = "independent",
        render_mode: str | None = None,
        **scenes: Any,
    ) -> None:
        core = build_core(source, reward, parameters, **scenes)
        super().__init__(TuneTask(core, num_envs, slopes), draw, render_mode)
