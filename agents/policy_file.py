"""Policies on disk: ``policy.safetensors`` and its card ``policy.json``. Loading them runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from stable_baselines3.common.policies import BasePolicy

from agents.climb import SEES
from agents.policy import ALGORITHMS, COMPONENTS, Observations, act, build_policy, usual
from attiqa.errors import InputError
from attiqa.files import atomic_path, file_digest, read_json, write_json
from isp_env.envs.task import SLOPE

FORMAT = "attiqa-policy-2"
WEIGHTS = "policy.safetensors"
CARD = "policy.json"
SHIPPED = Path(__file__).resolve().parent / "policies"  # a folder each


@dataclass(frozen=True)
class StoredPolicy:
    """A policy and what it needs to be used.

    Attributes:
        policy: the network, in evaluation mode.
        card: all that is known of it: algorithm, spaces, parameters, eye, reward, training.
        digest: SHA-256 of its weights.
        told: entries of the observations, ``(size,)`` each, that it takes these values for whatever it sees.
    """

    policy: BasePolicy
    card: dict[str, Any]
    digest: str
    told: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def algo(self) -> str:
        """What trained it, a key of `agents.policy.ALGORITHMS`."""
        return str(self.card["network"]["algo"])

    @property
    def sees(self) -> tuple[str, ...]:
        """The entries of the observations that it reads."""
        return tuple(self.card["network"]["observation_space"])

    @property
    def sees_slopes(self) -> bool:
        """Whether it has to be shown how the reward rises at the neutral render."""
        return sees_slopes(self.card) and SLOPE not in self.told

    def act(self, observations: Observations) -> np.ndarray:
        """The best actions ``(B, ...)`` for observations ``(B, ...)``."""
        count = len(next(iter(observations.values())))
        told = {name: np.tile(values, (count, 1)) for name, values in self.told.items()}
        return act(self.policy, {**observations, **told})

    @property
    def hidden(self) -> list[int]:
        """Sizes of the hidden layers."""
        return [int(size) for size in self.card["network"]["hidden"]]

    def without_slopes(self) -> StoredPolicy:
        """The policy as it is where none can be had, in ONNX and TorchScript: told their mean."""
        return replace(self, told={SLOPE: usual(self.policy, SLOPE).cpu().numpy()})


def sees_slopes(card: Mapping[str, Any]) -> bool:
    """Whether a policy with this card, which may be incomplete, reads slopes at the neutral render."""
    return SLOPE in card.get("network", {}).get("observation_space", {})


def describe_network(
    algo: str,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    hidden: list[int],
    log_std: float,
    begun: bool = False,
) -> dict[str, Any]:
    """What `load_policy` needs to build the network again, as JSON values."""
    if not isinstance(observation_space, spaces.Dict):
        raise InputError(f"policies see a Dict observation; this one is {observation_space}.")
    return {
        "algo": algo,
        "observation_space": {key: _space_record(space) for key, space in observation_space.spaces.items()},
        "action_space": _space_record(action_space),
        "hidden": hidden,
        "log_std": log_std,
        "components": COMPONENTS,
        "begun": begun,
    }


def save_policy(folder: Path, policy: BasePolicy, network: dict[str, Any], about: dict[str, Any]) -> str:
    """Write weights and card; returns the digest of the weights.

    Args:
        folder: where the two files go.
        policy: what is saved.
        network: from `describe_network`.
        about: further entries of the card.
    """
    with atomic_path(folder / WEIGHTS) as temporary:
        weights = {key: value.detach().cpu().clone() for key, value in policy.state_dict().items()}
        safetensors.torch.save_file(weights, temporary)
    digest = file_digest(folder / WEIGHTS)
    write_json(folder / CARD, {"format": FORMAT, "digest": digest, "network": network, **about})
    return digest


def load_policy(folder: Path, device: str = "cpu") -> StoredPolicy:
    """Read a policy from a run folder.

    Raises:
        InputError: no policy there, a file of another format or architecture, or weights that are not
            those that the card describes.
    """
    card = read_json(folder / CARD, "the card of a trained policy (train one with agents/train_isp.py)")
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(f"{folder / CARD} is no policy card of the format {FORMAT}; train the policy again.")
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder / WEIGHTS} does not exist; it belongs beside {CARD}.")
    digest = file_digest(folder / WEIGHTS)
    if digest != card.get("digest"):
        raise InputError(
            f"{folder / WEIGHTS} is not the file that {CARD} describes (SHA-256 {digest[:12]}..., expected "
            f"{str(card.get('digest'))[:12]}...); copy both files of one run."
        )
    policy = _build(card, folder)
    load_weights(policy, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    policy.set_training_mode(False)
    return StoredPolicy(policy.to(device), card, digest)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; `InputError` where it is none."""
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}).") from None


def load_weights(policy: BasePolicy, weights: dict[str, Any], path: Path) -> None:
    """Copy `weights` into `policy`; `InputError` where they were made for another architecture."""
    expected = {key: tuple(value.shape) for key, value in policy.state_dict().items()}
    came = {key: tuple(value.shape) for key, value in weights.items()}
    if expected != came:
        odd = sorted(key for key in expected | came if expected.get(key) != came.get(key))
        raise InputError(
            f"{path} holds a policy of another architecture: {odd[0]} has shape "
            f"{came.get(odd[0], 'none')}, expected {expected.get(odd[0], 'none')}."
        )
    policy.load_state_dict(weights)


def _build(card: dict[str, Any], folder: Path) -> BasePolicy:
    try:
        network = card["network"]
        observation_space = spaces.Dict(
            {key: _space(record) for key, record in network["observation_space"].items()}
        )
        if network["algo"] not in ALGORITHMS:
            raise InputError(f"{folder / CARD} names the unknown algorithm {network['algo']!r}.")
        unseen = [name for name in SEES if name not in observation_space.spaces]
        if network["algo"] == "climb" and unseen:
            raise InputError(
                f"{folder / CARD} is of an earlier version, in which policies of climb did not see "
                f"{unseen[0]}; train the policy again."
            )
        return build_policy(
            network["algo"],
            observation_space,
            _space(network["action_space"]),
            [int(size) for size in network["hidden"]],
            float(network["log_std"]),
            int(network["components"]),
            bool(network["begun"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / CARD} is incomplete ({error!r}); copy both files of one run.") from None


def _space_record(space: spaces.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Box):
        return {
            "kind": "box",
            "low": float(space.low.min()),
            "high": float(space.high.max()),
            "shape": list(space.shape),
            "dtype": space.dtype.name,
        }
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "multi_discrete", "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "multi_binary", "n": int(np.prod(space.n))}
    raise InputError(
        f"policies act and see in Box, Discrete, MultiDiscrete and MultiBinary spaces; this one is {space}."
    )


def _space(record: dict[str, Any]) -> spaces.Space[Any]:
    if record["kind"] == "box":
        dtype = np.dtype(record["dtype"]).type
        return spaces.Box(record["low"], record["high"], tuple(record["shape"]), dtype)
    if record["kind"] == "discrete":
        return spaces.Discrete(record["n"])
    if record["kind"] == "multi_binary":
        return spaces.MultiBinary(record["n"])
    return spaces.MultiDiscrete(record["nvec"])
