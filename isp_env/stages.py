"""The pointwise work of the ISP, in stages that can be compiled, and the terms that they take.

A stage is a pure function of tensors. What an image's parameters mean to it stands in its *terms*: one row an
image, computed once a batch, and absent where no image uses the operator. What was measured of neighbourhoods
comes as *planes*, enlarged to the pixels in hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from isp_env.filters import correlate_symmetric, luminance, per_image
from isp_env.frame import RawBatch
from isp_env.operators import balance, color, curves, denoise, equalize, presence, tone
from isp_env.parameters import PARAMETERS, ParameterSpace

Terms = dict[str, Tensor]

_REGIONS = ("highlights", "shadows", "whites", "blacks")
_TONE_KNOTS = ("tone_shadows", "tone_midtones", "tone_highlights")
_CHANNEL_KNOTS = tuple(
    f"{channel}_{knot}" for channel in ("red", "green", "blue") for knot in ("shadows", "highlights")
)
_COLOR = ("saturation", "hue", "monochrome", "monochrome_filter")
# parameters that are their operator's only term
_ALONE = (
    "denoise_luma",
    "denoise_chroma",
    "dehaze",
    "clarity",
    "tone_map",
    "vibrance",
    "gamma",
    "clahe",
    "sharpen",
)


def terms_of(space: ParameterSpace, batch: RawBatch, values: Tensor) -> Terms:
    """What physical values mean to the operators.

    Args:
        space: the parameters that the columns hold; all others are neutral.
        batch: the frames, for their balance and matrices.
        values: ``(B, P)``.

    Returns:
        ``gains`` ``(B, 3)`` and ``matrix`` ``(B, 3, 3)`` always; the terms of each other operator where the
        parameter of an image is away from neutral, and of all of them where a gradient is asked for.
    """
    is_moved = (values != space.neutral.to(values)).any(dim=0).tolist()
    moved = {name for name, yes in zip(space.names, is_moved, strict=True) if yes or values.requires_grad}
    columns = dict(zip(space.names, values.unbind(dim=1), strict=True))
    neutral = {row.name: row.neutral for row in PARAMETERS}

    def of(name: str) -> Tensor:
        return columns[name] if name in columns else values.new_full((len(values),), neutral[name])

    def stacked(names: tuple[str, ...]) -> Tensor:
        return torch.stack([of(name) for name in names], dim=1)

    gains = batch.white_balance
    if moved & {"temperature", "tint"}:
        gains = balance.balance_gains(gains, batch.color_matrix, of("temperature"), of("tint"))
    terms = {
        "gains": balance.normalized(gains),
        "matrix": balance.exposed(batch.color_matrix, of("exposure")),
    }
    terms |= {name: of(name) for name in _ALONE if name in moved}
    if moved & set(_REGIONS):
        terms["regions"] = stacked(_REGIONS)
    if moved & set(_CHANNEL_KNOTS):
        terms["channel_curves"] = curves.knot_polynomial(stacked(_CHANNEL_KNOTS).unflatten(1, (3, 2)))
    if moved & set(_TONE_KNOTS):
        terms["tone_curve"] = curves.knot_polynomial(stacked(_TONE_KNOTS))
    if "contrast" in moved:
        terms["contrast"] = curves.contrast_polynomial(of("contrast"))
    if moved & set(_COLOR):
        terms["color"] = color.color_mix(*(of(name) for name in _COLOR))
    if "sharpen" in moved:
        terms["sharpen_radius"] = of("sharpen_radius")
    return terms


class Stages:
    """How the pointwise work is done: as it is written, or compiled.

    Args:
        compiled: fuse each stage into one pass with `torch.compile`. Where that fails, for want of a C++
            compiler say, one sentence is logged and the work is done as it is written from then on.
    """

    def __init__(self, compiled: bool) -> None:
        self._compiled: dict[str, Callable[..., Any]] | None = {} if compiled else None

    def __getstate__(self) -> dict[str, Any]:
        # what was compiled for this process stays in it: a copy compiles anew
        return {"_compiled": {} if self.compiled else None}

    @property
    def compiled(self) -> bool:
        """Whether stages are compiled; false from the first failure on."""
        return self._compiled is not None

    def to_linear(self, image: Tensor, terms: Terms, planes: Terms) -> Tensor:
        """Camera linear to linear sRGB: balance, denoise, clip, colour matrix with exposure."""
        names = ("gains", "matrix", "denoise_luma", "denoise_chroma")
        return self._run(_to_linear, image, _only(terms, names), _only(planes, names))

    def tone_terms(self, image: Tensor, terms: Terms, planes: Terms) -> tuple[Tensor | None, Tensor | None]:
        """What tone multiplies pixels of linear sRGB by, and then takes off, ``(B, 1, H, W)``; None: nothing.

        Highlights, shadows, whites, blacks, dehaze, clarity and tone mapping treat a pixel's three channels
        alike: they need its luminance alone, and the image follows once, at the end.
        """
        names = ("regions", "dehaze", "clarity", "tone_map")
        own = _only(terms, names)
        if not own:
            return None, None
        return self._run(_tone_terms, image, own, _only(planes, ("base", "dehaze", "airlight")))

    def to_display(self, image: Tensor, gain: Tensor | None, veil: Tensor | None, terms: Terms) -> Tensor:
        """Linear sRGB to display sRGB: tone, transfer function, channel curves, tone curve, contrast."""
        own = _only(terms, ("channel_curves", "tone_curve", "contrast"))
        return self._run(_to_display, image, gain, veil, own)

    def mix(self, image: Tensor, terms: Terms) -> Tensor:
        """Display sRGB to the same, in [0, 1]: vibrance, saturation, hue, black and white, gamma."""
        own = _only(terms, ("vibrance", "color", "gamma"))
        return self._run(_mix, image, own) if own else image

    def equalize_gain(self, luma: Tensor, equalized: Tensor, strength: Tensor) -> Tensor:
        """What local equalisation multiplies display sRGB by; all ``(B, 1, H, W)``, strength ``(B,)``."""
        return self._run(equalize.equalize_gain, luma, equalized, strength)

    def finish(
        self, image: Tensor, gain: Tensor | None, luma: Tensor, blurred: Tensor | None, terms: Terms
    ) -> Tensor:
        """Display sRGB to the same, which may leave [0, 1]: local equalisation, sharpening of `luma`."""
        return self._run(_finish, image, gain, luma, blurred, terms.get("sharpen"))

    def correlate(self, padded: Tensor, kernel: Tensor, dim: int) -> Tensor:
        """See `isp_env.filters.correlate_symmetric`."""
        return self._run(correlate_symmetric, padded, kernel, dim)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._compiled is None:
            return function(*arguments)
        try:
            if function.__name__ not in self._compiled:
                self._compiled[function.__name__] = torch.compile(function)
            return self._compiled[function.__name__](*arguments)
        except Exception as error:  # whatever the compiler, or the lack of one, raises
            result = function(*arguments)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            logging.getLogger(__name__).warning(
                "the ISP could not be compiled (%s); it runs uncompiled, which is slower and gives the same.",
                reason,
            )
            self._compiled = None
            return result


def _only(tensors: Terms, names: tuple[str, ...]) -> Terms:
    """What a stage needs, so that it is not compiled anew when something else changes."""
    return {name: tensors[name] for name in names if name in tensors}


def _to_linear(image: Tensor, terms: Terms, planes: Terms) -> Tensor:
    image = balance.white_balance(image, terms["gains"])  # ours from here: changed in place
    if "denoise_luma" in terms:
        image.add_(denoise.luma_step(image, planes["denoise_luma"], terms["denoise_luma"]))
    if "denoise_chroma" in terms:
        image = denoise.denoise_chroma(image, planes["denoise_chroma"], terms["denoise_chroma"])
    return balance.to_linear_srgb(image.clamp_(0.0, 1.0), terms["matrix"])


def _tone_terms(image: Tensor, terms: Terms, planes: Terms) -> tuple[Tensor | None, Tensor | None]:
    light = luminance(image)
    gain: Tensor | None = None
    veil: Tensor | None = None
    if "regions" in terms or "clarity" in terms:
        base = tone.base_layer(light, planes["base"])
    if "regions" in terms:
        gain = tone.region_gain(base, terms["regions"])
        light = light * gain
    if "dehaze" in terms:
        clearer, veil = presence.dehaze_terms(light, planes["dehaze"], planes["airlight"], terms["dehaze"])
        light = (light * clearer).sub_(veil).clamp_min_(0.0)
        gain = _times(gain, clearer)
    if "clarity" in terms:
        if gain is not None:  # the base layer of the light as it is by now
            base = tone.lightness(_lit(base.square(), gain, veil))
        crisper = presence.clarity_gain(light, base, terms["clarity"])
        light = light * crisper
        gain, veil = _times(gain, crisper), None if veil is None else veil * crisper
    if "tone_map" in terms:
        lifted = tone.tone_map_gain(light, terms["tone_map"])
        gain, veil = _times(gain, lifted), None if veil is None else veil * lifted
    return gain, veil


def _times(gain: Tensor | None, factor: Tensor) -> Tensor:
    return factor if gain is None else gain * factor


def _lit(image: Tensor, gain: Tensor | None, veil: Tensor | None) -> Tensor:
    image = image if gain is None else image * gain
    return image if veil is None else image - veil


def _to_display(image: Tensor, gain: Tensor | None, veil: Tensor | None, terms: Terms) -> Tensor:
    image = curves.encode(_lit(image, gain, veil))
    for polynomial in terms.values():
        image = curves.draw(image, polynomial)
    return image.clamp_(0.0, 1.0)


def _mix(image: Tensor, terms: Terms) -> Tensor:
    if "vibrance" in terms:
        image = color.vibrance(image, terms["vibrance"])
    if "color" in terms:
        image = color.mix_colors(image, terms["color"])
    if "vibrance" in terms or "color" in terms:
        image.clamp_(0.0, 1.0)  # as it came it was in range
    return curves.gamma(image, terms["gamma"]) if "gamma" in terms else image


def _finish(
    image: Tensor, gain: Tensor | None, luma: Tensor, blurred: Tensor | None, amount: Tensor | None
) -> Tensor:
    if gain is not None:
        image = image * gain
    if blurred is not None and amount is not None:
        image = image + (luma - blurred).mul_(per_image(amount))
    return image
