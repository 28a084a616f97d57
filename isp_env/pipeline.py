"""The ISP: from camera linear to display sRGB, a whole batch at once, with one set of values an image.

Every render starts from the raw. The order is that of DESIGN.md's operator table, but for two places:

- denoising follows the multiplication by the white-balance gains, before anything is clipped: noise is
  told from colour where grey is grey;
- the transfer function comes before the curves, contrast and colour, not after: those are drawn on the
  display scale, on which their knots and middle grey are where the eye puts them.

Local operators measure on an image of short side `ANALYSIS_SIDE` at most. A larger frame is first rendered at
that size to collect their maps, which are then enlarged: so a preview and an export get one look, and a
full-resolution frame can be rendered in strips of rows that agree with the whole.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from attiqa.errors import InputError
from isp_env.filters import Window, shrink
from isp_env.frame import RawBatch, RawFrame
from isp_env.operators import balance, color, curves, denoise, detail, equalize, presence, tone
from isp_env.parameters import PARAMETERS, ParameterSpace

ANALYSIS_SIDE = 256  # pixels

# Work is cut into pieces of so many pixels. On a CPU a piece of three float32 channels is then 3 MB: it stays
# in the cache, and below the size from which the allocator asks the system for fresh pages for every tensor
# (32 x 256 x 384 at once took 2 to 3 times as long). On an accelerator it only bounds the memory.
_CHUNK_PIXELS = {"cpu": 250_000, "accelerator": 32_000_000}

Maps = dict[str, Tensor]

_REGIONS = ("highlights", "shadows", "whites", "blacks")
_TONE_KNOTS = ("tone_shadows", "tone_midtones", "tone_highlights")
_CHANNEL_KNOTS = tuple(
    f"{channel}_{knot}" for channel in ("red", "green", "blue") for knot in ("shadows", "highlights")
)
_COLOR = ("saturation", "hue", "monochrome", "monochrome_filter")


class Pipeline:
    """Renders raws with the parameters of one space; all others stay neutral.

    Args:
        space: which parameters the columns of `values` hold; ``None`` takes the whole table.
    """

    def __init__(self, space: ParameterSpace | None = None) -> None:
        self.space = ParameterSpace() if space is None else space

    def __call__(self, batch: RawBatch, values: Tensor) -> Tensor:
        """Render a batch.

        Args:
            batch: camera-linear frames of one size, ``(B, 3, H, W)``.
            values: physical values ``(B, P)`` in the order of the space, from `ParameterSpace.to_physical`.

        Returns:
            float32 ``(B, 3, H, W)`` display sRGB in [0, 1], on the batch's device. No image depends on its
            neighbours in the batch.

        Raises:
            InputError: `values` has another shape, or is not finite.
        """
        settings = self._settings(batch, values)
        result = torch.empty_like(batch.image)
        count, _, height, width = batch.image.shape
        images = max(1, _chunk_pixels(batch.image.device) // (height * width))
        for first in range(0, count, images):
            some = slice(first, first + images)
            _render(batch.select(some), settings.select(some), result[some])
        return result

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

    def _settings(self, batch: RawBatch, values: Tensor) -> Settings:
        if values.shape != (len(batch), len(self.space)):
            raise InputError(
                f"expected values of shape ({len(batch)}, {len(self.space)}), one row an image and one "
                f"column a parameter; got {tuple(values.shape)}."
            )
        if not bool(torch.isfinite(values).all()):
            raise InputError("expected finite parameter values; got NaN or infinity.")
        return Settings.of(self.space, values.to(batch.image))


class Settings:
    """The whole table's values for a batch, and which parameters any image has moved from neutral.

    Args:
        values: physical values by name, ``(B,)`` each.
        moved: names of the parameters of which an image has another value than the neutral one.
    """

    def __init__(self, values: dict[str, Tensor], moved: frozenset[str]) -> None:
        self._values = values
        self._moved = moved

    @classmethod
    def of(cls, space: ParameterSpace, values: Tensor) -> Settings:
        """Read the columns of physical values ``(B, P)``; what the space lacks is neutral."""
        is_moved = (values != space.neutral.to(values)).any(dim=0).tolist()
        moved = frozenset(name for name, yes in zip(space.names, is_moved, strict=True) if yes)
        table = {row.name: values.new_full((len(values),), row.neutral) for row in PARAMETERS}
        return cls(table | dict(zip(space.names, values.unbind(dim=1), strict=True)), moved)

    def select(self, some: slice) -> Settings:
        """The rows of some images."""
        return Settings({name: column[some] for name, column in self._values.items()}, self._moved)

    def __getitem__(self, name: str) -> Tensor:
        """Physical values of one parameter, ``(B,)``."""
        return self._values[name]

    def all(self, names: Iterable[str]) -> list[Tensor]:
        """Physical values of several parameters, ``(B,)`` each."""
        return [self._values[name] for name in names]

    def moved(self, *names: str) -> bool:
        """Whether any image has any of these parameters away from neutral."""
        return not self._moved.isdisjoint(names)


def _chunk_pixels(device: torch.device) -> int:
    return _CHUNK_PIXELS["cpu" if device.type == "cpu" else "accelerator"]


def _render(batch: RawBatch, settings: Settings, result: Tensor) -> None:
    """Render into `result`; large frames in strips of rows, by maps from a render at the analysis size."""
    small = shrink(batch.image, ANALYSIS_SIDE)
    maps: Maps = {}
    if small is batch.image:
        result.copy_(_develop(batch, settings, maps))
        return
    _develop(RawBatch(small, batch.white_balance, batch.color_matrix), settings, maps)
    count, _, height, width = batch.image.shape
    rows = max(1, _chunk_pixels(batch.image.device) // (count * width))
    for top in range(0, height, rows):
        strip = batch.image[..., top : top + rows, :]
        part = RawBatch(strip, batch.white_balance, batch.color_matrix)
        result[..., top : top + rows, :] = _develop(part, settings, maps, Window(top, height))


def _develop(batch: RawBatch, settings: Settings, maps: Maps, window: Window | None = None) -> Tensor:
    """Run the operators in order, skipping those that no image uses.

    Args:
        batch: whole frames, or a strip of their rows.
        settings: the values.
        maps: what local operators measured on whole frames; what is missing is measured here and added.
        window: where the strip lies.
    """
    image = _to_linear(batch, settings, maps, window)
    image = _tone_linear(image, settings, maps, window)
    image = curves.encode(image)
    image = _draw_curves(image, settings)
    image = _color(image, settings)
    return _detail(image, settings, maps, window).clamp_(0.0, 1.0)


def _to_linear(batch: RawBatch, settings: Settings, maps: Maps, window: Window | None) -> Tensor:
    """Camera linear to linear sRGB: balance, denoise, clip, colour matrix, exposure."""
    gains = batch.white_balance
    if settings.moved("temperature", "tint"):
        gains = balance.balance_gains(gains, batch.color_matrix, settings["temperature"], settings["tint"])
    image = balance.white_balance(batch.image, gains)
    if settings.moved("denoise_luma"):
        if "denoise_luma" not in maps:
            maps["denoise_luma"] = denoise.luma_maps(image, settings["denoise_luma"])
        image = denoise.denoise_luma(image, maps["denoise_luma"], settings["denoise_luma"], window)
    if settings.moved("denoise_chroma"):
        if "denoise_chroma" not in maps:
            maps["denoise_chroma"] = denoise.chroma_maps(image, settings["denoise_chroma"])
        image = denoise.denoise_chroma(image, maps["denoise_chroma"], settings["denoise_chroma"], window)
    return balance.to_linear_srgb(balance.clip_saturated(image), batch.color_matrix, settings["exposure"])


def _tone_linear(image: Tensor, settings: Settings, maps: Maps, window: Window | None) -> Tensor:
    """Linear sRGB: highlights, shadows, whites, blacks, dehaze, clarity, tone mapping."""
    if settings.moved(*_REGIONS):
        if "regions" not in maps:
            maps["regions"] = tone.base_maps(image)
        image = tone.tone_regions(image, maps["regions"], settings.all(_REGIONS), window)
    if settings.moved("dehaze"):
        if "dehaze" not in maps:
            maps["dehaze"] = presence.dehaze_maps(image)
        image = presence.dehaze(image, maps["dehaze"], settings["dehaze"], window)
    if settings.moved("clarity"):
        if "clarity" not in maps:
            maps["clarity"] = tone.base_maps(image)
        image = presence.clarity(image, maps["clarity"], settings["clarity"], window)
    if settings.moved("tone_map"):
        image = tone.tone_map(image, settings["tone_map"])
    return image


def _draw_curves(image: Tensor, settings: Settings) -> Tensor:
    """Display sRGB: channel curves, tone curve, contrast."""
    if settings.moved(*_CHANNEL_KNOTS):
        knots = torch.stack(settings.all(_CHANNEL_KNOTS), dim=1).unflatten(1, (3, 2))
        image = curves.knot_curve(image, knots)
    if settings.moved(*_TONE_KNOTS):
        image = curves.knot_curve(image, torch.stack(settings.all(_TONE_KNOTS), dim=1))
    if settings.moved("contrast"):
        image = curves.contrast(image, settings["contrast"])
    return image


def _color(image: Tensor, settings: Settings) -> Tensor:
    """Display sRGB: vibrance, saturation, hue, black and white, gamma."""
    if settings.moved("vibrance"):
        image = color.vibrance(image, settings["vibrance"])
    if settings.moved(*_COLOR):
        image = color.mix_colors(image, color.color_mix(*settings.all(_COLOR)))
    if settings.moved("gamma"):
        image = curves.gamma(image.clamp(0.0, 1.0), settings["gamma"])
    return image


def _detail(image: Tensor, settings: Settings, maps: Maps, window: Window | None) -> Tensor:
    """Display sRGB: local equalisation, sharpening."""
    if settings.moved("clahe"):
        image = image.clamp(0.0, 1.0)
        if "clahe" not in maps:
            maps["clahe"] = equalize.equalize_maps(image)
        image = equalize.equalize(image, maps["clahe"], settings["clahe"], window)
    if settings.moved("sharpen"):
        if "sharpen" not in maps:
            maps["sharpen"] = detail.sharpen_maps(image, settings["sharpen_radius"])
        image = detail.sharpen(image, maps["sharpen"], settings["sharpen"], window)
    return image
