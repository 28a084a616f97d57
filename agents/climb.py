"""Climbing the reward of one picture in a few looks: a Gaussian process, told values and slopes.

An answer, by a stored policy, knows what pictures have in common. What is left is each picture's own, and
slopes show it: a look with slopes tells P + 1 numbers where one without tells one. A Gaussian process over
settings takes them for what they are, a function and its derivatives (Solak et al.: Derivative observations
in Gaussian process models of dynamic systems, NIPS 2002; in searches: Wu et al.: Bayesian optimization with
gradients, NIPS 2017). The first look is near the answer, as the slopes at the neutral render correct it; each
later one is where the process expects the most, not far from the best look so far. Before it is told anything
it expects a hill, whose top is the answer, as long as the neutral render is most of what it is told.

What is learnt, from pictures to train on, is how such functions run: how far along each parameter, and how
much of a slope is noise. That is the kernel, fitted by its marginal likelihood (Rasmussen and Williams:
Gaussian Processes for Machine Learning, 2006, section 5.4.1). A guarded reward is modelled part by part: it
has edges where parts change places, and a smooth model knows no edges. Nor is it asked what is known: what a
reward charges for is told by small renders of what is considered (`agents.charges`), and scores alone are
expected. The kernel's family, the reach, the caution and the hill are our choice (TRIALS.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from agents.begun import BegunPolicy
from agents.charges import Charges
from agents.process import SettingsProcess
from agents.remembering import Remembering
from attiqa.rewards.protocol import together
from isp_env.envs.core import Core
from isp_env.frame import RawBatch

# entries of `isp_env/Refine-v0` with a trail: what the process is told; all that a climbing policy must see
TRAIL = ("trail_setting", "trail_gain", "trail_slope")
CHARGE = "trail_charge"
SEES = (*TRAIL, CHARGE, "raw", "raw_color")

# chosen on validation raws: how far from the best look so far the next may lie, in length scales of the
# kernel, and how many deviations of what is expected are taken off
REACH, CAUTION = 0.6, 0.5
# and, before the looks at which the neutral render is told too, how much the slope of a hill about the answer
# falls in a length scale
HILL, HILL_LOOKS = 0.4, 2
ASCENT_STEPS, ASCENT_RATE = 40, 0.04  # Adam's, on the process
STEPS_A_CHARGE = 2  # of those, for each time that charges are looked up
# looks are taken at multiples of this, a power of two: what rounding leaves to chance, the order of a sum
# with more threads or other pictures beside it, would else grow a hundredfold a look (TRIALS.md)
GRID = 1 / 32
# share of the episodes that are told least well, and left out when the kernel is fitted: renders far beyond a
# penalty run otherwise than all others (trimmed likelihood: Hadi and Luceno, 1997)
TRIMMED = 0.1

Charged = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Trail:
    """What is told of some settings of B pictures; float64.

    Attributes:
        settings: ``(B, n, P)``.
        gains: of each part of the reward, ``(B, n, K)``.
        slopes: ``(B, n, K, P)``.
        charges: what was taken off, ``(B, n)``.
    """

    settings: torch.Tensor
    gains: torch.Tensor
    slopes: torch.Tensor
    charges: torch.Tensor


class ClimbPolicy(BegunPolicy):
    """An answer that does not learn, and looks where the process expects the most.

    Args:
        observation_space, action_space: of ``isp_env/Refine-v0`` with slopes.
        lr_schedule: learning rate by what remains of the run.
        net_arch: hidden layers of the actor whose answer it is.
        features_extractor_class, features_extractor_kwargs: what that actor reads.
        begun: there must be an answer; see `agents.policy.begin`.
    """

    deviations: torch.Tensor

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int],
        features_extractor_class: type[BaseFeaturesExtractor],
        features_extractor_kwargs: dict[str, Any] | None = None,
        begun: bool = True,
    ) -> None:
        if not begun:
            raise ValueError("climbing begins with the answer of a policy of one look")
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            squash_output=True,
        )
        self.first = self.first_actor(net_arch, SEES)
        self.process = SettingsProcess(int(np.prod(action_space.shape)))
        # of the reward over its parts, see `isp_env.envs.core.Core`; the learner sets it
        self.register_buffer("deviations", torch.tensor(0.0))
        self.optimizer = torch.optim.Adam(self.process.parameters(), lr_schedule(1.0))
        self._charges: Callable[[RawBatch], Charges] | None = None

    def work_on(self, core: Core) -> None:
        """Consider the renders of `core` and what its reward charges for; before that charges are unknown."""
        charge = core.charge
        self._charges = charge and partial(Charges, space=core.space, pipeline=core.pipeline, charge=charge)

    def forward(self, observation: PyTorchObs, deterministic: bool = False) -> torch.Tensor:
        """Changes of the setting ``(B, P)``."""
        return self._predict(observation, deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> torch.Tensor:
        """Where it explores, as it does to learn, there is no hill, and the first look is at the answer."""
        seen: Any = observation
        horizon = seen["trail_gain"].shape[1]
        looked = (seen["progress"][:, 0] * horizon).round().long()
        actions = self.first_answer(seen)
        for count in looked.unique().tolist():
            if not (count or deterministic):
                continue
            rows, top = looked == count, None
            if deterministic and count < HILL_LOOKS:
                top = (seen["trail_setting"][rows, 1] if count else actions[rows]).detach().double()
            some = slice(1 if top is None else 0, count + 1)  # the first row is the neutral render
            told = Trail(*(seen[name][rows, some].detach().double() for name in (*TRAIL, CHARGE)))
            setting = self.next_setting(told, self._known(seen, rows), top)
            actions[rows] = (setting - seen["setting"][rows]).to(actions)
        return actions.clamp(-1.0, 1.0)

    def _known(self, seen: Any, rows: torch.Tensor) -> Charges | None:
        if self._charges is None:
            return None
        color = seen["raw_color"][rows]
        return self._charges(RawBatch(seen["raw"][rows], color[:, 0], color[:, 1:]))

    @torch.enable_grad()
    def next_setting(
        self, told: Trail, charged: Charged | None = None, top: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Where the process expects the most of the reward, less its caution, within reach of the best look.

        Where the neutral render alone is told, that is within reach of the top of the hill, and without
        caution: there all is doubt.

        Args:
            told: of the looks so far; with a hill, of the neutral render before them.
            charged: what would be taken off elsewhere, see `ascend`; None for nothing.
            top: ``(B, P)``, of the hill that is expected before anything is told, which is 0 at the neutral
                render; None for a plain.

        Returns:
            float64 ``(B, P)``, in [-1, 1], multiples of `GRID`.
        """
        lengths, deviations = self.process.log_lengths.detach().double().exp(), float(self.deviations)
        before = _Hill(top, HILL / lengths.square()) if top is not None else None
        gains, slopes = told.gains, told.slopes
        if before:
            gains, slopes = gains - before(told.settings)[..., None], slopes - before.slopes(told.settings)
        expects = self.process.expects(told.settings, gains, slopes)
        best = (together(told.gains, deviations) - told.charges).argmax(dim=1)
        start = told.settings[torch.arange(len(best), device=best.device), best]
        caution = CAUTION
        if top is not None and told.settings.shape[1] == 1:
            start, caution = top, 0.0

        def promise(setting: torch.Tensor) -> torch.Tensor:
            means, doubt = expects(setting)
            promised = together(means, deviations) - caution * doubt
            return promised if before is None else promised + before(setting[:, None])[:, 0]

        return (ascend(promise, start, lengths, REACH, charged) / GRID).round() * GRID


class _Hill:
    """A function of settings ``(B, n, P)`` whose slopes fall by `bends` ``(P,)`` to 0 at `top` ``(B, P)``."""

    def __init__(self, top: torch.Tensor, bends: torch.Tensor) -> None:
        self._top, self._bends = top[:, None], bends

    def __call__(self, settings: torch.Tensor) -> torch.Tensor:
        lower = self._top.square() - (settings - self._top).square()
        return (self._bends * lower).sum(dim=2) / 2

    def slopes(self, settings: torch.Tensor) -> torch.Tensor:
        """``(B, n, 1, P)``, for any number of parts."""
        return (self._bends * (self._top - settings))[:, :, None]


def ascend(
    promise: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    lengths: torch.Tensor,
    reach: float,
    charged: Charged | None = None,
) -> torch.Tensor:
    """The settings ``(B, P)`` of the most promise that Adam finds, in [-1, 1] and within `reach` of `start`.

    Args:
        promise: settings ``(B, P)`` to ``(B,)``, higher is better; torch differentiates it.
        start: ``(B, P)``.
        lengths: ``(P,)``, the units of `reach` along each parameter.
        reach: of the Euclidean distance.
        charged: settings ``(B, P)`` to what is taken off the promise ``(B,)``, and the slopes of that
            ``(B, P)``; they are taken to hold for the few steps until it is asked again. None for nothing.
    """
    setting = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([setting], ASCENT_RATE, betas=(0.9, 0.99), maximize=True)
    best, most = start.clone(), torch.full_like(start[:, 0], -torch.inf)
    charge, slopes = torch.zeros_like(most), torch.zeros_like(start)
    for step in range(ASCENT_STEPS + 1):
        promised = promise(setting)
        if step % STEPS_A_CHARGE == 0:
            with torch.no_grad():
                if charged:
                    charge, slopes = charged(setting)
                better = promised - charge > most
                best[better], most[better] = setting[better], (promised - charge)[better]
        if step == ASCENT_STEPS:
            break
        setting.grad = torch.autograd.grad(promised.sum(), setting)[0] - slopes
        optimizer.param_groups[0]["lr"] = ASCENT_RATE * (1 - 0.8 * step / ASCENT_STEPS)
        optimizer.step()
        with torch.no_grad():
            away = setting.clamp_(-1.0, 1.0) - start
            far = torch.linalg.vector_norm(away / lengths, dim=1, keepdim=True)
            setting.copy_(start + away * (reach / far.clamp(min=1e-12)).clamp(max=1.0))
    return best


class Climb(Remembering):
    """The learner of `ClimbPolicy`: it plays episodes and fits the kernel to all of them so far.

    Arguments are as SB3's off-policy algorithms take them; `train_freq` must be whole episodes.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MultiInputPolicy": ClimbPolicy}
    policy: ClimbPolicy

    def __init__(self, policy: str | type[BasePolicy], env: Any, **arguments: Any) -> None:
        super().__init__(policy, env, **arguments)
        self._setup_model()

    def _setup_model(self) -> None:
        sizes = [int(np.prod(self.observation_space[name].shape)) for name in TRAIL]  # type: ignore[index]
        self.replay_buffer = self._memory(self.buffer_size, sum(sizes))  # of episodes, by their trails
        super()._setup_model()
        core = self.env.get_attr("task")[0].core  # type: ignore[union-attr]
        self.policy.deviations.fill_(core.deviations)

    def _remembered(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> np.ndarray | None:
        if not dones.all():  # episodes of one length that began together end together
            return None
        last = [info["terminal_observation"] for info in infos]
        return np.stack([np.concatenate([seen[name].ravel() for name in TRAIL]) for seen in last])

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Fit the kernel to samples of the episodes so far."""
        self._update_learning_rate(self.policy.optimizer)
        misfits = []
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)  # type: ignore[union-attr]
            misfit = self.policy.process.misfit(*self._episodes(batch.observations))
            kept = misfit.sort().values[: max(round((1 - TRIMMED) * len(misfit)), 1)].mean()
            self.policy.optimizer.zero_grad()
            kept.backward()
            self.policy.optimizer.step()
            misfits.append(kept.item())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates)
        self.logger.record("train/misfit", float(np.mean(misfits)))

    def _episodes(self, trails: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Trails ``(B, D)`` as what `SettingsProcess.misfit` takes."""
        shapes = [self.observation_space[name].shape for name in TRAIL]  # type: ignore[index]
        entries = trails.double().split([int(np.prod(shape)) for shape in shapes], dim=1)
        # the first row is the neutral render, which lies beyond all looks
        settings, gains, slopes = (
            rows.unflatten(1, shape)[:, 1:] for rows, shape in zip(entries, shapes, strict=True)
        )
        return settings, gains, slopes

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
