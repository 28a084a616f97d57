"""Tools for ``isp_env/Tools-v0``: one display-sRGB operation each, taken with one strength an image.

Besides operators of the pipeline these are the fixed tools of DRL-ISP (Shin, Kim, Choe, Lee, Kweon, IROS
2022): histogram equalisation, grey-world and white-patch balance, box, gaussian, median, bilateral and guided
filters, and steps of brightness, contrast, gamma, hue and saturation.

Strengths lie in [-1, 1] and 0 leaves an image as it is. A tool that has two directions takes the sign; a
filter or an equalisation has one, and is blended in by the strength's size. Filters that are told in pixels
work on the grid of a preview, so that a picture gets one look at every size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attiqa.errors import InputError
from isp_env.color import srgb_to_linear
from isp_env.filters import (
    box_mean,
    enlarge,
    gaussian_blur,
    guided_coefficients,
    luminance,
    per_image,
    radius_in_pixels,
    shrink,
)
from isp_env.frame import RawBatch
from isp_env.operators import color, curves, detail, equalize, presence, tone
from isp_env.pipeline import ANALYSIS_SIDE, Pipeline, chunk_pixels

Operation = Callable[[Tensor, Tensor], Tensor]


class NeutralRenderer(Protocol):
    """What renders frames as their camera would."""

    def neutral(self, batch: RawBatch) -> Tensor:
        """``(B, 3, H, W)`` display sRGB in [0, 1]."""


@dataclass(frozen=True)
class Tool:
    """An operation, ``(images (B, 3, H, W) display sRGB, strengths (B,)) -> images``, under a name."""

    name: str
    operation: Operation
    doc: str


def _blended(filtered: Callable[[Tensor], Tensor]) -> Operation:
    """A fixed operation with a strength: blended in by the size of it."""
    return lambda images, strength: torch.lerp(images, filtered(images), per_image(strength.abs()))


def _on_grid(filtered: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What a filter changes at the size of a preview, enlarged; previews and smaller images as they are."""

    def on_any_size(images: Tensor) -> Tensor:
        small = shrink(images, ANALYSIS_SIDE)
        changed = filtered(small)
        return changed if small is images else images + enlarge(changed - small, images)

    return on_any_size


def _linear(operation: Operation) -> Operation:
    """An operation on linear sRGB, made one on display sRGB by what it changes, so that 0 stays exact."""

    def on_display(images: Tensor, strength: Tensor) -> Tensor:
        light = srgb_to_linear(images)
        return images + (curves.encode(operation(light, strength)) - curves.encode(light))

    return on_display


def _mix(images: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    zero = torch.zeros_like(saturation)
    return color.mix_colors(images, color.color_mix(saturation, hue, zero, zero))


def _warm(light: Tensor, strength: Tensor) -> Tensor:
    stops = torch.stack([0.5 * strength, torch.zeros_like(strength), -0.5 * strength], dim=1)
    return light * torch.exp2(stops)[:, :, None, None]


def _regions(light: Tensor, highlights: Tensor, shadows: Tensor) -> Tensor:
    zero = torch.zeros_like(highlights)
    planes = enlarge(tone.base_maps(light), light)
    return tone.tone_regions(light, planes, torch.stack([highlights, shadows, zero, zero], dim=1))


def _dehaze(light: Tensor, strength: Tensor) -> Tensor:
    maps, airlight = presence.dehaze_maps(light)
    return presence.dehaze(light, enlarge(maps, light), airlight, strength)


def _clarity(light: Tensor, strength: Tensor) -> Tensor:
    return presence.clarity(light, enlarge(tone.base_maps(light), light), strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return curves.draw(images, curves.contrast_polynomial(strength))


def _sharpen(images: Tensor, strength: Tensor) -> Tensor:
    maps = detail.sharpen_maps(luminance(images), torch.full_like(strength, 0.4))
    return detail.sharpen(images, enlarge(maps, images), strength)


def _balanced(images: Tensor, level: Callable[[Tensor], Tensor]) -> Tensor:
    """Bring a statistic of each channel, ``(B, 3, 1, 1)`` in linear light, to that of luminance."""
    light = srgb_to_linear(images)
    channels = level(light).clamp_min(1e-4)
    return curves.encode(light * (luminance(channels) / channels).clamp(0.25, 4.0))


def _histogram(images: Tensor) -> Tensor:
    bins = 256
    luma = luminance(images)
    mapping = equalize.equalize_maps(luma, tiles=1, bins=bins, clip=bins)
    return images + (equalize.equalized_luma(luma, mapping) - luma)


def _gaussian(images: Tensor) -> Tensor:
    sigma = 0.006 * min(images.shape[-2:])  # of the short side
    planes = images.flatten(0, 1)[:, None]
    blurred = gaussian_blur(planes, planes.new_full((len(planes),), sigma), reach=max(1, round(3 * sigma)))
    return blurred.view_as(images)


def _neighbours(images: Tensor, radius: int) -> list[Tensor]:
    """The image seen from each pixel of a square around it, row by row; border pixels are repeated."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (radius, radius, radius, radius), mode="replicate")
    steps = range(2 * radius + 1)
    return [padded[..., y : y + height, x : x + width] for y in steps for x in steps]


def _sort3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    middle, top = torch.minimum(high, c), torch.maximum(high, c)
    return torch.minimum(low, middle), torch.maximum(low, middle), top


def median3(images: Tensor) -> Tensor:
    """Median of 3 x 3 pixels by minima and maxima alone (Smith, "Implementing median filters", 1996)."""
    square = _neighbours(images, 1)
    lows, middles, highs = zip(*(_sort3(*square[i : i + 3]) for i in (0, 3, 6)), strict=True)
    return _sort3(_sort3(*lows)[2], _sort3(*middles)[1], _sort3(*highs)[0])[1]


def bilateral5(images: Tensor, color_sigma: float = 0.1, space_sigma: float = 1.5) -> Tensor:
    """Bilateral filter of 5 x 5 pixels (Tomasi, Manduchi, ICCV 1998), differences taken in luma."""
    centre = luminance(images)
    total, weights = torch.zeros_like(images), torch.zeros_like(centre)
    for place, (image, luma) in enumerate(zip(_neighbours(images, 2), _neighbours(centre, 2), strict=True)):
        distance = (place // 5 - 2) ** 2 + (place % 5 - 2) ** 2
        weight = (luma - centre).square_().mul_(-0.5 / color_sigma**2)
        weight = weight.sub_(0.5 * distance / space_sigma**2).exp_()
        total.addcmul_(image, weight)
        weights += weight
    return total / weights


def _guided(images: Tensor) -> Tensor:
    guide = luminance(images)
    maps = guided_coefficients(guide, images, radius_in_pixels(images, 0.012), 0.004)
    a, b = maps.split(3, dim=1)
    return a * guide + b


def _mean(light: Tensor) -> Tensor:
    return light.mean(dim=(2, 3), keepdim=True)


def _brightest(light: Tensor) -> Tensor:
    # of a small grid: one hot pixel is no white patch
    return shrink(light, 64).amax(dim=(2, 3), keepdim=True)


def _clahe(images: Tensor) -> Tensor:
    luma = luminance(images)
    equalized = equalize.equalized_luma(luma, equalize.equalize_maps(luma))
    return equalize.equalize(images, equalized, images.new_ones(len(images)))


TOOLS: tuple[Tool, ...] = (
    Tool("exposure", _linear(lambda light, s: light * per_image(torch.exp2(s))), "light, by up to 1 EV"),
    Tool("temperature", _linear(_warm), "red against blue, by up to half a stop each"),
    Tool("highlights", _linear(lambda light, s: _regions(light, s, torch.zeros_like(s))), "bright regions"),
    Tool("shadows", _linear(lambda light, s: _regions(light, torch.zeros_like(s), s)), "dark regions"),
    Tool("dehaze", _linear(_dehaze), "the veil of haze, less or more"),
    Tool("clarity", _linear(_clarity), "local contrast"),
    Tool("sharpen", _sharpen, "fine detail"),
    Tool("brightness", lambda images, s: images + per_image(0.1 * s), "display values, by up to 0.1"),
    Tool("contrast", _contrast, "the slope at middle grey, 0.55 to 1.45"),
    Tool("gamma", lambda images, s: curves.gamma(images, 0.3 * s), "midtones, exponents 1.23 to 0.81"),
    Tool("hue", lambda images, s: _mix(images, torch.zeros_like(s), 10.0 * s), "hues, by up to 10 degrees"),
    Tool("saturation", lambda images, s: _mix(images, 0.5 * s, torch.zeros_like(s)), "colours, 0.5 to 1.4"),
    Tool("clahe", _blended(_clahe), "local equalisation, blended in"),
    Tool("equalize_histogram", _blended(_histogram), "global equalisation of luma, blended in"),
    Tool("grey_world", _blended(lambda x: _balanced(x, _mean)), "channel means made equal, blended in"),
    Tool(
        "white_patch", _blended(lambda x: _balanced(x, _brightest)), "channel maxima made equal, blended in"
    ),
    Tool(
        "box", _blended(_on_grid(lambda x: box_mean(x, radius_in_pixels(x, 0.008)))), "box filter, blended in"
    ),
    Tool("gaussian", _blended(_on_grid(_gaussian)), "gaussian filter, blended in"),
    Tool("median", _blended(_on_grid(median3)), "median filter of 3 x 3 pixels, blended in"),
    Tool("bilateral", _blended(_on_grid(bilateral5)), "bilateral filter of 5 x 5 pixels, blended in"),
    Tool("guided", _blended(_on_grid(_guided)), "guided filter, blended in"),
)


def apply_tools(
    images: Tensor, tool_index: Tensor | np.ndarray, strength: Tensor, tools: Sequence[Tool] = TOOLS
) -> Tensor:
    """Apply to each image its own tool: images are grouped by tool, and each tool runs once for its group.

    Args:
        images: ``(B, 3, H, W)`` display sRGB in [0, 1].
        tool_index: int64 ``(B,)``, which of `tools`.
        strength: ``(B,)`` in [-1, 1].
        tools: what the indices count in.

    Returns:
        ``(B, 3, H, W)`` display sRGB in [0, 1].

    Raises:
        InputError: an index that names no tool.
    """
    index = torch.as_tensor(tool_index).cpu()
    if index.shape != (len(images),) or bool(((index < 0) | (index >= len(tools))).any()):
        raise InputError(
            f"expected one tool index an image, each in 0 to {len(tools) - 1}; got {index.tolist()}."
        )
    strength = strength.to(images).clamp(-1.0, 1.0)
    result = torch.empty_like(images)
    # a filter holds a dozen images of its own: on a CPU more than one of a preview's size leave the cache
    most = max(1, chunk_pixels(images.device) // (4 * images.shape[-2] * images.shape[-1]))
    for number in index.unique().tolist():
        for rows in (index == number).nonzero()[:, 0].to(images.device).split(most):
            result[rows] = tools[number].operation(images[rows], strength[rows])
    return result.clamp_(0.0, 1.0)


class ToolSet:
    """Tools on the neutral render; what ``isp_env/Tools-v0`` takes by default.

    Each image starts from its neutral render and takes its tools in the order of its episode, in float32 and
    clipped to [0, 1] after each, as DRL-ISP's do.

    Args:
        names: which of `TOOLS`, in which order; ``None`` takes all.
        pipeline: what renders neutrally; ``None`` takes `isp_env.pipeline.Pipeline`.

    Raises:
        InputError: an unknown or repeated name, or none at all.
    """

    def __init__(self, names: Sequence[str] | None = None, pipeline: NeutralRenderer | None = None) -> None:
        known = {tool.name: tool for tool in TOOLS}
        self.names: tuple[str, ...] = tuple(known) if names is None else tuple(names)
        unknown = [name for name in self.names if name not in known]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            raise InputError(
                f"expected tools by name, each once, of {', '.join(known)}; got {list(self.names)}."
            )
        self._tools = [known[name] for name in self.names]
        self._pipeline: NeutralRenderer = Pipeline() if pipeline is None else pipeline

    def render(self, batch: RawBatch, order: np.ndarray, strengths: Tensor) -> Tensor:
        """Render with each image's own sequence of tools; each tool runs once a step, for all that take it.

        Args:
            batch: frames, ``(b, 3, H, W)`` camera linear.
            order: int64 ``(b, K)``: the step in which each tool was used, from 1; 0 for unused.
            strengths: float32 ``(b, K)`` in [-1, 1].

        Returns:
            float32 ``(b, 3, H, W)``, display sRGB in [0, 1].
        """
        images = self._pipeline.neutral(batch)
        for step in range(1, order.max(initial=0) + 1):
            rows, tools = np.nonzero(order == step)
            if rows.size:
                chosen = torch.as_tensor(rows, device=images.device)
                taken = strengths[rows, tools].to(images)
                images[chosen] = apply_tools(images[chosen], tools, taken, self._tools)
        return images
