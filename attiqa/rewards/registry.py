"""Rewards by name, for commands: ``guarded``, a model's score, one attribute, or a callable of one's own."""

from __future__ import annotations

import importlib

import torch

from attiqa.attributes import read_attributes
from attiqa.errors import InputError
from attiqa.model import DEFAULT_MODEL, QualityModel, load
from attiqa.rewards.guarded import GuardedReward
from attiqa.rewards.protocol import ReferencedReward, Reward

AnyReward = Reward | ReferencedReward


class AttributeReward:
    """One attribute of a quality model as a plain reward; higher is better."""

    def __init__(self, model: QualityModel, attribute: str) -> None:
        if attribute not in model.attribute_names:
            raise InputError(
                f"the model has no attribute {attribute!r}; it has {', '.join(model.attribute_names)}."
            )
        self.model = model
        self._column = model.attribute_names.index(attribute)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The attribute ``(B,)`` of float32 ``(B, 3, H, W)`` display sRGB."""
        return self.model.attributes(images)[:, self._column]


_GUARDED = "guarded"


def reward_names() -> list[str]:
    """The names that `build_reward` knows."""
    return [_GUARDED, DEFAULT_MODEL, *read_attributes().names]


def build_reward(name: str = _GUARDED, device: str | torch.device = "cpu") -> AnyReward:
    """Build a reward by name.

    Args:
        name: ``guarded`` (the bundled model, guarded; needs a reference render), ``attiqa-mini`` (its bare
            score), one of its attributes, the path of a model's ``.safetensors`` file (its bare score), or
            ``module:callable`` for a reward of one's own, which imports and so runs that module.
        device: where the scores are computed.

    Raises:
        InputError: the name is unknown; the sentence lists the known ones.
    """
    if name in reward_names():
        model = load(DEFAULT_MODEL, device=device)
        if name == _GUARDED:
            return GuardedReward([model])
        return model if name == DEFAULT_MODEL else AttributeReward(model, name)
    if name.endswith(".safetensors"):
        return load(name, device=device)
    if ":" in name:
        return _import_reward(name)
    raise InputError(
        f"there is no reward named {name!r}; choose {', '.join(reward_names())}, "
        "a model's .safetensors file, or module:callable for your own."
    )


def _import_reward(name: str) -> AnyReward:
    module, _, attribute = name.partition(":")
    try:
        reward = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the reward {name!r} cannot be imported ({error}); expected module:callable."
        ) from None
    if not callable(reward):
        raise InputError(f"the reward {name!r} is no callable but {type(reward).__name__}.")
    return reward
