"""The flags that say which CLIP model to use, shared by the commands that use one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import CROPS, ClipEncoder, build_encoder
from attiqa.clip.weights import ACTIVATIONS, ClipWeights, find_weights
from attiqa.devices import pick_device
from attiqa.errors import InputError
from attiqa.options import option


@dataclass(frozen=True, kw_only=True)
class ClipModelOptions:
    """Which CLIP, and where it runs."""

    model: str = option(
        "ViT-B-16-quickgelu", help="open_clip model, folder with its config, or hf-hub:OWNER/NAME"
    )
    pretrained: str = option("openai", help="open_clip tag of the weights; see --weights for a file")
    weights: Path | None = option(
        None, help="weights file (safetensors) to use in place of a tag", metavar="FILE"
    )
    activation: str = option(
        "auto", choices=ACTIVATIONS, help="what the weights were trained with, where their name does not tell"
    )
    device: str = option("auto", help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one")

    def find(self) -> ClipWeights:
        """Find the weights; says so where the activation is not what the model's name promises."""
        found = find_weights(self.model, self.pretrained, self.weights, self.activation)
        if found.note:
            print(f"note: {found.note}", file=sys.stderr)
        return found

    def encoder(self) -> ClipEncoder:
        """Load the encoder."""
        return build_encoder(self.find(), pick_device(self.device))


@dataclass(frozen=True, kw_only=True)
class ClipOptions(ClipModelOptions):
    """Which encoder, how many windows an image, and how much at a time."""

    crops: str = option(
        "centre",
        choices=CROPS,
        help="centre: CLIP's own shrunken crop; five: windows at native resolution, where noise shows",
    )
    batch: int = option(64, help="images through the network at once")
    workers: int = option(0, help="processes that decode images; 0 decodes in this one")

    def __post_init__(self) -> None:
        if self.batch < 1 or self.workers < 0:
            raise InputError(
                "--batch must be at least 1 and --workers at least 0; "
                f"these are {self.batch} and {self.workers}."
            )

    def open_cache(self, folder: Path, encoder: ClipEncoder) -> EmbeddingCache:
        """Open or make the cache of this encoder and these windows."""
        return EmbeddingCache.open(folder, {**encoder.identity, "crops": self.crops})

    @property
    def embedding(self) -> dict[str, Any]:
        """The arguments of `embed_files` that come from flags."""
        return {"crops": self.crops, "batch_size": self.batch, "workers": self.workers}
