"""Deterministic policy gradient for episodes in which doing nothing earns nothing.

The reward of a step is a difference of potentials, so the action 0, which leaves a render as it is, earns 0
whatever the image. The critics here hold that by construction: ``q(s, a) = f(s, a) - f(s, 0)``. What makes
one image score higher than another drops out, and only what actions change is learnt. Every render that was
ever made goes on teaching them, where PPO uses each one in one update.

The actor climbs a cautious mean of several critics (Silver et al.: Deterministic Policy Gradient Algorithms,
ICML 2014; ensembles as in REDQ, Chen et al., ICLR 2021; the anchor is our choice). Only the reward of the
next step counts: one step an episode in `Tune-v0`, the steepest step at a time in `Refine-v0`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.td3.policies import Actor
from torch import nn
from torch.nn import functional as F

from agents.begun import BegunPolicy, entries
from agents.remembering import Remembering

# In units of the reward's spread under first exploration. How bad a bad render is need not be learnt, and
# what a penalty puts far below would otherwise rule the squared error
FLOOR = -2.0


class ManyScales(ActionNoise):
    """Half of the draws move all of an action by Gaussian noise of another deviation each time, log-uniform
    from `low` to `high`; the others move two entries of it, on average, anywhere, and all a little.

    Small deviations show critics the slope where the actor stands, wide ones what lies beyond. What searches
    find lies at the ends of some parameters; noise that moves all at once hardly gets there without ruining
    the render (TRIALS.md; our choice). In units of the action, whose ends are -1 and 1.
    """

    MOVED = 2.0
    REACH = 1.5  # from 0 it passes both ends, and what passes them is clipped to them

    def __init__(self, size: int, low: float, high: float) -> None:
        super().__init__()
        self.size, self.low, self.high = size, low, high

    def __call__(self) -> np.ndarray:
        """One draw ``(size,)``, from NumPy's global generator as SB3's own noises."""
        jumps = np.random.random() < 0.5
        deviation = 2 * self.low if jumps else np.exp(np.random.uniform(*np.log((self.low, self.high))))
        noise = np.random.normal(0.0, deviation, self.size)
        if jumps:
            far = np.random.random(self.size) < self.MOVED / self.size
            noise[far] = np.random.uniform(-self.REACH, self.REACH, int(far.sum()))
        return noise.astype(np.float32)


class GainCritic(nn.Module):
    """What an action gains in a state; exactly 0 for the action 0.

    Args:
        features: size of a state.
        actions: size of an action.
        hidden: sizes of the hidden layers.
    """

    def __init__(self, features: int, actions: int, hidden: list[int]) -> None:
        super().__init__()
        self.state = nn.Linear(features, hidden[0])
        self.action = nn.Linear(actions, hidden[0], bias=False)
        # as large at first as the state's part, which has a hundred times as many inputs
        nn.init.uniform_(self.action.weight, -1.0, 1.0)
        self.rest = nn.Sequential(nn.SiLU(), *create_mlp(hidden[0], 1, hidden[1:], nn.SiLU))

    def forward(self, features: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """States ``(B, D)`` and actions ``(B, P)`` in [-1, 1] to gains ``(B,)``."""
        still = self.state(features)
        return (self.rest(still + self.action(actions)) - self.rest(still))[:, 0]


class DPGPolicy(BegunPolicy):
    """An actor, which is the policy, and the critics that it learns from.

    Args:
        observation_space, action_space: of the environment.
        lr_schedule: learning rate by what remains of the run.
        net_arch: hidden layers of the actor.
        features_extractor_class, features_extractor_kwargs: what makes a vector of an observation; it has no
            weights to learn.
        critic_arch: hidden layers of each critic.
        n_critics: how many critics.
        weight_decay: of AdamW, for actor and critics.
        begun: whether another actor, which does not learn, acts at the first look of an episode; see
            `agents.policy.begin`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int],
        features_extractor_class: type[BaseFeaturesExtractor],
        features_extractor_kwargs: dict[str, Any] | None = None,
        critic_arch: tuple[int, ...] = (256, 256),
        n_critics: int = 4,
        weight_decay: float = 1e-2,
        begun: bool = False,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            squash_output=True,
        )
        extractor: Any = self.make_features_extractor()
        self.actor = Actor(
            observation_space, action_space, net_arch, extractor, extractor.features_dim, nn.Tanh
        )
        self.critics = nn.ModuleList(
            GainCritic(extractor.features_dim, int(np.prod(action_space.shape)), list(critic_arch))
            for _ in range(n_critics)
        )
        self.first = None
        if begun:
            self.first = self.first_actor(net_arch, ())
        rate = lr_schedule(1.0)
        self.actor_optimizer = torch.optim.AdamW(self.actor.parameters(), rate, weight_decay=weight_decay)
        self.critic_optimizer = torch.optim.AdamW(self.critics.parameters(), rate, weight_decay=weight_decay)

    def forward(self, observation: PyTorchObs, deterministic: bool = False) -> torch.Tensor:
        """The actor's actions ``(B, P)``."""
        return self._predict(observation, deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> torch.Tensor:
        actions: torch.Tensor = self.actor(observation)
        if self.first is None:
            return actions
        begins = dict(entries(observation))["progress"] == 0
        return torch.where(begins, self.first_answer(observation), actions)

    def features(self, observation: PyTorchObs) -> torch.Tensor:
        """Observations to the vectors ``(B, D)`` that actor and critics read."""
        return self.actor.extract_features(observation, self.actor.features_extractor)

    def gains(self, features: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """What each critic expects of ``(B, P)`` actions: ``(K, B)``."""
        return torch.stack([critic(features, actions) for critic in self.critics])


class DPG(Remembering):
    """The learner; arguments as SB3's off-policy algorithms take them.

    Args:
        caution: deviations between the critics that are taken off their mean before the actor climbs it.
        patience: renders around the first answers, neutral or stored ones, before the actor first moves;
            critics that know less send it far away (TRIALS.md).
        jitter: deviations of noise at the states where the actor climbs; one that saw a few hundred
            photographs follows its critics less well between them (TRIALS.md).
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MultiInputPolicy": DPGPolicy}
    policy: DPGPolicy

    def __init__(
        self,
        policy: str,
        env: Any,
        *,
        caution: float = 1.0,
        patience: int = 256,
        jitter: float = 0.5,
        **arguments: Any,
    ) -> None:
        super().__init__(policy, env, **arguments)
        self.caution, self.patience, self.jitter = caution, patience, jitter
        self._setup_model()

    def _setup_model(self) -> None:
        self.replay_buffer = self._memory(1, 1)
        super()._setup_model()
        # what the networks read of an observation is a hundred numbers of three thousand, and stays as it is
        self.replay_buffer = self._memory(self.buffer_size, self.policy.actor.features_dim)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        action, buffer_action = super()._sample_action(learning_starts, action_noise, n_envs)
        if self.policy.first is not None:  # what is no learner's choice is not explored
            at_first = dict(entries(self._last_obs))["progress"][:, 0] == 0
            chosen, _ = self.predict(self._last_obs, deterministic=True)  # type: ignore[arg-type]
            action[at_first] = chosen[at_first]
            buffer_action[at_first] = self.policy.scale_action(chosen)[at_first]
        return action, buffer_action

    @torch.no_grad()
    def _remembered(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> np.ndarray:
        observations, _ = self.policy.obs_to_tensor(self._last_obs)  # type: ignore[arg-type]
        return np.asarray(self.policy.features(observations).cpu())

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Fit the critics to samples of all renders so far, and let the actor climb them."""
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.policy.actor_optimizer, self.policy.critic_optimizer])
        losses = []
        for update in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)  # type: ignore[union-attr]
            gains = self.policy.gains(batch.observations, batch.actions)
            earned = batch.rewards[:, 0].clamp(min=FLOOR)
            loss = len(gains) * F.mse_loss(gains, earned.expand_as(gains))
            _descend(self.policy.critic_optimizer, loss)
            losses.append(loss.item() / len(gains))
            if self.num_timesteps >= self.patience and update % 2 == 0:
                self._climb(batch.observations)
        self._n_updates += gradient_steps
        self.policy.set_training_mode(False)
        self.logger.record("train/n_updates", self._n_updates)
        self.logger.record("train/critic_loss", float(np.mean(losses)))

    def _climb(self, features: torch.Tensor) -> None:
        """One step of the actor up the critics, which stay as they are."""
        self.policy.critics.requires_grad_(False)
        features = features + self.jitter * features.std(dim=0, correction=0) * torch.randn_like(features)
        expected = self.policy.gains(features, self.policy.actor.mu(features))
        cautious = expected.mean(dim=0) - self.caution * expected.std(dim=0)
        _descend(self.policy.actor_optimizer, -cautious.mean())
        self.policy.critics.requires_grad_(True)
        self.logger.record("train/expected_reward", expected.mean().item())

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.actor_optimizer", "policy.critic_optimizer"], []


def _descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
