"""Ordinary photographs as raw files: unprocessed, given errors to mend, and written as DNGs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from kornia.enhance import adjust_hue
from torch import Tensor

from attiqa.errors import InputError
from attiqa.images import list_images, read_image, to_float
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.dng import write_dng
from isp_env.sources import RawFolder, in_threads
from isp_env.unprocess import Cameras, draw_cameras, unprocess, xyz_to_camera

Range = tuple[float, float]

DEFAULT_SIZE = (256, 342)  # of a preview with a short side of 256 pixels

_BLACK, _WHITE = 512, 16383  # of a 14-bit sensor


@dataclass(frozen=True)
class Variety:
    """How far the scenes that are cut out of one photograph may lie apart; all ranges uniform, our choice.

    The default changes nothing but the window. `MANY_SCENES` makes many scenes of few photographs: an agent
    that trains on them must read the picture, where it would otherwise know the photographs by heart.

    Attributes:
        crop: share of the largest window of the wanted aspect.
        mirrored: mirror half of the windows.
        gamma: octaves of a power law on display values; above 0 darkens the scene.
        contrast: factor around the middle of the display range.
        saturation: factor on the chroma.
        hue: radians by which all colours turn.
    """

    crop: Range = (0.75, 1.0)
    mirrored: bool = False
    gamma: Range = (0.0, 0.0)
    contrast: Range = (1.0, 1.0)
    saturation: Range = (1.0, 1.0)
    hue: Range = (0.0, 0.0)


MANY_SCENES = Variety(
    crop=(0.35, 1.0),
    mirrored=True,
    gamma=(-0.6, 0.6),
    contrast=(0.8, 1.15),
    saturation=(0.6, 1.35),
    hue=(-0.6, 0.6),
)
# Of hundreds of photographs, which need no help to differ; odd colours would be all that looks unlike them
NATURAL_SCENES = Variety(
    crop=(0.5, 1.0),
    mirrored=True,
    gamma=(-0.3, 0.3),
    contrast=(0.9, 1.1),
    saturation=(0.8, 1.2),
    hue=(-0.1, 0.1),
)


@dataclass(frozen=True)
class Errors:
    """What a raw leaves to mend, as ranges that `isp_env.unprocess.draw_cameras` draws from; our choice.

    Attributes:
        exposure: in EV.
        balance_error: in mired.
        saturation: chroma that is left.
        shot_noise: variance a unit of signal, camera linear.
        tone: share of the paper's tone curve that is missing.
        lift: octaves of a power law that is missing.
        mosaic: one colour a pixel; else all three, as large mosaics have when they are averaged down.
    """

    exposure: Range
    balance_error: Range
    saturation: Range
    shot_noise: Range
    tone: Range = (1.0, 1.0)
    lift: Range = (0.0, 0.0)
    mosaic: bool = True


# what a hurried photographer leaves to mend, without losing the picture, and what a camera of today leaves in
# good light, seen at the size of a preview: its curve lacks, which lifts the middle and may be flat or steep.
# Measured on 42 photographs, their neutral renders have the blacks and whites of seven real raws', and are
# brighter in the middle, which policies do not mind (agents/TRIALS.md)
HURRIED = Errors((-1.5, 0.7), (-45.0, 45.0), (0.6, 1.0), (1e-4, 2e-3))
CAREFUL = Errors((-0.6, 0.3), (-20.0, 20.0), (0.8, 1.0), (1e-6, 2e-4), (0.0, 1.0), (0.0, 0.75), mosaic=False)
KINDS = {"hurried": HURRIED, "careful": CAREFUL}


class UnprocessedPhotographs(RawFolder):
    """Photographs as a source of raws, each with errors to mend; see `isp_env.unprocess`.

    Args:
        inputs: image files and folders of them.
        seed: draws crops, cameras, errors and noise, for each photograph by its place in the list.
        raws_each: raws made of each photograph.
        size: height and width of each raw, even numbers.
        errors: of the raws of each photograph, in turn.
        folder: where the DNG files go; None: a temporary folder that goes with the source.
        workers: threads; None: one a core.

    Attributes:
        failures: path and sentence of each photograph that was left out.

    Raises:
        InputError: a path does not exist, no photograph was found, or none can be read.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path],
        seed: int = 0,
        raws_each: int = 1,
        size: tuple[int, int] = DEFAULT_SIZE,
        errors: Sequence[Errors] = (HURRIED,),
        folder: str | Path | None = None,
        workers: int | None = None,
    ) -> None:
        photographs = list_images([Path(path) for path in inputs])
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="isp_env-")
            folder = self._temporary.name

        def write(number: int) -> list[Path] | str:
            # torch seeds its generator by 32 bits only, so the two numbers are mixed into them
            mixed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
            generator = torch.Generator().manual_seed(mixed)
            name = f"{photographs[number].stem}-{number:05d}"
            try:
                return write_scene(
                    folder, name, photographs[number], raws_each, size, errors=errors, generator=generator
                )
            except InputError as error:
                return str(error)

        written = in_threads(write, range(len(photographs)), workers, "unprocessing")
        raws = [path for paths in written if not isinstance(paths, str) for path in paths]
        failures = [(p, w) for p, w in zip(photographs, written, strict=True) if isinstance(w, str)]
        if not raws:
            raise InputError(
                f"none of {len(photographs)} photographs can be read; the first: {failures[0][1]}"
            )
        super().__init__(raws, workers)
        self.failures = failures


def write_scene(
    folder: str | Path,
    name: str,
    photograph: Path,
    count: int,
    size: tuple[int, int] = DEFAULT_SIZE,
    variety: Variety = Variety(),
    errors: Sequence[Errors] = (HURRIED,),
    *,
    generator: torch.Generator,
) -> list[Path]:
    """Write ``NAME-00.dng``, ``NAME-01.dng``, ... of one photograph, each with a crop, camera and errors.

    Args:
        folder: where to; made where missing, files of the same names are replaced.
        name: of the scene.
        photograph: an image file.
        count: number of raws.
        size: height and width of each, even numbers; the crops have this aspect.
        variety: how far the scenes of the photograph may lie apart.
        errors: of the raws, in turn.
        generator: draws crops, cameras, errors and noise.

    Raises:
        InputError: the photograph cannot be read.
    """
    image = to_float(read_image(photograph))
    crops = torch.stack([_scene(image, size, variety, generator) for _ in range(count)])
    paths = [Path(folder) / f"{name}-{index:02d}.dng" for index in range(count)]
    for turn, kind in enumerate(errors[:count]):
        own = range(turn, count, len(errors))
        drawn = asdict(kind)
        mosaic = drawn.pop("mosaic")
        cameras = draw_cameras(len(own), generator, **drawn)
        pixels = unprocess(crops[turn :: len(errors)], cameras, generator, mosaic)
        for row, index in enumerate(own):
            _write(paths[index], pixels[row] if mosaic else pixels[row].permute(1, 2, 0), cameras, row)
    return paths


def _scene(image: Tensor, size: tuple[int, int], variety: Variety, generator: torch.Generator) -> Tensor:
    """A random window of `size`'s aspect, resampled to it and restyled: ``(3, *size)``, display sRGB."""
    height, width = image.shape[-2:]
    share, top, left, mirror, *style = torch.rand(8, generator=generator).tolist()
    scale = min(height / size[0], width / size[1]) * _between(variety.crop, share)
    rows, columns = round(size[0] * scale), round(size[1] * scale)
    # faces and buildings stand in the upper part of a picture that is too high for the window
    y, x = int(0.4 * top * (height - rows + 1)), int(left * (width - columns + 1))
    window = srgb_to_linear(image[None, :, y : y + rows, x : x + columns])
    resized = torch.nn.functional.interpolate(
        window, size=size, mode="bilinear", antialias=True, align_corners=False
    )
    scene = _restyled(linear_to_srgb(resized), variety, style)[0]
    return scene.flip(-1) if variety.mirrored and mirror < 0.5 else scene


def _restyled(scene: Tensor, variety: Variety, style: Sequence[float]) -> Tensor:
    """``(1, 3, H, W)`` with a random look; what has no range stays as it is."""
    ranges = (variety.gamma, variety.contrast, variety.saturation, variety.hue)
    gamma, contrast, saturation, hue = map(_between, ranges, style)
    if gamma:
        scene = scene.clamp(0.0, 1.0) ** 2.0**gamma
    if contrast != 1.0:
        scene = (0.5 + contrast * (scene - 0.5)).clamp(0.0, 1.0)
    if saturation != 1.0:
        grey = scene.mean(dim=1, keepdim=True)
        scene = (grey + saturation * (scene - grey)).clamp(0.0, 1.0)
    return adjust_hue(scene, hue) if hue else scene


def _between(range_: Range, share: float) -> float:
    return range_[0] + (range_[1] - range_[0]) * share


def _write(path: Path, pixels: Tensor, cameras: Cameras, index: int) -> None:
    levels = (_BLACK + pixels * (_WHITE - _BLACK)).round().clamp(0, _WHITE)
    neutral = 1.0 / cameras.as_shot[index]
    write_dng(
        path,
        levels.to(torch.int32).numpy().astype("uint16"),
        (neutral / neutral.max()).tolist(),
        xyz_to_camera(cameras)[index].numpy(),
        black_level=(_BLACK,) * 4,
        white_level=_WHITE,
    )
