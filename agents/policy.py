"""Policies: SB3's own, fed standardised numbers, and the neutral render before the first update."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import (
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import QNetwork
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.td3.policies import Actor as TD3Actor
from torch import nn

from agents.begun import BegunPolicy
from agents.climb import Climb, ClimbPolicy
from agents.dpg import DPG, DPGPolicy
from agents.mirrored import MirroredPPO
from attiqa.errors import InputError
from isp_env.envs.core import Core
from isp_env.envs.task import SLOPE

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "climb": Climb,
    "dpg": DPG,
    "ppo": MirroredPPO,
    "a2c": A2C,
    "sac": SAC,
    "td3": TD3,
    "dqn": DQN,
}
ON_POLICY = frozenset({"ppo", "a2c"})

# action spaces that each algorithm of SB3 can drive
_ACTS_IN: dict[str, tuple[type[spaces.Space[Any]], ...]] = {
    "climb": (spaces.Box,),
    "dpg": (spaces.Box,),
    "ppo": (spaces.Box, spaces.Discrete, spaces.MultiDiscrete),
    "a2c": (spaces.Box, spaces.Discrete, spaces.MultiDiscrete),
    "sac": (spaces.Box,),
    "td3": (spaces.Box,),
    "dqn": (spaces.Discrete,),
}

PROGRESS = "progress"  # the entry of an observation that shows how much of the episode is over, 0 to 1
COMPONENTS = 24  # principal ones that dpg reads of each entry of an observation, at most

Observations = dict[str, np.ndarray]


class StandardisedExtractor(BaseFeaturesExtractor):
    """All entries of a Dict observation as one vector ``(B, D)``: standardised, clipped to ±5, each entry
    divided by the square root of its size and, where wanted, turned into its first principal components.

    Mean, spread and components are measured once, on observations of the training frames (`calibrate`), and
    travel with the weights; a statistic that keeps moving would change what an old sample meant. The division
    gives a thousand features of a network and a histogram of 64 bins one say each: a step of Adam moves every
    weight alike, and with a thousand inputs of size one it moved the action from one end to the other. The
    components leave out what tells one training photograph from another and nothing else: with all 2816
    features, critics know a few hundred photographs by heart; PPO, which sees each render once, does better
    with all of them, unless it sees slopes (TRIALS.md). Progress, a share, stays what it is.

    Args:
        observation_space: of the environment.
        components: what is left of an entry, at most; None leaves all of it.
    """

    LIMIT = 5.0
    LENGTH = 4.0  # of each entry, when it lies one deviation from the mean

    mean: torch.Tensor
    scale: torch.Tensor
    share: torch.Tensor

    def __init__(self, observation_space: spaces.Dict, components: int | None = None):
        sizes = {key: get_flattened_obs_dim(space) for key, space in observation_space.spaces.items()}
        total = sum(sizes.values())
        most = max(sizes.values()) if components is None else components
        super().__init__(observation_space, sum(min(size, most) for size in sizes.values()))
        self._sizes, self._components = sizes, most
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("scale", torch.ones(total))
        share = torch.cat([torch.full((n,), self.LENGTH / n**0.5) for n in sizes.values()])
        self.register_buffer("share", share, persistent=False)
        for key in self._wide():
            self.register_buffer(_basis(key), torch.zeros(sizes[key], self._components))

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Preprocessed observations, each ``(B, ...)``, to ``(B, D)``."""
        entries = self._standardised(observations)
        wide = self._wide()
        return torch.cat(
            [rows @ getattr(self, _basis(key)) if key in wide else rows for key, rows in entries.items()],
            dim=1,
        )

    def calibrate(self, observations: dict[str, torch.Tensor]) -> None:
        """Set all three from observations ``(B, ...)``; what hardly varies is only centred.

        Progress was seen of first and second looks alone: later ones would lie beyond the clip.
        """
        flat = self._flat(observations)
        self.mean.copy_(flat.mean(dim=0))
        spread = flat.std(dim=0, correction=0)
        self.scale.copy_(torch.where(spread > 1e-4, 1.0 / spread.clamp(min=1e-4), 1.0))
        if PROGRESS in self._sizes:
            self._apart(self.mean)[PROGRESS].zero_()
            self._apart(self.scale)[PROGRESS].fill_(1.0)
        entries = self._standardised(observations)
        for key in self._wide():
            basis = getattr(self, _basis(key)).zero_()  # fewer frames than components leave zeros
            # a component's sign is arbitrary: its largest entry is made positive
            components = torch.linalg.svd(entries[key].double(), full_matrices=False).Vh[: self._components]
            signs = components.gather(1, components.abs().argmax(dim=1, keepdim=True)).sign()
            basis[:, : len(components)] = (components * signs).T

    def mean_of(self, key: str) -> torch.Tensor:
        """An entry's mean over the training frames, ``(size,)``: what says nothing of a frame."""
        return self._apart(self.mean)[key]

    def adopt(self, other: StandardisedExtractor) -> torch.Tensor:
        """Read what `other` reads as it does, in one entry as in all.

        Returns:
            int64: which of the vector's numbers are those of `other`, in its order.
        """
        for name in ("mean", "scale"):
            own, theirs = self._apart(getattr(self, name)), other._apart(getattr(other, name))
            for key, values in theirs.items():
                own[key].copy_(values)
        for key in other._wide():
            getattr(self, _basis(key)).copy_(getattr(other, _basis(key)))
        kept = {key: min(size, self._components) for key, size in self._sizes.items()}
        places = torch.arange(self.features_dim).split(list(kept.values()))
        numbers = dict(zip(kept, places, strict=True))
        return torch.cat([numbers[key] for key in other._sizes])

    def _wide(self) -> list[str]:
        return [key for key, size in self._sizes.items() if size > self._components]

    def _standardised(self, observations: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Each entry ``(B, size)``."""
        standard = (self._flat(observations) - self.mean) * self.scale
        return self._apart(standard.clamp(-self.LIMIT, self.LIMIT) * self.share)

    def _apart(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Numbers of all entries ``(..., D)`` entry by entry: views."""
        return dict(zip(self._sizes, rows.split(list(self._sizes.values()), dim=-1), strict=True))

    def _flat(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        # in the order of the space: a rollout buffer and an environment may order their dicts differently
        return torch.cat([observations[key].flatten(start_dim=1) for key in self._sizes], dim=1)


def _basis(key: str) -> str:
    """The name of the buffer that holds the principal components of an entry."""
    return f"components_{key}"


class BegunActorCritic(MultiInputActorCriticPolicy):
    """SB3's actor and critic, built so that the actor can go on from that of a stored one: see `begin`.

    The mean of its actions passes a tanh, as the answer of dpg's actor does.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Sequential(self.action_net, nn.Tanh())


def begin(policy: BasePolicy, stored: BasePolicy) -> None:
    """Let `policy` begin with what a stored one of one look answers.

    Args:
        policy: a `BegunActorCritic`, which goes on from it but for its critic; a `DPGPolicy`, which takes
            the critics of another one too: even of another reward they know most of what actions do; or a
            `DPGPolicy` built with ``begun=True`` or a `agents.climb.ClimbPolicy`, in which it makes the first
            look. What it sees and `stored` does not makes no difference at first.
        stored: a `DPGPolicy` or a `BegunActorCritic`.

    Raises:
        ValueError: policies of other kinds.
    """
    first = policy.first if isinstance(policy, BegunPolicy) else None
    own_extractor, own_layers = actor_of(policy if first is None else first)
    extractor, layers = actor_of(stored)
    known = own_extractor.adopt(extractor)
    _take_over(own_layers[0], layers[0], known)
    for own, layer in zip(own_layers[1:], layers[1:], strict=True):
        own.load_state_dict(layer.state_dict())
    if first is None and isinstance(policy, DPGPolicy) and isinstance(stored, DPGPolicy):
        pairs: Any = zip(policy.critics, stored.critics, strict=True)
        for critic, other in pairs:
            _take_over(critic.state, other.state, known)
            critic.action.load_state_dict(other.action.state_dict())
            critic.rest.load_state_dict(other.rest.state_dict())


def put_to_work(policy: BasePolicy, core: Core) -> None:
    """Let `policy` act on frames of `core`, or of another with its renderer and its reward.

    Policies that consider renders before they act are told what renders, and what is charged for.
    """
    if isinstance(policy, ClimbPolicy):
        policy.work_on(core)


def is_begun(policy: BasePolicy) -> bool:
    """Whether it was built to go on from a stored policy, or after its first look: see `policy_arguments`."""
    if isinstance(policy, BegunPolicy):
        return policy.first is not None
    return isinstance(policy, BegunActorCritic)


@torch.no_grad()
def _take_over(layer: nn.Linear, stored: nn.Linear, known: torch.Tensor) -> None:
    """Let `layer` answer as `stored` does, whose inputs are the inputs `known` of its own."""
    layer.weight.zero_()
    layer.weight[:, known] = stored.weight
    layer.bias.copy_(stored.bias)


def actor_of(policy: nn.Module) -> tuple[StandardisedExtractor, list[nn.Linear]]:
    """What an actor that ends in a tanh reads, and its layers in order.

    Raises:
        ValueError: another kind of policy.
    """
    if isinstance(policy, DPGPolicy):
        policy = policy.actor
    extractor: Any = getattr(policy, "features_extractor", None)
    if isinstance(policy, TD3Actor):
        return extractor, linears(policy.mu)
    if isinstance(policy, BegunActorCritic):
        return extractor, linears(policy.mlp_extractor.policy_net) + linears(policy.action_net)
    raise ValueError(f"a {type(policy).__name__} has no actor that another policy could go on from")


def policy_class(algo: str, begun: bool = False) -> type[BasePolicy]:
    """The class of the policies of `algo`; of those that go on from a stored one where `begun`."""
    if begun and algo in ON_POLICY:
        return BegunActorCritic
    aliases: dict[str, type[BasePolicy]] = ALGORITHMS[algo].policy_aliases
    return aliases["MultiInputPolicy"]


def check_action_space(algo: str, action_space: spaces.Space[Any]) -> None:
    """Raise `InputError` where `algo` cannot act in `action_space`."""
    if not isinstance(action_space, _ACTS_IN[algo]):
        able = [name for name, kinds in _ACTS_IN.items() if isinstance(action_space, kinds)]
        raise InputError(
            f"{algo} cannot act in a {type(action_space).__name__} action space; "
            f"take --algo {' or '.join(able)}."
        )


def policy_arguments(
    algo: str,
    hidden: list[int],
    log_std: float,
    components: int = COMPONENTS,
    begun: bool = False,
    slopes: bool = False,
) -> dict[str, Any]:
    """SB3's ``policy_kwargs`` for a `policy_class` with `hidden` layers for actor and critic each.

    `log_std` is the logarithm of the initial deviation of a Gaussian policy, in units of half the action
    range; it does not depend on the observation in PPO and A2C. Where `slopes` are seen, `components` of
    wide entries are read: a dozen slopes say little beside thousands of features (TRIALS.md).
    """
    heads = {"pi": hidden, "vf": hidden} if algo in ON_POLICY else hidden
    arguments: dict[str, Any] = {"features_extractor_class": StandardisedExtractor, "net_arch": heads}
    if algo in ("dpg", "climb"):
        arguments["begun"] = begun
    if algo in ("dpg", "climb") or begun or slopes:
        arguments["features_extractor_kwargs"] = {"components": components}
    if algo in ON_POLICY:
        arguments["log_std_init"] = log_std
    return arguments


def build_policy(
    algo: str,
    observation_space: spaces.Dict,
    action_space: spaces.Space[Any],
    hidden: list[int],
    log_std: float,
    components: int = COMPONENTS,
    begun: bool = False,
) -> BasePolicy:
    """The policy network alone, as SB3's `algo` would build it, at the identity."""
    check_action_space(algo, action_space)
    kind: Any = policy_class(algo, begun)
    policy: BasePolicy = kind(
        observation_space,
        action_space,
        lambda _: 0.0,
        **policy_arguments(algo, hidden, log_std, components, begun, SLOPE in observation_space.spaces),
    )
    start_at_identity(policy, log_std)
    return policy


def start_at_identity(policy: BasePolicy, log_std: float) -> None:
    """Zero the action heads: action 0 is the neutral render, and for choices action 0 is to stop.

    The actors of SAC start with the deviation ``exp(log_std)`` for every observation.
    """
    for module in policy.modules():
        if isinstance(module, ActorCriticPolicy):
            _fill(linears(module.action_net)[-1], 0.0)
        elif isinstance(module, SACActor):
            _fill(module.mu, 0.0)
            _fill(module.log_std, log_std)
        elif isinstance(module, TD3Actor):
            _fill(linears(module.mu)[-1], 0.0)
        elif isinstance(module, QNetwork):
            _fill(linears(module.q_net)[-1], 0.0)


def calibrate(policy: BasePolicy, observations: Observations) -> None:
    """Standardise every input of `policy` by observations ``(B, ...)`` of the training frames."""
    tensors, _ = policy.obs_to_tensor(observations)
    for module in policy.modules():
        if isinstance(module, StandardisedExtractor):
            with torch.no_grad():
                module.calibrate({key: value.float() for key, value in tensors.items()})  # type: ignore[union-attr]


def usual(policy: BasePolicy, key: str) -> torch.Tensor:
    """The mean of an entry of the observations over the frames that `policy` was trained on, ``(size,)``."""
    reader = next(module for module in policy.modules() if isinstance(module, StandardisedExtractor))
    return reader.mean_of(key)


def act(policy: BasePolicy, observations: Observations) -> np.ndarray:
    """The policy's best actions, without exploration, inside the action space: ``(B, ...)``.

    Entries of the observations that it does not read are left out.
    """
    own = {key: observations[key] for key in policy.observation_space.spaces}  # type: ignore[attr-defined]
    actions, _ = policy.predict(own, deterministic=True)
    return np.asarray(actions)


def linears(network: nn.Module) -> list[nn.Linear]:
    """Its linear layers, in order."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def _fill(layer: Any, bias: float) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
