"""Quality models as users hold them: `load` one by name, call it on images."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from attiqa.checkpoint import card_path, load_network
from attiqa.errors import InputError
from attiqa.nn.backbones import pad_to_minimum
from attiqa.nn.network import QualityNetwork
from attiqa.views import look

DEFAULT_MODEL = "attiqa-mini"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class QualityModel:
    """Scores photographs; higher is better.

    Images are float32 ``(B, 3, H, W)``, display sRGB in [0, 1], of any size, on any device. The result of an
    image does not depend on which others share its batch. No gradient is kept. An instance is also a reward:
    calling it is calling `score`.
    """

    def __init__(
        self,
        network: QualityNetwork,
        card: dict[str, Any],
        device: str | torch.device = "cpu",
        precision: str = "float32",
    ) -> None:
        """Wrap a trained network.

        Args:
            network: as `attiqa.checkpoint.load_network` returns it.
            card: its card; ``attributes`` names the columns, ``digest`` identifies the weights.
            device: where it runs; images are moved there.
            precision: ``float32``, or ``bfloat16`` for autocast, faster where the processor has it.
        """
        if precision not in PRECISIONS:
            raise InputError(f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
        self.card = card
        self.device = torch.device(device)
        self.precision = precision
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.network = self.network.to(memory_format=torch.channels_last)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the columns of `attributes`."""
        return tuple(self.card["attributes"])

    @property
    def digest(self) -> str:
        """SHA-256 of the weights file."""
        return str(self.card["digest"])

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The reward: `score`."""
        return self.score(images)

    def score(self, images: torch.Tensor, view: str = "whole") -> torch.Tensor:
        """Quality, ``(B,)`` float32; about 0 (bad) to 1 (excellent), not clamped. `view`: see `assess`."""
        return self.assess(images, view)[0]

    def attributes(self, images: torch.Tensor, view: str = "whole") -> torch.Tensor:
        """Attribute scores, ``(B, K)`` float32 in the order of `attribute_names`; only their order means
        something: higher is sharper, of more contrast, brighter, more colourful, cleaner."""
        return self.assess(images, view)[1]

    def assess(self, images: torch.Tensor, view: str = "whole") -> tuple[torch.Tensor, torch.Tensor]:
        """Quality ``(B,)`` and attributes ``(B, K)`` in one pass; gradients flow to images that ask for them.

        Args:
            images: float32 ``(B, 3, H, W)``, display sRGB in [0, 1].
            view: ``whole`` (resized to about 224 x 224 pixels), or ``five``, ``centre``, ``full`` for files:
                see `attiqa.views.look`. The mean over a view's crops is returned.

        Raises:
            InputError: another layout or dtype, or images that hold NaN or infinity.
        """
        with torch.inference_mode(not images.requires_grad):
            features, crops = self._features(images, view)
            attributes, quality = self.network.outputs(features)
            quality = quality.view(-1, crops).mean(1)
            if not bool(torch.isfinite(quality).all()):
                raise InputError("an image holds NaN or infinity; expected display sRGB in [0, 1].")
            return quality, attributes.view(len(quality), crops, -1).mean(1)

    def features(self, images: torch.Tensor, view: str = "whole") -> torch.Tensor:
        """Pooled backbone features, ``(B, D)`` float32, for cosine similarities and linear probes."""
        with torch.inference_mode():
            features, crops = self._features(images, view)
            return features.view(-1, crops, features.shape[1]).mean(1)

    def describe(self) -> dict[str, Any]:
        """The card: architecture, training data, protocol, metrics, calibration, digest; JSON values."""
        return {**self.card, "device": str(self.device), "precision": self.precision}

    def _features(self, images: torch.Tensor, view: str) -> tuple[torch.Tensor, int]:
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.float32 or 0 in images.shape:
            raise InputError(
                "expected float32 images (B, 3, H, W), display sRGB in [0, 1]; "
                f"got {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}."
            )
        crops = look(images.to(self.device, non_blocking=True), view)
        flat = pad_to_minimum(crops.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        dtype = PRECISIONS[self.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            return self.network.backbone(flat).float(), crops.shape[1]


def bundled_models() -> dict[str, Path]:
    """The models that ship inside the package: name to weights file."""
    folder = Path(str(resources.files("attiqa").joinpath("weights")))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def load(
    name_or_path: str | Path = DEFAULT_MODEL, device: str | torch.device = "cpu", precision: str = "float32"
) -> QualityModel:
    """Load a quality model.

    Args:
        name_or_path: a bundled name (`bundled_models`), a ``.safetensors`` file or a folder that holds one
            (its card beside it), or a hub id ``owner/name``.
        device: where it runs.
        precision: ``float32`` or ``bfloat16`` (see `QualityModel`).

    Raises:
        InputError: unknown name, missing or truncated file, no card, other architecture, hub unreachable.
    """
    network, card = load_network(find_weights(name_or_path))
    return QualityModel(network, card, device, precision)


def find_weights(name_or_path: str | Path) -> Path:
    """The local weights file that a bundled name, a path or a hub id stands for."""
    known = bundled_models()
    path = Path(name_or_path)
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    if path.is_dir():
        return _only_weights(path)
    if path.suffix == ".safetensors" or path.exists():
        return path
    if _HUB_ID.fullmatch(str(name_or_path)):
        return _only_weights(_download(str(name_or_path)))
    raise InputError(
        f"there is no model {str(name_or_path)!r}; known are {', '.join(known) or 'none'}, "
        "a .safetensors file with its card, or a hub id owner/name."
    )


def _only_weights(folder: Path) -> Path:
    found = sorted(path for path in folder.glob("*.safetensors") if card_path(path).is_file())
    if len(found) != 1:
        raise InputError(
            f"{folder} holds {len(found)} checkpoints (a .safetensors file with its .json); expected one."
        )
    return found[0]


def _download(hub_id: str) -> Path:
    # imported here: most users never reach the hub, and the import takes a second
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.safetensors", "*.json"]))
    except Exception as error:  # the hub client raises a dozen kinds, also for "offline"
        raise InputError(
            f"{hub_id} could not be had from the Hugging Face hub ({type(error).__name__}); "
            "check the name and the connection, or give a local .safetensors file."
        ) from None
