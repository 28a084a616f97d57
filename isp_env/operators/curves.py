"""Curves on display sRGB: the transfer function, channel curves, tone curve, contrast, gamma."""

from __future__ import annotations

from functools import cache
from math import comb

import torch
from torch import Tensor

from isp_env.filters import per_image

_KNEE = 0.0031308  # IEC 61966-2-1: below it the transfer function is a line
MIDDLE_GREY = 0.46135613  # 18 % grey, display sRGB
_CONTRAST = 1.8  # the steepest that keeps both ends of the scale monotone is 1.857


def encode(image: Tensor) -> Tensor:
    """Linear sRGB to display sRGB, clipped to [0, 1].

    The same curve as `isp_env.color.linear_to_srgb`, to 1e-7, as a sum of its two pieces: a select on large
    images took longer than the power.
    """
    image = image.clamp(0.0, 1.0)
    line = image.clamp_max(_KNEE).sub_(_KNEE)
    return image.clamp_min_(_KNEE).pow_(1 / 2.4).mul_(1.055).sub_(0.055).add_(line, alpha=12.92)


def knot_curve(image: Tensor, offsets: Tensor) -> Tensor:
    """A smooth curve through (0, 0) and (1, 1), drawn by k inner knots.

    A Bernstein polynomial of degree k + 1 whose control point j, at j / (k + 1), is raised by its offset: the
    identity at offsets 0. Monotone, and within [0, 1], for offsets up to 0.2 at k = 3 and 1/6 at k = 2.

    Args:
        image: ``(B, 3, H, W)`` display sRGB in [0, 1].
        offsets: ``(B, k)`` for one curve on all channels, or ``(B, 3, k)``.
    """
    if offsets.ndim == 2:
        offsets = offsets[:, None]
    # x (c1 + c2 x + ... + cn x^(n-1)) by Horner's rule
    coefficients = (offsets @ _power_basis(offsets.shape[-1]).to(offsets))[
        ..., None, None
    ]  # (B, 1|3, n, 1, 1)
    terms = coefficients.unbind(2)
    rise = image * terms[-1] + terms[-2]
    for term in reversed(terms[:-2]):
        rise = rise.mul_(image).add_(term)
    return torch.addcmul(image, image, rise)


@cache
def _power_basis(knots: int) -> Tensor:
    """Row j: coefficients of x^1 ... x^n in ``C(n, j) x^j (1 - x)^(n - j)``, for n = knots + 1."""
    n = knots + 1
    rows = [
        [comb(n, j) * comb(n - j, i - j) * (-1) ** (i - j) if i >= j else 0 for i in range(1, n + 1)]
        for j in range(1, n)
    ]
    return torch.tensor(rows, dtype=torch.float32)


def contrast(image: Tensor, amount: Tensor) -> Tensor:
    """Steepen (or flatten) the scale around middle grey; black, middle grey and white stay where they are.

    Args:
        image: ``(B, 3, H, W)`` display sRGB in [0, 1].
        amount: ``(B,)`` in [-1, 1]; the slope at middle grey is ``1 + 0.45 amount``.
    """
    bend = (image - MIDDLE_GREY).mul_(per_image(_CONTRAST * amount))
    return torch.addcmul(image, bend.mul_(image), 1.0 - image)


def gamma(image: Tensor, octaves: Tensor) -> Tensor:
    """Raise display sRGB in [0, 1] to the power ``2^-octaves``, ``(B,)``; positive brightens midtones."""
    return image.pow(per_image(torch.exp2(-octaves)))
