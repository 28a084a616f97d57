"""Every operator at its two ends, and every tool, on one photograph: ``python benchmarks/gallery.py``.

Writes a sheet an operator group and one of the tool set: neutral in the middle, the ends beside it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from attiqa.errors import InputError, command
from attiqa.files import atomic_path
from attiqa.options import option, parse
from isp_env.embedded import embedded_photographs
from isp_env.frame import RawBatch, RawFrame
from isp_env.parameters import PARAMETERS, Parameter, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.sources import read_frame
from isp_env.toolset import TOOLS, apply_tools

# What a parameter needs beside it to be seen, as actions
COMPANIONS = {"monochrome_filter": {"monochrome": 1.0}, "sharpen_radius": {"sharpen": 1.0}}
SHEETS = {
    "light": ("exposure", "tone_regions", "dehaze", "clarity", "tone_map"),
    "curves": ("channel_curves", "tone_curve", "contrast", "gamma"),
    "colour": ("white_balance", "color"),
    "detail": ("denoise", "clahe", "sharpen"),
}
_NOISE = 0.004  # variance a unit of light, that denoising has something to do: as at a high ISO
_CAPTION, _GAP, _ACROSS = 20, 6, 2  # pixels, pixels, rows of pictures beside each other


@dataclass(frozen=True)
class Row:
    """A line of a sheet: pictures ``(3, H, W)`` in display sRGB with a caption each."""

    pictures: Sequence[Tensor]
    captions: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class GalleryOptions:
    """Options of the gallery."""

    photo: Path | None = option(None, help="a raw or a photograph (default: an embedded one)", metavar="FILE")
    scene: str = option("chelsea", help="which embedded photograph")
    short_side: int = option(256, help="pixels of a picture's short side")
    out: Path = option(Path("runs/gallery"), help="folder of the sheets", metavar="DIR")

    def __post_init__(self) -> None:
        if self.short_side < 64:
            raise InputError(f"--short-side is 64 or more; it is {self.short_side}.")


@command
def main(argv: list[str] | None = None) -> int:
    """Render and write the sheets; prints their paths."""
    options = parse(GalleryOptions, argv, prog="gallery.py", description=__doc__ or "")
    frame = read_frame(_photo(options), options.short_side)
    rows = {
        name: [parameter_row(frame, row) for row in PARAMETERS if row.operator in operators]
        for name, operators in SHEETS.items()
    }
    for name, own in (rows | {"tools": tool_rows(frame)}).items():
        path = options.out / f"{name}.png"
        with atomic_path(path) as temporary:
            sheet(own).save(temporary, format="PNG")
        print(path)
    return 0


def _photo(options: GalleryOptions) -> Path:
    if options.photo is not None:
        return options.photo
    known = embedded_photographs()
    if options.scene not in known:
        raise InputError(f"--scene is one of {', '.join(known)}; it is {options.scene!r}.")
    return known[options.scene]


def parameter_row(frame: RawFrame, parameter: Parameter) -> Row:
    """A parameter at the lower end of its range, neutral, and at the upper end."""
    if parameter.operator == "denoise":
        frame = noisy(frame)
    space = ParameterSpace([parameter.name, *COMPANIONS.get(parameter.name, {})])
    ends = torch.tensor([-1.0, 0.0, 1.0])[:, None]
    beside = torch.tensor([list(COMPANIONS.get(parameter.name, {}).values())] * 3)
    values = space.to_physical(torch.cat([ends, beside.view(3, -1)], dim=1))
    renders = Pipeline(space)(RawBatch.stack([frame] * 3), values)
    unit = f" {parameter.unit}" if parameter.unit else ""
    captions = [f"{parameter.name} {value:g}{unit}" for value in values[:, 0].tolist()]
    if parameter.neutral == parameter.low:  # one end only
        return Row([renders[1], renders[1], renders[2]], ["neutral", captions[1], captions[2]])
    return Row(list(renders), captions)


def tool_rows(frame: RawFrame) -> list[Row]:
    """Each tool of the tool set at strength -1, 0 and 1."""
    neutral = Pipeline().neutral(RawBatch.stack([frame] * 3))
    strengths = torch.tensor([-1.0, 0.0, 1.0])
    rows = []
    for number, tool in enumerate(TOOLS):
        pictures = apply_tools(neutral, torch.full((3,), number), strengths)
        rows.append(Row(list(pictures), [f"{tool.name} {strength:+g}" for strength in strengths.tolist()]))
    return rows


def noisy(frame: RawFrame) -> RawFrame:
    """The frame with the noise of a small sensor at a high ISO."""
    noise = torch.randn(frame.image.shape, generator=torch.Generator().manual_seed(0))
    image = frame.image + noise * (_NOISE * frame.image.clamp_min(0.0)).sqrt()
    return dataclasses.replace(frame, image=image.clamp(max=1.0))


def sheet(rows: Sequence[Row]) -> Image.Image:
    """The rows below and beside each other, captions above their pictures."""
    pictures = len(rows[0].pictures)
    height, width = rows[0].pictures[0].shape[-2:]
    cell = (width + _GAP, height + _CAPTION + _GAP)
    lines = -(-len(rows) // _ACROSS)
    canvas = Image.new("RGB", (cell[0] * pictures * _ACROSS, cell[1] * lines), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
    for number, row in enumerate(rows):
        # down the first column, then down the second: rows of one operator stay together
        across, line = divmod(number, lines)
        for place, (picture, caption) in enumerate(zip(row.pictures, row.captions, strict=True)):
            left, top = cell[0] * (across * pictures + place), cell[1] * line
            draw.text((left + 2, top), caption, fill="black", font=font)
            canvas.paste(_pixels(picture), (left, top + _CAPTION))
    return canvas


def _pixels(picture: Tensor) -> Image.Image:
    levels = (picture * 255.0).round().to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(levels.contiguous().numpy())


if __name__ == "__main__":
    sys.exit(main(None))
