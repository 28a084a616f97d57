"""The input that needs no download: photographs that installed packages carry, turned into raw files.

scikit-image, scikit-learn and matplotlib ship a few photographs inside their wheels. They are read from
those packages' folders (scikit-image's own loader would fetch what it misses), unprocessed after Brooks et
al., and written as DNG files, which then take the way of any camera's raw.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from attiqa.errors import InputError
from attiqa.images import read_image, to_float
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.dng import write_dng
from isp_env.unprocess import Cameras, draw_cameras, unprocess, xyz_to_camera

# package and path inside it; motorcycle_right, a second view of the same scene, stays out
SCENES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
}

# our choice: what a hurried photographer leaves to mend, without losing the picture
_EXPOSURE = (-1.5, 0.7)
_BALANCE_ERROR = (-45.0, 45.0)
_SATURATION = (0.6, 1.0)
_SHOT_NOISE = (1e-4, 2e-3)
_SMALLEST_CROP = 0.75
SIZE = (256, 342)  # height and width of a raw
_BLACK, _WHITE = 512, 16383  # of a 14-bit sensor


def embedded_photographs() -> dict[str, Path]:
    """The scenes of which the photograph is installed, by name.

    Raises:
        InputError: fewer than three are.
    """
    found: dict[str, Path] = {}
    for scene, (package, inside) in SCENES.items():
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / inside if spec and spec.origin else None
        if path and path.is_file():
            found[scene] = path
    if len(found) < 3:
        raise InputError(
            f"only {len(found)} of the photographs that scikit-image, scikit-learn and matplotlib ship were "
            "found; reinstall scikit-image, or give a folder of raws instead."
        )
    return found


def write_embedded_scenes(
    folder: str | Path,
    seed: int,
    raws_a_scene: int = 6,
    held_out_scenes: int = 3,
    size: tuple[int, int] = SIZE,
) -> tuple[list[Path], list[Path]]:
    """Write the embedded photographs as Bayer DNG files with errors to mend.

    Args:
        folder: where to; made where missing, files of the same names are replaced.
        seed: draws the split of the scenes, the crops, the cameras, the errors and the noise.
        raws_a_scene: files made of each photograph, each with another draw.
        held_out_scenes: scenes (never files) kept for evaluation; at least one is left for training.
        size: height and width of each raw, even numbers.

    Returns:
        The files for training and the files held out, in the order of their names.

    Raises:
        InputError: the photographs are not installed, or an argument leaves nothing to train or hold out.
    """
    photographs = embedded_photographs()
    if not 1 <= held_out_scenes < len(photographs) or raws_a_scene < 1:
        raise InputError(
            f"of {len(photographs)} scenes 1 to {len(photographs) - 1} can be held out, with at least one "
            f"raw a scene; asked for {held_out_scenes} and {raws_a_scene}."
        )
    generator = torch.Generator().manual_seed(seed)
    scenes = list(photographs)
    order = torch.randperm(len(scenes), generator=generator).tolist()
    held_out = {scenes[index] for index in order[:held_out_scenes]}
    split: dict[bool, list[Path]] = {False: [], True: []}
    for scene, photograph in photographs.items():
        paths = write_scene(Path(folder), scene, photograph, raws_a_scene, size, generator=generator)
        split[scene in held_out] += paths
    return split[False], split[True]


def write_scene(
    folder: Path,
    scene: str,
    photograph: Path,
    count: int,
    size: tuple[int, int] = SIZE,
    *,
    generator: torch.Generator,
) -> list[Path]:
    """Write one photograph as `count` Bayer DNG files ``scene-00.dng`` and on, each with a draw of its own.

    Args:
        folder: where to; made where missing.
        scene: how the files' names begin.
        photograph: any image file.
        count: files.
        size: height and width of each raw, even numbers.
        generator: draws crops, cameras, errors and noise.

    Raises:
        InputError: the photograph cannot be read.
    """
    image = to_float(read_image(photograph))
    crops = torch.stack([_crop(image, size, generator) for _ in range(count)])
    cameras = draw_cameras(count, generator, _EXPOSURE, _BALANCE_ERROR, _SATURATION, _SHOT_NOISE)
    mosaics = unprocess(crops, cameras, generator)
    paths = [folder / f"{scene}-{index:02d}.dng" for index in range(count)]
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
