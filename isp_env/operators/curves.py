"""Curves on display sRGB: the transfer function, channel curves, tone curve, contrast, gamma."""

from __future__ import annotations

from functools import cache
from math import comb

import torch
from torch import Tensor

from isp_env.filters import per_image

_KNEE = 0.0031308  # IEC 61966-2-1: below it the transfer function is a line
_BLACK = 1e-30  # raised to any of the exponents of `gamma` it is still 0 to the eye and to float16
MIDDLE_GREY = 0.46135613  # 18 % grey, display sRGB
_CONTRAST = 1.8  # the steepest that keeps both ends of the scale monotone is 1.857


def encode(image: Tensor) -> Tensor:
    """Linear sRGB to display sRGB, clipped to [0, 1].

    The same curve as `isp_env.color.linear_to_srgb`, to 1e-7, as a sum of its two pieces: a select on large
    images took longer than the power.
    """
    line = image.clamp(0.0, _KNEE)
    curve = image.clamp(_KNEE, 1.0).log2_().mul_(1 / 2.4).exp2_()
    return curve.mul_(1.055).sub_(0.055 + 12.92 * _KNEE).add_(line, alpha=12.92)


def knot_polynomial(offsets: Tensor) -> Tensor:
    """A smooth curve through (0, 0) and (1, 1), drawn by k inner knots, as coefficients.

    A Bernstein polynomial of degree k + 1 whose control point j, at j / (k + 1), is raised by its offset: the
    identity at offsets 0. Monotone, and within [0, 1], for offsets up to 0.2 at k = 3 and 1/6 at k = 2.

    Args:
        offsets: ``(B, k)`` for one curve on all channels, or ``(B, 3, k)``.

    Returns:
        ``(B, 1 or 3, k + 1)``: what `draw` adds to x, as coefficients of x^1 to x^(k + 1).
    """
    if offsets.ndim == 2:
        offsets = offsets[:, None]
    return offsets @ _power_basis(offsets.shape[-1]).to(offsets)


def draw(image: Tensor, polynomial: Tensor) -> Tensor:
    """Put display sRGB ``(B, 3, H, W)`` in [0, 1] through curves.

    Args:
        image: display sRGB.
        polynomial: from `knot_polynomial` or `contrast_polynomial`.
    """
    terms = polynomial[..., None, None].unbind(2)
    rise = image * terms[-1]  # x (c1 + c2 x + ... + cn x^(n-1)) by Horner's rule
    for term in reversed(terms[:-1]):
        rise = rise.add_(term).mul_(image)
    return rise.add_(image)


@cache
def _power_basis(knots: int) -> Tensor:
    """Row j: coefficients of x^1 ... x^n in ``C(n, j) x^j (1 - x)^(n - j)``, for n = knots + 1."""
    n = knots + 1
    rows = [
        [comb(n, j) * comb(n - j, i - j) * (-1) ** (i - j) if i >= j else 0 for i in range(1, n + 1)]
        for j in range(1, n)
    ]
    return torch.tensor(rows, dtype=torch.float32)


def contrast_polynomial(amount: Tensor) -> Tensor:
    """Steepen (or flatten) the scale around middle grey; black, middle grey and white stay where they are.

    A cubic, ``x + c (x - g) x (1 - x)`` with g at middle grey, as coefficients for `draw`.

    Args:
        amount: ``(B,)`` in [-1, 1]; the slope at middle grey is ``1 + 0.45 amount``.

    Returns:
        ``(B, 1, 3)``.
    """
    bend = amount.new_tensor([-MIDDLE_GREY, 1.0 + MIDDLE_GREY, -1.0]) * _CONTRAST
    return (amount[:, None] * bend)[:, None]


def gamma(image: Tensor, octaves: Tensor) -> Tensor:
    """Raise display sRGB in [0, 1] to the power ``2^-octaves``, ``(B,)``; positive brightens midtones."""
    # the logarithm of 0 takes ten times as long as any other
    return image.clamp_min(_BLACK).log2_().mul_(per_image(torch.exp2(-octaves))).exp2_()
