"""The ISP: from camera linear to display sRGB, a whole batch at once, with one set of values an image.

Every render starts from the raw. The order is that of DESIGN.md's operator table, but for two places:

- denoising follows the multiplication by the white-balance gains, before anything is clipped: noise is
  told from colour where grey is grey;
- the transfer function comes before the curves, contrast and colour, not after: those are drawn on the
  display scale, on which their knots and middle grey are where the eye puts them.

Local operators measure on small images, the whole of which is seen, and keep *maps* that are enlarged to
*planes* where they are applied: so a preview and an export get one look, and a full-resolution frame can be
rendered in strips of rows that agree with the whole. A frame larger than `ANALYSIS_SIDE` is first rendered at
that size, to collect the maps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attiqa.devices import keep_freed_memory
from attiqa.errors import InputError
from isp_env.filters import Window, enlarge, enlarge_width, luminance, shrink
from isp_env.frame import RawBatch, RawFrame
from isp_env.operators import balance, denoise, detail, equalize, presence, tone
from isp_env.parameters import ParameterSpace
from isp_env.slopes import Copying
from isp_env.stages import Stages, Terms, terms_of

ANALYSIS_SIDE = 256  # pixels

# Work is cut into pieces of so many pixels. On a CPU a piece of three float32 channels is then 3 MB: it stays
# in the cache, and below the size from which the allocator asks the system for fresh pages for every tensor
# (32 x 256 x 384 at once took 2 to 3 times as long). Compiled stages keep less between passes: pieces of
# twice the size save 14 %. On an accelerator it only bounds the memory.
_CHUNK_PIXELS = {"cpu": 270_000, "compiled": 540_000, "accelerator": 32_000_000}
# What is measured on small images is measured for so many pieces at once
_MEASURED = 4

# terms of the operators that look at more than a pixel, in linear light and at all
_LOOKING_AT_LIGHT = frozenset({"denoise_luma", "denoise_chroma", "regions", "dehaze", "clarity"})
_LOOKING = _LOOKING_AT_LIGHT | {"clahe", "sharpen"}

Maps = dict[str, Tensor]


class Pipeline:
    """Renders raws with the parameters of one space; all others stay neutral.

    Args:
        space: which parameters the columns of `values` hold; ``None`` takes the whole table.
        compiled: whether the pointwise stages are compiled by `torch.compile`, which fuses each into one
            pass: see `isp_env.stages.Stages`. The first batch of each shape then waits for the compiler.
    """

    def __init__(self, space: ParameterSpace | None = None, compiled: bool = False) -> None:
        self.space = ParameterSpace() if space is None else space
        keep_freed_memory()
        self._stages = Stages(compiled)

    @property
    def compiled(self) -> bool:
        """Whether stages are compiled; false from the first failure on."""
        return self._stages.compiled

    @torch.no_grad()
    def __call__(self, batch: RawBatch, values: Tensor) -> Tensor:
        """Render a batch; no gradient flows through it (see `traced`).

        Args:
            batch: camera-linear frames of one size, ``(B, 3, H, W)``.
            values: physical values ``(B, P)`` in the order of the space, from `ParameterSpace.to_physical`.

        Returns:
            float32 ``(B, 3, H, W)`` display sRGB in [0, 1], on the batch's device. No image depends on its
            neighbours in the batch.

        Raises:
            InputError: `values` has another shape, or is not finite.
        """
        return self._run(batch, values, self._stages)

    def traced(self, batch: RawBatch, values: Tensor) -> Tensor:
        """Render the same pixels so that gradients flow back to `values`, inside `isp_env.slopes.tracing`.

        Operators that nothing uses take part, because how a render changes by them is asked for too. Takes
        three times as long as `__call__`, and keeps what the way back needs.
        """
        with Copying():
            return self._run(batch, values, Stages(compiled=False))

    def neutral(self, batch: RawBatch) -> Tensor:
        """The camera's default render, ``(B, 3, H, W)`` display sRGB in [0, 1]."""
        return self(batch, self.space.neutral_values(len(batch)))

    def render_full(self, frame: RawFrame, values: Tensor) -> Tensor:
        """Render one frame of any size, with little memory beside the frame and its render.

        Args:
            frame: camera linear ``(3, H, W)``.
            values: physical values ``(P,)``.

        Returns:
            float32 ``(3, H, W)`` display sRGB in [0, 1].
        """
        batch = RawBatch(frame.image[None], frame.white_balance[None], frame.color_matrix[None])
        return self(batch, values[None])[0]

    def _run(self, batch: RawBatch, values: Tensor, stages: Stages) -> Tensor:
        self._check(batch, values)
        terms = terms_of(self.space, batch, values.to(batch.image))
        result = torch.empty_like(batch.image)
        height, width = batch.image.shape[-2:]
        images = max(1, chunk_pixels(batch.image.device, self.compiled) // (height * width))
        for some in _slices(len(batch), _MEASURED * images):
            part, own = batch.image[some], _rows(terms, some)
            small = part if own.keys().isdisjoint(_LOOKING) else shrink(part, ANALYSIS_SIDE)
            maps = _measure(small, own)
            for few in _slices(len(part), images):
                _render(stages, part[few], small[few], _rows(own, few), _rows(maps, few), result[some][few])
        return result

    def _check(self, batch: RawBatch, values: Tensor) -> None:
        if values.shape != (len(batch), len(self.space)):
            raise InputError(
                f"expected values of shape ({len(batch)}, {len(self.space)}), one row an image and one "
                f"column a parameter; got {tuple(values.shape)}."
            )
        if not bool(torch.isfinite(values).all()):
            raise InputError("expected finite parameter values; got NaN or infinity.")


def chunk_pixels(device: torch.device, compiled: bool = False) -> int:
    """How many pixels are worked on at once."""
    if device.type != "cpu":
        return _CHUNK_PIXELS["accelerator"]
    return _CHUNK_PIXELS["compiled" if compiled else "cpu"]


def _slices(count: int, size: int) -> list[slice]:
    """Cut `count` rows into pieces of `size`."""
    return [slice(first, first + size) for first in range(0, count, size)]


def _rows(tensors: dict[str, Tensor], some: slice) -> dict[str, Tensor]:
    return {name: rows[some] for name, rows in tensors.items()}


def _measure(image: Tensor, terms: Terms) -> Maps:
    """What operators in linear light need to know of images, measured on these camera-linear small ones."""
    maps: Maps = {}
    if terms.keys().isdisjoint(_LOOKING_AT_LIGHT):
        return maps
    if "denoise_luma" in terms or "denoise_chroma" in terms:
        measured = denoise.noise_maps(balance.white_balance(image, terms["gains"]))
        names = ("denoise_luma", "denoise_chroma")
        maps |= {name: each for name, each in zip(names, measured, strict=True) if name in terms}
    small = balance.white_balance(shrink(image, tone.GRID), terms["gains"])
    small = balance.to_linear_srgb(balance.clip_saturated(small), terms["matrix"])
    if "regions" in terms or "clarity" in terms:
        maps["base"] = tone.base_maps(small)
    if "dehaze" in terms:
        if "regions" in terms:  # haze is measured on what dehaze will get
            small = tone.tone_regions(small, enlarge(maps["base"], small), terms["regions"])
        maps["dehaze"], maps["airlight"] = presence.dehaze_maps(small)
    return maps


def _render(stages: Stages, image: Tensor, small: Tensor, terms: Terms, maps: Maps, result: Tensor) -> None:
    """Render into `result`; large frames in strips of rows, by maps of a render of `small` ones."""
    if min(image.shape[-2:]) <= ANALYSIS_SIDE:
        torch.clamp(_develop(stages, image, terms, maps), 0.0, 1.0, out=result)
        return
    plain = Stages(compiled=False)  # the last strip has a height of its own, for which nobody should wait
    if "clahe" in terms or "sharpen" in terms:
        _develop(plain, small, terms, maps)
    count, _, height, width = image.shape
    # once for all strips, which then enlarge their own rows; clahe and airlight are no planes
    maps = {
        name: grid if name in ("clahe", "airlight") else enlarge_width(grid, width)
        for name, grid in maps.items()
    }
    rows = max(1, chunk_pixels(image.device) // (count * width))
    for top in range(0, height, rows):
        strip = image[..., top : top + rows, :]
        rendered = _develop(plain, strip, terms, maps, Window(top, height))
        torch.clamp(rendered, 0.0, 1.0, out=result[..., top : top + rows, :])


def _develop(stages: Stages, image: Tensor, terms: Terms, maps: Maps, window: Window | None = None) -> Tensor:
    """Run the operators in order, those left out that no image uses.

    Args:
        stages: how the pointwise work is done.
        image: camera linear ``(B, 3, H, W)``, whole frames or a strip of their rows.
        terms: see `terms_of`.
        maps: from `_measure`; what operators on display values measure on whole frames is added where it is
            missing.
        window: where the strip lies.

    Returns:
        Display sRGB; strong edges may leave [0, 1].
    """
    planes: Terms = {
        name: enlarge(maps[name], image, window)
        for name in ("denoise_luma", "denoise_chroma", "base", "dehaze")
        if name in maps
    }
    if "airlight" in maps:
        planes["airlight"] = maps["airlight"]
    image = stages.to_linear(image, terms, planes)
    gain, veil = stages.tone_terms(image, terms, planes)
    image = stages.mix(stages.to_display(image, gain, veil, terms), terms)
    if "clahe" not in terms and "sharpen" not in terms:
        return image
    luma, gain, blurred = luminance(image), None, None
    if "clahe" in terms:
        if "clahe" not in maps:
            maps["clahe"] = equalize.equalize_maps(luma)
        equalized = equalize.equalized_luma(luma, maps["clahe"], window)
        gain = stages.equalize_gain(luma, equalized, terms["clahe"])
        luma = luma * gain
    if "sharpen" in terms:
        if "sharpen" not in maps:
            maps["sharpen"] = detail.sharpen_maps(luma, terms["sharpen_radius"], stages.correlate)
        blurred = enlarge(maps["sharpen"], image, window)
    return stages.finish(image, gain, luma, blurred, terms)
