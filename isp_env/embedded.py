"""The input that needs no download: photographs that installed packages carry, turned into raw files.

scikit-image, scikit-learn and matplotlib ship a few photographs inside their wheels. They are read from
those packages' folders (scikit-image's own loader would fetch what it misses), unprocessed after Brooks et
al., and written as DNG files, which then take the way of any camera's raw.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch

from attiqa.errors import InputError
from isp_env.photographs import DEFAULT_SIZE, MANY_SCENES, Variety, write_scene

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
# never held out: textures and instruments' pictures, which widen what an agent trains on
STUDIES = {
    "brick": ("skimage", "data/brick.png"),
    "camera": ("skimage", "data/camera.png"),
    "coins": ("skimage", "data/coins.png"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg"),
    "ihc": ("skimage", "data/ihc.png"),
    "retina": ("skimage", "data/retina.jpg"),
}


def embedded_photographs() -> dict[str, Path]:
    """The scenes of which the photograph is installed, by name.

    Raises:
        InputError: fewer than three are.
    """
    found = _installed(SCENES)
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
    held_out_raws: int = 6,
    study_raws: int = 0,
    size: tuple[int, int] = DEFAULT_SIZE,
) -> tuple[list[Path], list[Path]]:
    """Write the embedded photographs as Bayer DNG files with errors to mend.

    Args:
        folder: where to; made where missing, files of the same names are replaced.
        seed: draws the split of the scenes, the crops, the cameras, the errors and the noise.
        raws_a_scene: files made of each photograph to train on, as various as
            `isp_env.photographs.MANY_SCENES` says.
        held_out_scenes: scenes (never files) kept for evaluation; at least one is left for training.
        held_out_raws: files made of each of those, as photographed.
        study_raws: files made of each of `STUDIES`, to train on.
        size: height and width of each raw, even numbers.

    Returns:
        The files for training and the files held out, in the order of their names.

    Raises:
        InputError: the photographs are not installed, or an argument leaves nothing to train or hold out.
    """
    photographs = embedded_photographs()
    if not 1 <= held_out_scenes < len(photographs) or min(raws_a_scene, held_out_raws) < 1:
        raise InputError(
            f"of {len(photographs)} scenes 1 to {len(photographs) - 1} can be held out, with at least one "
            f"raw a scene; asked for {held_out_scenes}, and {min(raws_a_scene, held_out_raws)} raws."
        )
    generator = torch.Generator().manual_seed(seed)
    scenes = list(photographs)
    order = torch.randperm(len(scenes), generator=generator).tolist()
    held_out = {scenes[index] for index in order[:held_out_scenes]}
    split: dict[bool, list[Path]] = {False: [], True: []}
    for scene, photograph in photographs.items():
        count, variety = (held_out_raws, Variety()) if scene in held_out else (raws_a_scene, MANY_SCENES)
        split[scene in held_out] += write_scene(
            folder, scene, photograph, count, size, variety, generator=generator
        )
    for study, picture in _installed(STUDIES).items() if study_raws else ():
        split[False] += write_scene(
            folder, study, picture, study_raws, size, MANY_SCENES, generator=generator
        )
    return split[False], split[True]


def _installed(places: Mapping[str, tuple[str, str]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, (package, inside) in places.items():
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / inside if spec and spec.origin else None
        if path and path.is_file():
            found[name] = path
    return found
