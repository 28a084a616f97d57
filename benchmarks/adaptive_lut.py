"""Image-Adaptive-3DLUT (Zeng et al., TPAMI 2020), a peer that was trained on FiveK's expert C.

A small network weighs three lookup tables by what it sees of a picture, and every pixel is looked up in their
sum. The authors' weights for sRGB are two files, ``LUTs.pth`` and ``classifier.pth``; nothing is downloaded.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.utils import save_image

from attiqa.errors import InputError
from attiqa.files import atomic_path, file_digest
from attiqa.images import read_image, to_float
from benchmarks.enhancement import Images
from benchmarks.scorers import identity, one_line
from benchmarks.tensors import read_tensors
from isp_env.color import look_up

_SEEN = 256  # pixels a side: what the network sees of a picture, whatever its shape
_WIDTHS = (16, 32, 64, 128, 128)
_TABLES = ("0", "1", "2")


class AdaptiveLut:
    """Enhances display sRGB with one lookup table a picture.

    Args:
        network: state dict of the classifier, whose layers are called ``model.1`` to ``model.16``.
        tables: ``0``, ``1`` and ``2``, each a dict with ``LUT``, float32 ``(3, N, N, N)`` at
            ``[channel, blue, green, red]``.

    Raises:
        InputError: tensors are missing or of another shape.
    """

    def __init__(self, network: Mapping[str, Any], tables: Mapping[str, Any]) -> None:
        with torch.device("meta"):  # the weights come next: none are drawn
            self._network = nn.Sequential(nn.Upsample(size=(_SEEN, _SEEN), mode="bilinear"), *_layers())
        names = {f"model.{name}": name for name in self._network.state_dict()}
        try:
            weights = {short: network[name].float() for name, short in names.items()}
            self._network.load_state_dict(weights, assign=True)
            self._tables = torch.stack([tables[name]["LUT"].float() for name in _TABLES])
            if self._tables.shape[1:] != (3, *[self._tables.shape[-1]] * 3):
                raise ValueError(f"tables of the shape {tuple(self._tables.shape[1:])}")
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"these are not the weights of Image-Adaptive-3DLUT ({one_line(error)}); take LUTs.pth and "
                "classifier.pth of its pretrained_models/sRGB."
            ) from None
        self._network.eval().requires_grad_(False)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Float32 ``(3, H, W)``, display sRGB in [0, 1], to the same."""
        with torch.inference_mode():
            share = self._network(image[None]).flatten()
            return look_up(torch.einsum("k,kcbgr->cbgr", share, self._tables), image).clamp(0.0, 1.0)


def _layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    for incoming, width in itertools.pairwise((3, *_WIDTHS)):
        layers += [
            nn.Conv2d(incoming, width, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.InstanceNorm2d(width, affine=True),
        ]
    layers[-1] = nn.Identity()  # dropout, which weighs nothing: the last block has no norm
    return [*layers, nn.Conv2d(_WIDTHS[-1], len(_TABLES), 8)]


def render(weights: Path, source: Images, out: Path) -> Images:
    """Each of `source` by the peer whose two files lie in `weights`, as 8-bit PNG below `out`.

    Pictures that exist are kept: their folder is named by the weights' digest. What cannot be read is left
    out.

    Raises:
        InputError: a file of weights is missing or holds something else.
    """
    files = [weights / name for name in ("classifier.pth", "LUTs.pth")]
    for file in files:
        if not file.is_file():
            raise InputError(
                f"{weights} lacks {file.name}; --adaptive-3dlut takes a folder that holds classifier.pth and "
                "LUTs.pth of Image-Adaptive-3DLUT's pretrained_models/sRGB."
            )
    enhance = AdaptiveLut(*(read_tensors(file) for file in files))
    folder = out / f"adaptive-3dlut-{identity(*map(file_digest, files))[:12]}"
    rendered: Images = {}
    for scene, path in source.items():
        picture = folder / f"{scene}.png"
        if not picture.exists():
            try:
                image = to_float(read_image(path))
            except InputError:
                continue  # where the input itself is compared, the report says what is wrong with it
            with atomic_path(picture) as temporary:
                save_image(enhance(image), temporary)
        rendered[scene] = picture
    return rendered
