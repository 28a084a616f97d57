"""The input that needs no download: photographs that installed packages carry, turned into raw files.

scikit-image, scikit-learn and matplotlib ship a few photographs inside their wheels. They are read from
those packages' folders (scikit-image's own loader would fetch what it misses), unprocessed after Brooks et
al., and written as DNG files, which then take the way of any camera's raw.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from attiqa.errors import InputError
from isp_env.photographs import DEFAULT_SIZE, write_scene

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
    size: tuple[int, int] = DEFAULT_SIZE,
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
        paths = write_scene(folder, scene, photograph, raws_a_scene, size, generator=generator)
        split[scene in held_out] += paths
    return split[False], split[True]
