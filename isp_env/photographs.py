"""Ordinary photographs as raw files: unprocessed, given errors to mend, and written as DNGs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attiqa.errors import InputError
from attiqa.images import list_images, read_image, to_float
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.dng import write_dng
from isp_env.sources import RawFolder, in_threads
from isp_env.unprocess import Cameras, draw_cameras, unprocess, xyz_to_camera

DEFAULT_SIZE = (256, 342)  # of a preview with a short side of 256 pixels

# our choice: what a hurried photographer leaves to mend, without losing the picture
_EXPOSURE = (-1.5, 0.7)
_BALANCE_ERROR = (-45.0, 45.0)
_SATURATION = (0.6, 1.0)
_SHOT_NOISE = (1e-4, 2e-3)
_SMALLEST_CROP = 0.75
_BLACK, _WHITE = 512, 16383  # of a 14-bit sensor


class UnprocessedPhotographs(RawFolder):
    """Photographs as a source of raws, each with errors to mend; see `isp_env.unprocess`.

    Args:
        inputs: image files and folders of them.
        seed: draws crops, cameras, errors and noise, for each photograph by its place in the list.
        raws_each: raws made of each photograph.
        size: height and width of each raw, even numbers.
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
                return write_scene(folder, name, photographs[number], raws_each, size, generator=generator)
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
        generator: draws crops, cameras, errors and noise.

    Raises:
        InputError: the photograph cannot be read.
    """
    image = to_float(read_image(photograph))
    crops = torch.stack([_crop(image, size, generator) for _ in range(count)])
    cameras = draw_cameras(count, generator, _EXPOSURE, _BALANCE_ERROR, _SATURATION, _SHOT_NOISE)
    mosaics = unprocess(crops, cameras, generator)
    paths = [Path(folder) / f"{name}-{index:02d}.dng" for index in range(count)]
    for index, path in enumerate(paths):
        _write(path, mosaics[index], cameras, index)
    return paths


def _crop(image: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A random window of `size`'s aspect, as large as the photograph allows down to 3/4, resampled to it."""
    height, width = image.shape[-2:]
    largest = min(height / size[0], width / size[1])
    zoom, top, left = torch.rand(3, generator=generator).tolist()
    scale = largest * (_SMALLEST_CROP + (1.0 - _SMALLEST_CROP) * zoom)
    rows, columns = round(size[0] * scale), round(size[1] * scale)
    # faces and buildings stand in the upper part of a picture that is too high for the window
    y, x = int(0.4 * top * (height - rows + 1)), int(left * (width - columns + 1))
    window = srgb_to_linear(image[None, :, y : y + rows, x : x + columns])
    resized = torch.nn.functional.interpolate(
        window, size=size, mode="bilinear", antialias=True, align_corners=False
    )
    return linear_to_srgb(resized)[0]


def _write(path: Path, mosaic: Tensor, cameras: Cameras, index: int) -> None:
    levels = (_BLACK + mosaic * (_WHITE - _BLACK)).round().clamp(0, _WHITE)
    neutral = 1.0 / cameras.as_shot[index]
    write_dng(
        path,
        levels.to(torch.int32).numpy().astype("uint16"),
        (neutral / neutral.max()).tolist(),
        xyz_to_camera(cameras)[index].numpy(),
        black_level=(_BLACK,) * 4,
        white_level=_WHITE,
    )
