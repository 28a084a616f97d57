"""CLIP as an encoder: images and texts to unit vectors, by the preprocessing that the weights expect."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

from attiqa.clip.weights import ClipWeights, find_weights
from attiqa.devices import keep_freed_memory
from attiqa.errors import InputError
from attiqa.files import file_digest
from attiqa.views import five_crops

CROPS = ("centre", "five")
_TEXT_BATCH = 256


@dataclass(frozen=True)
class Preprocess:
    """How pixels become the model's input.

    Attributes:
        size: side of the square input, pixels.
        mean, std: per channel, of display sRGB in [0, 1].
        interpolation: ``bicubic`` or ``bilinear``, antialiased.
        resize_mode: ``shortest`` (keep the aspect, then cut the centre) or ``squash``.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str

    def windows(self, images: torch.Tensor, crops: str = "centre") -> torch.Tensor:
        """Cut images into what the network sees.

        Args:
            images: ``(B, 3, H, W)``, uint8 or float32 in [0, 1], display sRGB.
            crops: ``centre`` is CLIP's own transform: shrink, then cut the centre. ``five`` cuts corners and
                centre at the native resolution, where noise and blur are not averaged away; our choice. An
                image smaller than a window is enlarged to it.

        Returns:
            ``(B, K, 3, size, size)``, the dtype of `images`.
        """
        if crops == "centre":
            return self._shrunk(images)[:, None]
        if min(images.shape[-2:]) < self.size:
            images = self._resize(images, [self.size])
        return five_crops(images, self.size)

    def _shrunk(self, images: torch.Tensor) -> torch.Tensor:
        if self.resize_mode == "squash":
            return self._resize(images, [self.size, self.size])
        return transforms.center_crop(self._resize(images, [self.size]), [self.size, self.size])

    def _resize(self, images: torch.Tensor, size: list[int]) -> torch.Tensor:
        mode = transforms.InterpolationMode(self.interpolation)
        resized = transforms.resize(images, size, interpolation=mode, antialias=True)
        return resized.clamp(0, 1) if images.is_floating_point() else resized  # bicubic overshoots

    def normalise(self, windows: torch.Tensor) -> torch.Tensor:
        """uint8 or float32 [0, 1] windows ``(N, 3, S, S)`` to the network's float32 input."""
        scaled = windows.float() / 255.0 if windows.dtype == torch.uint8 else windows
        return transforms.normalize(scaled, list(self.mean), list(self.std))


class ClipEncoder:
    """A frozen open_clip model with its tokenizer and preprocessing.

    Attributes:
        model: the open_clip module, in evaluation mode, float32.
        preprocess: what the weights expect.
        identity: JSON record that tells one encoder from another: model, tag, digest, activation, size, dim.
        logit_scale: the temperature's inverse that the model was trained with (100 for OpenAI's).
        config: open_clip's configuration of the model, activation included; empty where it is unknown.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        preprocess: Preprocess,
        identity: dict[str, Any],
        device: torch.device | str = "cpu",
        config: dict[str, Any] | None = None,
    ) -> None:
        keep_freed_memory()
        self.config = config or {}
        self.model = model.eval().requires_grad_(False).to(device)
        self.preprocess = preprocess
        self.device = torch.device(device)
        self.logit_scale = math.exp(self.model.logit_scale.item())
        self._tokenizer = tokenizer
        self.identity = {
            **identity,
            "image_size": preprocess.size,
            "dim": self.embed_texts(["image"]).shape[1],
        }

    @torch.inference_mode()
    def embed_windows(self, windows: torch.Tensor) -> torch.Tensor:
        """Embed what `Preprocess.windows` cut.

        Args:
            windows: ``(B, K, 3, S, S)``, uint8 or float32 in [0, 1], display sRGB, any device.

        Returns:
            float32 ``(B, D)``: the mean over the K windows' unit vectors, made a unit vector again.
        """
        batch, count = windows.shape[:2]
        pixels = self.preprocess.normalise(windows.to(self.device).flatten(0, 1))
        embedded = self.model.encode_image(pixels, normalize=True).float()
        return F.normalize(embedded.reshape(batch, count, -1).mean(dim=1), dim=-1)

    def embed_images(self, images: torch.Tensor, crops: str = "centre") -> torch.Tensor:
        """Embed images of one size, ``(B, 3, H, W)`` uint8 or float32 [0, 1] display sRGB, to ``(B, D)``."""
        return self.embed_windows(self.preprocess.windows(images.to(self.device), crops))

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Token ids int64 ``(T, L)``, padded to the context length, on the encoder's device."""
        return self._tokenizer(list(texts)).to(self.device)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed sentences; float32 ``(T, D)`` unit vectors on the encoder's device."""
        parts = [
            self.model.encode_text(self.tokenize(texts[start : start + _TEXT_BATCH]), normalize=True)
            for start in range(0, len(texts), _TEXT_BATCH)
        ]
        return torch.cat(parts).float()


def load_clip(
    model: str = "ViT-B-16-quickgelu",
    pretrained: str = "openai",
    weights: Path | None = None,
    activation: str = "auto",
    device: torch.device | str = "cpu",
) -> ClipEncoder:
    """Load a CLIP model as an encoder; the default is the paper's (CLIP ViT-B/16, section 3.2).

    The arguments are `find_weights`'s. Nothing is downloaded where the weights lie in a file, a folder, or
    the hub's cache.

    Raises:
        InputError: as `find_weights`, or the weights don't fit the model.
    """
    return build_encoder(find_weights(model, pretrained, weights, activation), device)


def build_encoder(found: ClipWeights, device: torch.device | str = "cpu") -> ClipEncoder:
    """Build the model that `found` names and fill it with its weights."""
    with _without_warnings():  # open_clip would say that the weights, which come next, are missing
        network = open_clip.create_model(
            found.model,
            load_weights=False,
            pretrained_text=False,
            force_preprocess_cfg=found.preprocess,
            quick_gelu=found.quick_gelu,
        )
    try:
        open_clip.load_checkpoint(network, str(found.path), strict=True, weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{found.path} holds objects other than tensors, which could run code; "
            "save its state dict as safetensors."
        ) from None
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]  # torch lists every tensor, a line each
        raise InputError(
            f"{found.path} does not fit the model {found.model} ({reason}); "
            "name the model that it was trained as."
        ) from None
    identity = {
        "model": found.model.removeprefix("local-dir:").rstrip("/").rpartition("/")[2],
        "pretrained": found.tag or found.path.name,
        "digest": file_digest(found.path),
        "activation": "quickgelu" if found.quick_gelu else "gelu",
    }
    tokenizer, preprocess = open_clip.get_tokenizer(found.model), _preprocess_of(network)
    config = {**open_clip.get_model_config(found.model), "quick_gelu": found.quick_gelu}
    return ClipEncoder(network, tokenizer, preprocess, identity, device, config)


@contextmanager
def _without_warnings() -> Iterator[None]:
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


def _preprocess_of(network: torch.nn.Module) -> Preprocess:
    config = open_clip.get_model_preprocess_cfg(network)
    size = config["size"]
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1 or config["resize_mode"] not in ("shortest", "squash"):
        raise InputError(
            f"this model takes {size} pixels by resize mode {config['resize_mode']!r}; only square inputs by "
            "'shortest' or 'squash' are supported: choose another model."
        )
    return Preprocess(
        sides.pop(),
        tuple(config["mean"]),
        tuple(config["std"]),
        config["interpolation"],
        config["resize_mode"],
    )
