"""How a picture differs from the reference: pixels clipped anew, and colours in CIELAB.

What the guarded reward charges for, without its weights. All constants are our choice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab

_LEVEL = 1 / 255
# float slack: a level stored as 254/255 in float32 counts as clipped
_SLACK = 1e-6
_MIDDLE = 50.0  # CIELAB lightness: a picture that is brighter may be darkened down to it
_WHITE = 98.0  # CIELAB lightness from which on an area is white
_LIGHT, _PALE = 70.0, 4.0  # CIELAB: an area of more lightness and less chroma is a light grey


def newly_clipped(images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Fraction ``(B,)`` of pixels of which a channel is clipped, or all are black, in `images` and not in
    `reference`: within one 8-bit level of 1, or of 0.

    Channel by channel: a blue sky whose blue is clipped already may still lose its colour.
    """
    burnt = (images >= 1 - _LEVEL - _SLACK) & (reference < 1 - _LEVEL - _SLACK)
    black = _is_black(images) & ~_is_black(reference)
    return (_any_channel(burnt) | black).float().mean(dim=(1, 2))


def is_clipped(images: torch.Tensor) -> torch.Tensor:
    """Boolean ``(B, H, W)``: a channel within one 8-bit level of 1, or all channels within one of 0."""
    return _any_channel(images >= 1 - _LEVEL - _SLACK) | _is_black(images)


def _any_channel(holds: torch.Tensor) -> torch.Tensor:
    """Boolean ``(B, 3, H, W)`` to ``(B, H, W)``."""
    red, green, blue = holds.unbind(dim=1)
    return red | green | blue


def _is_black(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images.unbind(dim=1)
    # several times faster than amax(dim=1)
    return torch.maximum(torch.maximum(red, green), blue) <= _LEVEL + _SLACK


def color_terms(images: torch.Tensor, reference: torch.Tensor) -> dict[str, torch.Tensor]:
    """`COLOR_TERMS` by name, ``(B,)`` each, of float32 ``(B, 3, H, W)`` display sRGB."""
    now, before = rgb_to_lab(images), rgb_to_lab(reference)
    return {name: compare(now, before) for name, compare in COLOR_TERMS.items()}


def color_distance(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Mean chroma shift ``(B,)``: the length of ``(da*, db*)`` a pixel; lightness is free."""
    moved = now[:, 1:] - before[:, 1:]
    return _length(moved[:, 0], moved[:, 1]).mean(dim=(1, 2))


def lost_chroma(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Mean chroma ``(B,)`` that `now` lacks beside `before`, pixel by pixel; gains count 0."""
    return F.relu(_chroma(before) - _chroma(now)).mean(dim=(1, 2))


def darkening(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Mean lightness ``(B,)`` that `now` lacks to `before`'s, or to 50 where that is brighter.

    The mean of a picture, not a pixel's: contrast, which deepens shadows and lifts lights, is free.
    """
    return F.relu(_lightness(before).clamp(max=_MIDDLE) - _lightness(now))


def paling(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Mean chroma ``(B,)`` that `now` lacks to `before`'s, brought to its mean lightness.

    Where linear light is multiplied by one number, a*, b* and L* + 16 are multiplied by its cube root (CIE
    15:2004, above the linear toe), and colours look as rich as before: what only exposes does not pale. Of
    means, so that one colour may fade beside another that grows.
    """
    kept, had = (_chroma(lab).mean(dim=(1, 2)) for lab in (now, before))
    return F.relu(had * ((_lightness(now) + 16) / (_lightness(before) + 16)) - kept)


def greying(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Lightness ``(B,)`` that white areas of `before` have lost in `now`, as a mean over all areas.

    What the camera's own render shows white is saturated in the raw: a darker setting finds nothing there,
    and makes it a flat grey.
    """
    white = before[:, 0] >= _WHITE
    return (F.relu(before[:, 0] - now[:, 0]) * white).mean(dim=(1, 2))


def tinting(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Chroma ``(B,)`` that light grey areas of `before` have gained in `now`, as a mean over all areas.

    A white wall or a white dog is known to be white, and the eye sees a tint there first.
    """
    grey = (before[:, 0] >= _LIGHT) & (_chroma(before) <= _PALE)
    return (F.relu(_chroma(now) - _chroma(before)) * grey).mean(dim=(1, 2))


def turning(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Mean difference of hue ``(B,)``, CIELAB's metric one (CIE 15:2004), in units of chroma.

    What is left of a chroma shift without its part that is more or less chroma: an orange that turns red.
    """
    moved = (now[:, 1:] - before[:, 1:]).square().sum(dim=1)
    squared = moved - (_chroma(now) - _chroma(before)).square()
    least = 1e-4  # below it is rounding, of which a root would make much, and its slope more
    return squared.clamp(min=least).sqrt().sub(least**0.5).mean(dim=(1, 2))


# how a picture differs in colour from the reference, both CIELAB ``(B, 3, H, W)``
COLOR_TERMS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "color_distance": color_distance,
    "lost_chroma": lost_chroma,
    "darkening": darkening,
    "paling": paling,
    "greying": greying,
    "tinting": tinting,
    "turning": turning,
}


def _chroma(lab: torch.Tensor) -> torch.Tensor:
    """Of each pixel: ``(B, H, W)``."""
    return _length(lab[:, 1], lab[:, 2])


def _length(across: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """Of vectors of two coordinates; the slope at zero is zero.

    Ten times as fast as `torch.linalg.vector_norm` of a dimension of two.
    """
    squared = across.square() + along.square()
    none = (squared == 0).to(squared)
    return (squared + none).sqrt() - none


def _lightness(lab: torch.Tensor) -> torch.Tensor:
    """Of each picture, its mean: ``(B,)``."""
    return lab[:, 0].mean(dim=(1, 2))
