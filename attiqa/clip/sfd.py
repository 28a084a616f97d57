"""The scorer of SFD-IQA (Dong et al., CVPR 2025, arXiv 2503.19295), as far as its abstract describes it.

Known: a discriminator (Feat-D) of CLIP's middle features, pixel by pixel, and a learnt pair of prompts (LPP)
on CLIP's output, both trained against a super-resolution network, score images afterwards without further
training. Inferred, and so our choice: the stage that is looked at, the discriminator's layers, how its map
and the prompts' share become one number (their mean), and no positional embedding, as in CLIP-IQA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import nn
from torch.nn import functional as F

from attiqa.attributes import AttributeSet
from attiqa.clip.clipiqa import without_positions
from attiqa.clip.embedding import ClipEncoder
from attiqa.clip.labels import antonym_differences, text_pairs
from attiqa.clip.prompted import NO_TEXT, clip_record
from attiqa.errors import InputError
from attiqa.nn.network import QualityNetwork

KIND = "sfd-iqa"


class FeatureDiscriminator(nn.Module):
    """Feat-D: each position of a feature map on its own, ``(B, C, h, w)`` to logits ``(B, 1, h, w)``."""

    def __init__(self, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, hidden, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, 1, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """High where a feature looks like one of a photograph."""
        return self.layers(features)


class SfdTower(nn.Module):
    """CLIP's ResNet without positions, and the discriminator of its third stage."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, tower: ModifiedResNet, mean: Sequence[float], std: Sequence[float], hidden: int
    ) -> None:
        super().__init__()
        self.tower = tower
        channels = tower.layer4[0].conv1.in_channels
        self.discriminator = FeatureDiscriminator(channels, hidden)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Display sRGB ``(B, 3, H, W)`` to the discriminator's map ``(B, 1, h, w)`` and unit vectors."""
        tower = self.tower
        middle = tower.layer3(tower.layer2(tower.layer1(tower.stem((images - self.mean) / self.std))))
        output = tower.attnpool(tower.layer4(middle))
        return self.discriminator(middle.float()), F.normalize(output.float(), dim=-1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``(B, D + 1)``: the unit vector, and the share of the map that looks like a photograph."""
        logits, vectors = self.parts(images)
        return torch.cat([vectors, torch.sigmoid(logits).mean(dim=(2, 3))], dim=1)


class SfdNetwork(QualityNetwork):
    """Quality in [0, 1]: the mean of the discriminator's share and the learnt good prompt's share.

    The attributes, gaps of antonym pairs, are our addition.
    """

    backbone: SfdTower
    prompt_pair: torch.Tensor
    attribute_pairs: torch.Tensor

    def __init__(
        self, backbone: SfdTower, dim: int, attribute_pairs: torch.Tensor, logit_scale: float
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.logit_scale = logit_scale
        self.register_buffer("prompt_pair", torch.zeros(2, dim))
        self.register_buffer("attribute_pairs", attribute_pairs)

    def outputs(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attributes ``(B, K)`` and quality ``(B,)``."""
        vectors, realness = features[:, :-1], features[:, -1]
        positive, negative = self.prompt_pair[:, None]
        share = torch.sigmoid(self.logit_scale * antonym_differences(vectors, positive, negative)[:, 0])
        attributes = antonym_differences(vectors, *self.attribute_pairs.unbind(dim=1))
        return attributes, (share + realness) / 2


def build_sfd(encoder: ClipEncoder, attributes: AttributeSet, hidden: int = 128) -> SfdNetwork:
    """Make the untrained scorer of a CLIP with a ResNet tower.

    Args:
        encoder: a CLIP that open_clip built, such as RN50 with OpenAI's weights.
        attributes: prompt set of the attributes.
        hidden: width of the discriminator.

    Raises:
        InputError: a tower of another kind, or an encoder whose configuration is unknown.
    """
    record = clip_record(encoder)
    tower = _resnet(encoder.model.visual)
    preprocess = encoder.preprocess
    backbone = SfdTower(tower, preprocess.mean, preprocess.std, hidden).to(encoder.device)
    # clones: what inference mode made cannot take part in a backward pass
    pairs = torch.stack(text_pairs(encoder, attributes), dim=1).clone()
    network = SfdNetwork(backbone, encoder.config["embed_dim"], pairs, encoder.logit_scale)
    network.architecture = {
        "kind": KIND,
        **record,
        "hidden": hidden,
        "attributes": len(attributes.names),
    }
    return network.eval()


def network_from_card(architecture: dict[str, Any]) -> SfdNetwork:
    """Rebuild, untrained, the network that a card's ``architecture`` record describes."""
    dim = int(architecture["embed_dim"])
    if not isinstance(architecture["vision_cfg"].get("layers"), list):
        raise InputError("the card names a tower that is no ResNet, whose features are no maps of pixels.")
    model = open_clip.CLIP(dim, architecture["vision_cfg"], NO_TEXT, architecture["quick_gelu"])
    tower = _resnet(model.visual)
    backbone = SfdTower(tower, architecture["mean"], architecture["std"], architecture["hidden"])
    pairs = torch.zeros(architecture["attributes"], 2, dim)
    network = SfdNetwork(backbone, dim, pairs, architecture["logit_scale"])
    network.architecture = architecture
    return network


def _resnet(tower: nn.Module) -> ModifiedResNet:
    if not isinstance(tower, ModifiedResNet):
        raise InputError(
            "SFD-IQA looks at CLIP's feature maps, and this CLIP's image tower is no ResNet; "
            "take RN50-quickgelu or another of OpenAI's ResNets."
        )
    return without_positions(tower)
