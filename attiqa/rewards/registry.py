"""Rewards by name, for commands: ``guarded``, a model's score, one attribute, or a callable of one's own.

The parts of the guard are options behind a colon: ``guarded:views=whole,deviations=0`` looks at the whole
image only, ``guarded:clip_weight=0,color_weight=0,chroma_weight=0,darkening_weight=0,paling_weight=0,
greying_weight=0,tinting_weight=0,turning_weight=0`` punishes nothing; `GUARD` names them all.
"""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any

import torch

from attiqa.attributes import read_attributes
from attiqa.errors import InputError
from attiqa.model import DEFAULT_MODEL, QualityModel, load
from attiqa.rewards.guarded import VIEWS, GuardedReward
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

# the options of `attiqa.rewards.guarded.GuardedReward` that are numbers; ``views`` is the other one
GUARD = (
    "deviations",
    "clip_weight",
    "clip_tolerance",
    "color_weight",
    "color_radius",
    "chroma_weight",
    "darkening_weight",
    "paling_weight",
    "greying_weight",
    "tinting_weight",
    "turning_weight",
)
# what was free before the guard charged for it; a record names all options that there were
_LATER = GUARD[GUARD.index("chroma_weight") :]


def reward_names() -> list[str]:
    """The names that `build_reward` knows."""
    return [_GUARDED, DEFAULT_MODEL, *read_attributes().names]


def is_own(name: str) -> bool:
    """Whether a reward of this name needs nothing but this package."""
    return name in reward_names() or _is_guarded(name)


def full_name(name: str) -> str:
    """A reward's name as records keep it: ``guarded`` with all of its options as they are now.

    Other names come back as they are. So a later version, whose guard has other defaults, builds what a
    record means, and two spellings of one reward are known to be one.

    Raises:
        InputError: an option that the guard does not have.
    """
    if not _is_guarded(name):
        return name
    return f"{_GUARDED}:{','.join(_spelled(_defaults() | _guard_options(name)))}"


def short_name(name: str) -> str:
    """A reward's name to be read: of the options of ``guarded`` those that are not as they are now."""
    if not _is_guarded(name):
        return name
    spelled = zip(_spelled(_defaults() | _guard_options(name)), _spelled(_defaults()), strict=True)
    own = [option for option, default in spelled if option != default]
    return f"{_GUARDED}:{','.join(own)}" if own else _GUARDED


def build_reward(
    name: str = _GUARDED, device: str | torch.device = "cpu", precision: str = "float32"
) -> AnyReward:
    """Build a reward by name.

    Args:
        name: ``guarded`` (the bundled model, guarded; needs a reference render), with options as in
            ``guarded:views=whole+cropped-mirrored,deviations=1,clip_weight=2,clip_tolerance=0.01,
            color_weight=0.02,color_radius=12,chroma_weight=0.01,darkening_weight=0.005,paling_weight=0.02,
            greying_weight=0.05,tinting_weight=0.02,turning_weight=0.01``, ``attiqa-mini`` (its bare score),
            one of its attributes, the path of a model's ``.safetensors`` file (its bare score), or
            ``module:callable`` for a reward of one's own, which imports and so runs that module.
        device: where the scores are computed.
        precision: of the models' backbones: ``float32`` or ``bfloat16`` (see `attiqa.model.QualityModel`).

    Raises:
        InputError: the name is unknown; the sentence lists the known ones. Or a precision is asked of a
            callable, which has its own.
    """
    if _is_guarded(name):
        return GuardedReward([load(DEFAULT_MODEL, device, precision)], **_guard_options(name))
    if name in reward_names():
        model = load(DEFAULT_MODEL, device, precision)
        return model if name == DEFAULT_MODEL else AttributeReward(model, name)
    if name.endswith(".safetensors"):
        return load(name, device, precision)
    if ":" in name:
        if precision != "float32":
            raise InputError(
                f"the reward {name!r} computes as it likes: {precision} is for the models of this package."
            )
        return _import_reward(name)
    raise InputError(
        f"there is no reward named {name!r}; choose {', '.join(reward_names())}, "
        "guarded:OPTION=VALUE,..., a model's .safetensors file, or module:callable for your own."
    )


def _is_guarded(name: str) -> bool:
    return name.partition(":")[0] == _GUARDED


def _defaults() -> dict[str, Any]:
    """The guard's options as they are where a name does not say."""
    known = inspect.signature(GuardedReward).parameters
    return {key: known[key].default for key in ("views", *GUARD)}


def _spelled(options: dict[str, Any]) -> list[str]:
    """Options as a name has them, in order: ``views=whole+cropped``, ``deviations=0``, ..."""
    return [f"views={'+'.join(options['views'])}", *(f"{key}={options[key]:.15g}" for key in GUARD)]


def _guard_options(name: str) -> dict[str, Any]:
    """``guarded:views=whole+cropped,deviations=0`` to keyword arguments of `GuardedReward`."""
    options: dict[str, Any] = {}
    if name == _GUARDED:
        return options
    for part in name.partition(":")[2].split(","):
        key, _, value = part.partition("=")
        if key == "views":
            options[key] = value.split("+")
        elif key in GUARD and _is_finite(value):
            options[key] = float(value)
        else:
            raise InputError(
                f"the guard has no option {part!r}; it has views=NAME+NAME (of {', '.join(VIEWS)}) and, with "
                f"a number each, {', '.join(GUARD)}, separated by commas."
            )
    if options.keys() >= {"views", *GUARD}.difference(_LATER):
        options = dict.fromkeys(_LATER, 0.0) | options
    return options


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _import_reward(name: str) -> AnyReward:
    module, _, attribute = name.partition(":")
    try:
        reward = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the reward {name!r} cannot be imported ({error}); expected module:callable, the module's "
            "folder in PYTHONPATH."
        ) from None
    if not callable(reward):
        raise InputError(f"the reward {name!r} is no callable but {type(reward).__name__}.")
    return reward
