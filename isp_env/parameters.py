"""The parameters of the ISP: one ordered table for names, units, limits, neutral values and documentation.

Agents act in [-1, 1]; operators take physical units. `ParameterSpace` maps one to the other, piecewise
linearly: 0 is the neutral value (the camera's default render), -1 and +1 are the documented limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from attiqa.errors import InputError


@dataclass(frozen=True)
class Parameter:
    """One number that an agent sets.

    Attributes:
        name: identifier, unique in the table.
        unit: physical unit; empty where the number is a bare strength.
        low: physical value at action -1.
        high: physical value at action +1.
        neutral: physical value at action 0, the camera's default. Where it equals `low`, negative
            actions do nothing.
        operator: the operator of `isp_env.pipeline` that reads it.
        doc: what a user sees when it grows.
    """

    name: str
    unit: str
    low: float
    high: float
    neutral: float
    operator: str
    doc: str


def _strength(name: str, operator: str, doc: str, low: float = -1.0, high: float = 1.0) -> Parameter:
    return Parameter(name, "", low, high, 0.0, operator, doc)


# In the order in which the pipeline reads them (the operator table of DESIGN.md). Limits are our choice:
# wide enough to mend a bad exposure or balance, and every picture inside them can still be looked at.
PARAMETERS: tuple[Parameter, ...] = (
    _strength("denoise_luma", "denoise", "smooths brightness noise, keeps edges", low=0.0),
    _strength("denoise_chroma", "denoise", "smooths colour noise, keeps edges", low=0.0),
    Parameter("temperature", "mired", -80.0, 80.0, 0.0, "white_balance", "warms; 0 is the as-shot balance"),
    Parameter("tint", "EV", -0.25, 0.25, 0.0, "white_balance", "from green to magenta, in stops of green"),
    Parameter("exposure", "EV", -2.0, 2.0, 0.0, "exposure", "brightens all of the scene's light"),
    _strength("highlights", "tone_regions", "brightens bright regions; negative recovers them"),
    _strength("shadows", "tone_regions", "lifts dark regions; negative deepens them"),
    _strength("whites", "tone_regions", "brightens the very brightest regions"),
    _strength("blacks", "tone_regions", "lifts the very darkest regions"),
    _strength("dehaze", "dehaze", "removes a veil of haze; negative adds one"),
    _strength("clarity", "clarity", "strengthens mid-sized local contrast; negative softens it"),
    _strength("tone_map", "tone_map", "rolls highlights off instead of clipping them", low=0.0),
    Parameter("red_shadows", "", -0.1, 0.1, 0.0, "channel_curves", "raises red at 1/3 of the scale"),
    Parameter("red_highlights", "", -0.1, 0.1, 0.0, "channel_curves", "raises red at 2/3 of the scale"),
    Parameter("green_shadows", "", -0.1, 0.1, 0.0, "channel_curves", "raises green at 1/3 of the scale"),
    Parameter("green_highlights", "", -0.1, 0.1, 0.0, "channel_curves", "raises green at 2/3 of the scale"),
    Parameter("blue_shadows", "", -0.1, 0.1, 0.0, "channel_curves", "raises blue at 1/3 of the scale"),
    Parameter("blue_highlights", "", -0.1, 0.1, 0.0, "channel_curves", "raises blue at 2/3 of the scale"),
    Parameter("tone_shadows", "", -0.2, 0.2, 0.0, "tone_curve", "raises the tone curve's knot at 1/4"),
    Parameter("tone_midtones", "", -0.2, 0.2, 0.0, "tone_curve", "raises the tone curve's knot at 1/2"),
    Parameter("tone_highlights", "", -0.2, 0.2, 0.0, "tone_curve", "raises the tone curve's knot at 3/4"),
    _strength("contrast", "contrast", "steepens the tone curve around middle grey"),
    _strength("saturation", "color", "strengthens all colours; -1 is grey"),
    _strength("vibrance", "color", "strengthens pale colours more than strong ones"),
    Parameter("hue", "degree", -20.0, 20.0, 0.0, "color", "turns all hues, red towards yellow"),
    _strength("monochrome", "color", "mixes towards black and white", low=0.0),
    _strength("monochrome_filter", "color", "black and white through a filter, from blue to red"),
    Parameter("gamma", "octave", -0.5, 0.5, 0.0, "gamma", "brightens midtones: exponent 2^-gamma"),
    _strength("clahe", "clahe", "equalises contrast locally (CLAHE), blended in", low=0.0),
    # it does not soften: on a preview networks like that in places, at full size texture is lost (TRIALS.md)
    Parameter("sharpen", "", 0.0, 1.5, 0.0, "sharpen", "strengthens fine detail"),
    Parameter(
        "sharpen_radius", "% of short side", 0.2, 1.0, 0.4, "sharpen", "the size of detail that sharpen takes"
    ),
)

# What matters most for enhancement, and few enough for an agent to learn quickly
TUNE_PARAMETERS: tuple[str, ...] = (
    "denoise_luma",
    "denoise_chroma",
    "temperature",
    "tint",
    "exposure",
    "highlights",
    "shadows",
    "tone_shadows",
    "tone_midtones",
    "tone_highlights",
    "contrast",
    "saturation",
    "vibrance",
    "sharpen",
)

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


class ParameterSpace:
    """An ordered choice of parameters, and the map between actions and their physical values.

    Args:
        names: parameters by name, each once; ``None`` takes the whole table. Parameters that are left
            out stay neutral.

    Raises:
        InputError: an unknown or repeated name, or none at all.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        chosen = tuple(_BY_NAME) if names is None else tuple(names)
        unknown = [name for name in chosen if name not in _BY_NAME]
        if unknown:
            raise InputError(f"unknown parameter {', '.join(unknown)}; choose from {', '.join(_BY_NAME)}.")
        if not chosen or len(set(chosen)) != len(chosen):
            raise InputError(f"expected at least one parameter, each named once; got {list(chosen)}.")
        self.names = chosen
        self.parameters = tuple(_BY_NAME[name] for name in chosen)
        self.low = torch.tensor([parameter.low for parameter in self.parameters])
        self.high = torch.tensor([parameter.high for parameter in self.parameters])
        self.neutral = torch.tensor([parameter.neutral for parameter in self.parameters])

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"ParameterSpace({list(self.names)})"

    def units_of(self, actions: torch.Tensor) -> torch.Tensor:
        """Physical units in a unit of action at actions ``(B, P)``: ``(B, P)``; at 0 those above it."""
        low, neutral, high = self._limits(actions)
        return torch.where(actions >= 0.0, high - neutral, neutral - low)

    def within(self, actions: torch.Tensor) -> torch.Tensor:
        """Actions ``(B, P)`` clipped to those that do something: [-1, 1], or [0, 1] where neutral is low."""
        self._check(actions, "actions")
        low, neutral, high = self._limits(actions)
        return torch.minimum(
            torch.maximum(actions, -(low < neutral).to(actions)), (high > neutral).to(actions)
        )

    def to_physical(self, actions: torch.Tensor) -> torch.Tensor:
        """Actions ``(B, P)`` in [-1, 1] (clamped to it) to physical values ``(B, P)``, on the same device."""
        self._check(actions, "actions")
        low, neutral, high = self._limits(actions)
        actions = actions.clamp(-1.0, 1.0)
        return neutral + actions.clamp(min=0.0) * (high - neutral) + actions.clamp(max=0.0) * (neutral - low)

    def to_action(self, values: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_physical`: physical values ``(B, P)`` to actions ``(B, P)`` in [-1, 1]."""
        self._check(values, "values")
        low, neutral, high = self._limits(values)
        offset = values - neutral
        # a parameter whose neutral value is one of its limits has no range on that side: action 0
        up = torch.where(high > neutral, offset / (high - neutral), 0.0)
        down = torch.where(low < neutral, offset / (neutral - low), 0.0)
        return torch.where(offset >= 0, up, down).clamp(-1.0, 1.0)

    def neutral_values(self, count: int, device: torch.device | str | None = None) -> torch.Tensor:
        """The neutral values of `count` images, ``(count, P)``."""
        return self.neutral.to(device).expand(count, -1).clone()

    def as_dict(self, values: torch.Tensor) -> dict[str, float]:
        """One image's physical values ``(P,)`` by name."""
        return dict(zip(self.names, values.tolist(), strict=True))

    def describe(self) -> list[dict[str, Any]]:
        """The table's rows for these parameters as JSON values, to be stored beside what they made."""
        return [asdict(parameter) for parameter in self.parameters]

    def _limits(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.low.to(like), self.neutral.to(like), self.high.to(like)

    def _check(self, rows: torch.Tensor, what: str) -> None:
        if rows.ndim != 2 or rows.shape[1] != len(self):
            raise InputError(f"expected {what} of shape (B, {len(self)}); got {tuple(rows.shape)}.")


def parameter_table() -> str:
    """The whole table as Markdown, for the documentation."""
    lines = ["| Parameter | Unit | At -1 | At 0 | At +1 | Growing it |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{row.name}` | {row.unit or '-'} | {row.low:g} | {row.neutral:g} | {row.high:g} | {row.doc} |"
        for row in PARAMETERS
    ]
    return "\n".join(lines) + "\n"
