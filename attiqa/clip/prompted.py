"""CLIP's image tower with fixed questions, as a quality network that is saved and loaded like any other.

CLIP-IQA (arXiv 2207.12396) and QualiCLIP (arXiv 2403.11176) score alike: the image tower runs without its
positional embedding, and each antonym pair gives the softmax share of its good side. Only the weights of the
tower differ. The texts' embeddings are stored, so that scoring needs no text tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from torch import nn
from torch.nn import functional as F

from attiqa.attributes import AttributeSet
from attiqa.clip.clipiqa import without_positions
from attiqa.clip.embedding import ClipEncoder
from attiqa.clip.labels import antonym_differences, text_pairs
from attiqa.errors import InputError
from attiqa.nn.network import QualityNetwork

KIND = "qualiclip"
# open_clip builds a whole CLIP; the text side is thrown away
NO_TEXT = {"context_length": 2, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}


class PromptedTower(nn.Module):
    """Display sRGB ``(B, 3, H, W)`` of any size to unit vectors ``(B, D)``."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, tower: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed without a positional embedding; float32."""
        return F.normalize(self.tower((images - self.mean) / self.std).float(), dim=-1)


class PromptedNetwork(QualityNetwork):
    """Quality as the mean share of the good sides of P antonym pairs; attributes as K further pairs' gaps.

    The attributes are our addition: QualiCLIP gives a score alone.
    """

    backbone: PromptedTower
    quality_pairs: torch.Tensor
    attribute_pairs: torch.Tensor

    def __init__(
        self,
        backbone: PromptedTower,
        quality_pairs: torch.Tensor,
        attribute_pairs: torch.Tensor,
        logit_scale: float,
    ) -> None:
        """Join a tower and what it is asked.

        Args:
            backbone: the image tower.
            quality_pairs: unit vectors ``(P, 2, D)``, the good side first.
            attribute_pairs: unit vectors ``(K, 2, D)``, positive first.
            logit_scale: inverse temperature of the softmax over a pair.
        """
        super().__init__()
        self.backbone = backbone
        self.logit_scale = logit_scale
        self.register_buffer("quality_pairs", quality_pairs)
        self.register_buffer("attribute_pairs", attribute_pairs)

    def similarities(self, features: torch.Tensor) -> torch.Tensor:
        """Cosines of features ``(B, D)`` with both sides of each quality pair, ``(B, P, 2)``."""
        return torch.einsum("bd,psd->bps", features, self.quality_pairs)

    def outputs(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attributes ``(B, K)``, ``s_pos - s_neg``, and quality ``(B,)`` in [0, 1]."""
        good, bad = self.similarities(features).unbind(dim=2)
        quality = torch.sigmoid(self.logit_scale * (good - bad)).mean(dim=1)
        return antonym_differences(features, *self.attribute_pairs.unbind(dim=1)), quality


def clip_record(encoder: ClipEncoder) -> dict[str, Any]:
    """What a card's ``architecture`` says of the CLIP whose image tower a network holds.

    Raises:
        InputError: the encoder's configuration is unknown.
    """
    if not encoder.config:
        raise InputError("this CLIP was not built from an open_clip configuration, so it can't be saved.")
    preprocess = encoder.preprocess
    return {
        **{name: encoder.config[name] for name in ("embed_dim", "vision_cfg", "quick_gelu")},
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "logit_scale": encoder.logit_scale,
    }


def build_prompted(
    encoder: ClipEncoder, quality: Sequence[tuple[str, str]], attributes: AttributeSet
) -> PromptedNetwork:
    """Make a scoring network of a CLIP: a copy of its image tower and its embeddings of the prompts.

    Args:
        encoder: a CLIP that open_clip built; the paper of QualiCLIP uses RN50 with OpenAI's weights.
        quality: antonym sentences, the good side first; one pair is CLIP-IQA.
        attributes: prompt set of the attributes.

    Raises:
        InputError: no pair, a tower without a positional embedding of its own, or an encoder whose
            configuration is unknown.
    """
    if not quality:
        raise InputError("a prompted network needs at least one pair of quality prompts; there is none.")
    record, preprocess = clip_record(encoder), encoder.preprocess
    sides = [encoder.embed_texts(side) for side in zip(*quality, strict=True)]
    # clones: what inference mode made cannot take part in a backward pass
    quality_pairs = torch.stack(sides, dim=1).clone()
    attribute_pairs = torch.stack(text_pairs(encoder, attributes), dim=1).clone()
    tower = PromptedTower(without_positions(encoder.model.visual), preprocess.mean, preprocess.std)
    network = PromptedNetwork(tower, quality_pairs, attribute_pairs, encoder.logit_scale)
    network.architecture = {
        "kind": KIND,
        **record,
        "quality_pairs": len(quality),
        "attributes": len(attributes.names),
    }
    return network.eval()


def network_from_card(architecture: dict[str, Any]) -> PromptedNetwork:
    """Rebuild, untrained, the network that a card's ``architecture`` record describes."""
    dim = int(architecture["embed_dim"])
    if architecture["vision_cfg"].get("timm_model_name"):
        raise InputError("the card names a tower of timm, which has no positional embedding of CLIP's form.")
    model = open_clip.CLIP(dim, architecture["vision_cfg"], NO_TEXT, architecture["quick_gelu"])
    tower = PromptedTower(without_positions(model.visual), architecture["mean"], architecture["std"])
    pairs, attributes = architecture["quality_pairs"], architecture["attributes"]
    network = PromptedNetwork(
        tower, torch.zeros(pairs, 2, dim), torch.zeros(attributes, 2, dim), architecture["logit_scale"]
    )
    network.architecture = architecture
    return network
