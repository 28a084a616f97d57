"""LPIPS on AlexNet (Zhang et al., CVPR 2018, version 0.1) from weights that lie in a folder.

Two files make it: torchvision's AlexNet (``alexnet-owt-7be5be79.pth``) and the calibrated linear layers as
the authors (``lpips/weights/v0.1/alex.pth``), torchmetrics or pyiqa (``LPIPS_v0.1_alex-df73285e.pth``)
distribute them. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torchvision.models import alexnet

from attiqa.errors import InputError
from attiqa.files import file_digest
from benchmarks.scorers import one_line
from benchmarks.tensors import SUFFIXES, read_tensors

# the rectified layers of torchvision's `alexnet().features` that are compared
_LAYERS = (1, 4, 7, 9, 11)
# of display sRGB in [-1, 1]
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips:
    """Learned perceptual distance of two images; 0 for equal ones, lower is better."""

    def __init__(
        self, backbone: Mapping[str, torch.Tensor], linear: Mapping[str, torch.Tensor], digest: str
    ) -> None:
        """Build from state dicts: torchvision's AlexNet, and ``lin0.model.1.weight`` to ``lin4...``.

        Raises:
            InputError: tensors are missing or of another shape.
        """
        self.digest = digest
        with torch.device("meta"):  # the weights come next: none are drawn
            self._features = alexnet(weights=None).features
        names = {f"features.{name}": name for name in self._features.state_dict()}
        channels = [layer.out_channels for layer in self._features if isinstance(layer, nn.Conv2d)]
        try:
            weights = {short: backbone[name].float() for name, short in names.items()}
            self._features.load_state_dict(weights, assign=True)
            self._linear = [
                linear[f"lin{k}.model.1.weight"].float().reshape(1, width, 1, 1)
                for k, width in enumerate(channels)
            ]
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"these are not the weights of LPIPS on AlexNet ({one_line(error)}); take torchvision's "
                "AlexNet and the linear layers of LPIPS 0.1."
            ) from None
        self._features.eval().requires_grad_(False)

    def __call__(self, image: torch.Tensor, reference: torch.Tensor) -> float:
        """Distance of two float32 ``(3, H, W)``, display sRGB in [0, 1], of one size, 64 pixels or more."""
        if image.shape != reference.shape or min(image.shape[1:]) < 64:
            raise InputError(
                "LPIPS compares two images of one size with 64 pixels or more a side; "
                f"these are {tuple(image.shape)} and {tuple(reference.shape)}."
            )
        with torch.inference_mode():
            x = torch.stack([image, reference]).float().cpu() * 2 - 1
            x = (x - torch.tensor(_SHIFT).view(1, 3, 1, 1)) / torch.tensor(_SCALE).view(1, 3, 1, 1)
            distance = torch.zeros(())
            linear = iter(self._linear)
            for number, layer in enumerate(self._features):
                # the rectifiers work in place, so a layer is used before the next one runs
                x = layer(x)
                if number in _LAYERS:
                    unit = x / (x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10)
                    distance += ((unit[:1] - unit[1:]).pow(2) * next(linear)).sum(dim=1).mean()
        return float(distance)


def find_lpips(folder: Path | None) -> Lpips:
    """LPIPS from the two files in `folder` or below it; ``None`` looks where torch keeps what it has fetched.

    Raises:
        InputError: a file is missing or is no such weights.
    """
    place = Path(torch.hub.get_dir()) if folder is None else folder
    found = sorted(path for path in place.rglob("*alex*") if path.suffix in SUFFIXES)
    backbones = [path for path in found if path.name.startswith("alexnet")]
    linears = [path for path in found if not path.name.startswith("alexnet") and "v0.0" not in str(path)]
    if not backbones or not linears:
        lacking = "alexnet-owt-7be5be79.pth" if not backbones else "the linear layers (alex.pth of LPIPS 0.1)"
        where = "torch's cache of weights" if folder is None else str(folder)
        raise InputError(
            f"LPIPS is left out: {where} lacks {lacking}; --lpips takes a folder that holds torchvision's "
            "alexnet-owt-7be5be79.pth and the linear layers that lpips, torchmetrics and pyiqa ship."
        )
    digest = f"{file_digest(backbones[0])} {file_digest(linears[0])}"
    return Lpips(read_tensors(backbones[0]), read_tensors(linears[0]), digest)
