"""A policy as one network that needs nothing of this package: pictures in, parameters in physical units out.

Everything between the two is inside: what the policy sees of a picture (histogram, clipping, the eye's
features), how it is standardised, the policy, and the map from actions to units. The size of the picture is
fixed, as a camera's is; the batch is not.

Slopes of the reward at the neutral render are no part of it, since they want the renderer and the reward: a
policy that reads them is told their mean over its training frames, always.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from agents.dpg import DPGPolicy
from agents.judging import Judging
from agents.playing import STEPS_AN_EPISODE, first_look, make_envs
from agents.policy import usual
from agents.policy_file import StoredPolicy
from attiqa.errors import InputError
from attiqa.model import QualityModel
from attiqa.nn.backbones import pad_to_minimum
from attiqa.views import whole
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.embedded import embedded_photographs
from isp_env.envs import looking
from isp_env.envs.core import Core
from isp_env.envs.refine import RefineTask
from isp_env.envs.task import SLOPE
from isp_env.filters import LUMA
from isp_env.frame import RawFrame
from isp_env.parameters import ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.raw import read_photograph_as_frame
from isp_env.sources import MemoryFrames

TASKS = ("tune", "refine")
STATE = ("setting", "progress", "change")  # of an episode; at its start all zero
_STRIDE = 4  # of the pixels that are counted, as in isp_env.envs.looking
_STEP_SIZE = float(inspect.signature(RefineTask).parameters["step_size"].default)

Run = Callable[[Mapping[str, torch.Tensor]], Sequence[torch.Tensor]]


class PortablePolicy(nn.Module):
    """The network; see `forward`.

    Args:
        stored: the policy, of the task tune or refine.
        eye: the model that it sees through.
        size: height and width of the picture.

    Raises:
        InputError: another task, or a policy that sees what this network does not measure.
    """

    down_rows: torch.Tensor
    down_columns: torch.Tensor
    usual_slope: torch.Tensor

    def __init__(self, stored: StoredPolicy, eye: QualityModel, size: tuple[int, int]) -> None:
        super().__init__()
        card = stored.card
        if card["task"] not in TASKS:
            raise InputError(
                f"a policy of the task {card['task']} chooses one tool after another, not parameters; "
                f"policies of {' and '.join(TASKS)} can be exported."
            )
        self.task, self.size = str(card["task"]), size
        self.space = ParameterSpace([row["name"] for row in card["parameters"]])
        spaces = card["network"]["observation_space"]
        self.seen = list(spaces)
        unknown = set(self.seen) - {"histogram", "clipping", "features", SLOPE, *STATE}
        if unknown:
            raise InputError(
                f"the policy sees {', '.join(sorted(unknown))}, which this export does not measure."
            )
        self.state_sizes = {name: int(spaces[name]["shape"][0]) for name in STATE if name in spaces}
        self.policy, self.eye = stored.policy, eye.network.backbone
        self.reads_slopes = stored.sees_slopes
        if self.reads_slopes:
            self.register_buffer("usual_slope", usual(stored.policy, SLOPE).clone())
        rows, columns = whole(torch.zeros(1, 3, *size)).shape[-2:]
        self.register_buffer("down_rows", _resizing(size[0], rows))
        self.register_buffer("down_columns", _resizing(size[1], columns))

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs: the picture and, where an episode has several steps, its state."""
        return ["image", *(self.state_sizes if self.task == "refine" else ())]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs: the parameters and, where there is a next step, what it needs."""
        return ["parameters", "next_setting", "next_change"] if self.task == "refine" else ["parameters"]

    def forward(
        self,
        image: torch.Tensor,
        setting: torch.Tensor | None = None,
        progress: torch.Tensor | None = None,
        change: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Picture ``(B, 3, H, W)``, display sRGB in [0, 1], and an episode's state, to parameters ``(B, P)``.

        Args:
            image: of the size that the network was made for.
            setting, progress, change: as the environment shows them; None for the start of an episode.

        Returns:
            One tensor for each of `outputs`.
        """
        given = {"setting": setting, "progress": progress, "change": change}
        rest: dict[str, torch.Tensor] = {}
        for name, size in self.state_sizes.items():
            value = given[name]
            rest[name] = image.new_zeros(image.shape[0], size) if value is None else value
        if self.reads_slopes:
            rest[SLOPE] = self.usual_slope.expand(image.shape[0], -1)
        seen = rest | {
            "histogram": _histogram(image),
            "clipping": looking.clipping(image),
            "features": self._features(image),
        }
        action = _best_action(self.policy, {name: seen[name] for name in self.seen}).clamp(-1.0, 1.0)
        if self.task == "tune":
            return (self.space.to_physical(action),)
        setting = (rest["setting"] + _STEP_SIZE * action).clamp(-1.0, 1.0)
        return self.space.to_physical(setting), setting, setting - rest["setting"]

    def _features(self, image: torch.Tensor) -> torch.Tensor:
        # an antialiased resize as two products: few runtimes know the operator
        small = self.down_rows @ image @ self.down_columns.mT
        return self.eye(pad_to_minimum(small)).float()


@dataclass(frozen=True)
class Parity:
    """How far an exported network is from the policy in its environment.

    Attributes:
        pictures: compared.
        largest_difference: of any parameter, as a share of half its range.
    """

    pictures: int
    largest_difference: float


def check_parity(run: Run, network: PortablePolicy, stored: StoredPolicy, scores: Judging) -> Parity:
    """Let `run` and the stored policy in its own environment set the parameters of the embedded photographs.

    A policy that reads slopes is told the same as the network, their mean.

    Args:
        run: a network in whatever runtime: tensors by the names of the inputs to the outputs in order.
        network: what it was made from.
        stored: the policy.
        scores: its eye and score.
    """
    pipeline = Pipeline(network.space)
    core = Core(
        MemoryFrames(_frames(network.size)),
        network.space,
        pipeline,
        scores.score,
        short_side=min(network.size),
        encoder=scores.encoder,
    )
    frames, space = np.arange(len(core)), network.space
    env = make_envs(network.task, core, len(core))
    seen = first_look(env, frames)
    # what the network takes for slopes, whatever the picture
    told = replace(stored, told={SLOPE: network.usual_slope.numpy()}) if network.reads_slopes else stored
    largest = 0.0
    for _ in range(STEPS_AN_EPISODE[network.task]):
        # each step from the environment's own state: a rounding must not grow through the next picture
        images = torch.stack(core.render_of(frames, space.to_physical(torch.from_numpy(seen["setting"]))))
        state = {name: torch.from_numpy(seen[name]) for name in network.inputs[1:]}
        values = run({"image": images, **state})[0]
        step = env.env.step_tensors(told.act(seen))
        after = step.observation if step.final_observation is None else step.final_observation
        difference = values - space.to_physical(after["setting"].cpu())
        largest = max(largest, float((difference.abs() / (0.5 * (space.high - space.low))).max()))
        seen = env.seen(step.observation)
    return Parity(len(core), largest)


def _best_action(policy: Any, seen: dict[str, torch.Tensor]) -> torch.Tensor:
    """What `BasePolicy.predict` does without exploration, without the distributions on the way."""
    if isinstance(policy, ActorCriticPolicy):  # PPO, A2C
        features: Any = policy.extract_features(seen, policy.pi_features_extractor)
        return policy.action_net(policy.mlp_extractor.forward_actor(features))
    if isinstance(policy, SACPolicy):
        return policy.actor.get_action_dist_params(seen)[0].tanh()
    if isinstance(policy, DPGPolicy):
        return policy(seen)
    return policy.actor(seen)  # TD3


def _frames(size: tuple[int, int]) -> list[RawFrame]:
    """The embedded photographs, each stretched to the size, as raws whose neutral render they are."""
    frames = []
    for path in embedded_photographs().values():
        frame = read_photograph_as_frame(path)
        display = linear_to_srgb(frame.image)[None]
        image = F.interpolate(display, size, mode="bilinear", antialias=True)[0].clamp(0.0, 1.0)
        frames.append(RawFrame(srgb_to_linear(image), torch.ones(3), torch.eye(3), path.stem, frame.digest))
    return frames


def _histogram(images: torch.Tensor) -> torch.Tensor:
    """`isp_env.envs.looking.histogram` by comparisons alone: runtimes have no count of bins."""
    small = images[:, :, ::_STRIDE, ::_STRIDE]
    weights = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    planes = torch.cat([(small * weights).sum(dim=1, keepdim=True), small], dim=1).flatten(2)  # (B, 4, n)
    bins = (planes * looking.BINS).floor().clamp(0, looking.BINS - 1)
    numbers = torch.arange(looking.BINS, device=images.device, dtype=bins.dtype).view(1, 1, -1, 1)
    return (bins[:, :, None] == numbers).float().mean(dim=-1).flatten(1)


def _resizing(old: int, new: int) -> torch.Tensor:
    """The matrix ``(new, old)`` of torch's antialiased bilinear resize along one side."""
    if old == new:
        return torch.eye(old)
    return F.interpolate(torch.eye(old)[None, None], (new, old), mode="bilinear", antialias=True)[0, 0]
