"""The ATTIQA network: a shared backbone, one two-layer head an attribute, a regressor to MOS on top.

Kwon et al., ATTIQA, ACCV 2024 (arXiv 2406.01020), sections 3.4 and 3.5.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attiqa.devices import keep_freed_memory
from attiqa.nn.backbones import Backbone, build_backbone


class AttributeHeads(nn.Module):
    """``count`` independent two-layer heads, computed together: width -> hidden -> ReLU -> 1 each.

    2048-512-1 is our choice of sizes; the paper says two layers.
    """

    def __init__(self, width: int, hidden: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.first = nn.Linear(width, count * hidden)
        bound = 1 / math.sqrt(hidden)  # the range that nn.Linear(hidden, 1) starts from
        self.last_weight = nn.Parameter(torch.empty(count, hidden).uniform_(-bound, bound))
        self.last_bias = nn.Parameter(torch.zeros(count))

    def hidden(self, features: torch.Tensor) -> torch.Tensor:
        """``(B, width)`` to the rectified hidden layer of every head, ``(B, count, hidden)``."""
        return torch.relu(self.first(features)).unflatten(1, (self.count, -1))

    def last(self, hidden: torch.Tensor) -> torch.Tensor:
        """``(B, count, hidden)`` to attribute scores ``(B, count)``."""
        return (hidden * self.last_weight).sum(-1) + self.last_bias


class Regressor(nn.Module):
    """Concatenated hidden layers of the heads to one score: an MLP (section 3.5) plus a linear path.

    The linear path is our addition: small sets of ratings are fitted on it in closed form, and what the MLP
    has learnt stays as it is.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.linear = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``(..., width)`` to ``(...)``."""
        return (self.mlp(hidden) + self.linear(hidden)).squeeze(-1)


class QualityNetwork(nn.Module):
    """What a quality model runs: a backbone to features, and attributes and quality from those.

    Attributes:
        architecture: JSON values, for the card, from which the module of its ``kind`` rebuilds it untrained.
        backbone: ``(B, 3, H, W)`` display sRGB in [0, 1] to features ``(B, D)``.
    """

    architecture: dict[str, Any]
    backbone: nn.Module

    def outputs(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features ``(B, D)`` to attributes ``(B, K)`` and quality ``(B,)``."""
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(B, 3, H, W)`` display sRGB in [0, 1] to attributes ``(B, K)`` and quality ``(B,)``."""
        return self.outputs(self.backbone(images))


class AttributeNetwork(QualityNetwork):
    """Attributes and a quality score from one backbone.

    Section 3.5: for MOS the last layer of each head is dropped, the hidden layers are concatenated and a
    regression MLP maps them to one number. Both outputs are kept, so that a fine-tuned model still reports
    its attributes.
    """

    backbone: Backbone

    def __init__(self, backbone: Backbone, attributes: int, hidden: int, regressor_hidden: int) -> None:
        super().__init__()
        keep_freed_memory()  # activations
        self.architecture = {}  # what `build_network` was given
        self.backbone = backbone
        self.heads = AttributeHeads(backbone.width, hidden, attributes)
        self.regressor = Regressor(attributes * hidden, regressor_hidden)

    def outputs(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features ``(B, width)`` to attributes ``(B, K)`` and quality ``(B,)``."""
        hidden = self.heads.hidden(features)
        return self.heads.last(hidden), self.regressor(hidden.flatten(1))

    @torch.inference_mode()
    def hidden(self, images: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` display sRGB to the concatenated hidden layers of the heads, ``(B, D)``."""
        features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return self.heads.hidden(features).flatten(1)


def build_network(
    backbone: str = "resnet50",
    *,
    attributes: int = 5,
    hidden: int = 512,
    regressor_hidden: int = 256,
    levels: int = 1,
    stem_stride: int | None = None,
    depth: int | None = None,
    start: str | Path | None = None,
) -> AttributeNetwork:
    """Build the network from plain sizes; the defaults are the paper's backbone with our head sizes.

    Args:
        backbone: torchvision name.
        attributes: number of attribute heads.
        hidden: width of each head's hidden layer.
        regressor_hidden: width of the MOS regressor's hidden layer.
        levels, stem_stride, depth, start: see `attiqa.nn.backbones.build_backbone`.
    """
    body = build_backbone(backbone, levels=levels, stem_stride=stem_stride, depth=depth, start=start)
    network = AttributeNetwork(body, attributes, hidden, regressor_hidden)
    network.architecture = {
        "kind": "attiqa",
        "backbone": backbone,
        "attributes": attributes,
        "hidden": hidden,
        "regressor_hidden": regressor_hidden,
        "levels": levels,
        "stem_stride": stem_stride,
        "depth": depth,
    }
    return network


def network_from_card(architecture: dict[str, Any]) -> AttributeNetwork:
    """Rebuild, untrained, the network that a card's ``architecture`` record describes."""
    sizes = {key: value for key, value in architecture.items() if key != "kind"}
    return build_network(**sizes)
