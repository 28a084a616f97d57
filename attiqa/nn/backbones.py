"""torchvision networks by name, cut to their features and split into the stages that can be pooled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from attiqa.errors import InputError

# ImageNet statistics of display sRGB in [0, 1], as every torchvision classifier expects
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

_PROBE_SIDE = 64


class Backbone(nn.Module):
    """Display sRGB in, pooled features out.

    Fully convolutional with global average pooling, so any image size goes; `levels` says how many of the
    last stages are pooled and concatenated (1: the paper's final features).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, stages: list[nn.Module], levels: int = 1) -> None:
        super().__init__()
        if not 1 <= levels <= len(stages):
            raise InputError(
                f"this backbone has {len(stages)} stages to pool; levels={levels} was asked for."
            )
        self.stages = nn.ModuleList(stages)
        self.levels = levels
        # not in the state dict: they are constants, not weights
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.width = self._measure_width()

    def _measure_width(self) -> int:
        was_training = self.training
        with torch.no_grad():
            width = self.eval()(torch.zeros(1, 3, _PROBE_SIDE, _PROBE_SIDE)).shape[1]
        self.train(was_training)
        return int(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` display sRGB in [0, 1], H and W at least 64, to ``(B, width)``."""
        x = (images - self.mean) / self.std
        pooled = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index >= len(self.stages) - self.levels:
                pooled.append(x.mean((2, 3)))  # (B, C_stage)
        return torch.cat(pooled, dim=1)


def build_backbone(
    name: str = "resnet50",
    *,
    levels: int = 1,
    stem_stride: int | None = None,
    depth: int | None = None,
    start: str | Path | None = None,
) -> Backbone:
    """Build a torchvision network by name, without its classifier.

    Args:
        name: a torchvision classifier such as ``resnet50`` (the paper's) or ``densenet121``.
        levels: how many of the last stages are pooled (residual and dense networks have 4, others 1).
        stem_stride: stride of the first convolution in place of its own; a larger one trades resolution of
            the feature maps for speed, while its filters still cover every pixel.
        depth: how many of the first stages are kept, all by default. What texture tells is known early, and
            the last stage of a residual network holds three quarters of its weights.
        start: safetensors file with torchvision's state dict, the classifier included or not;
            ``None`` starts from scratch. Nothing is downloaded.

    Raises:
        InputError: unknown name, a depth beyond the stages that there are, or weights of another network.
    """
    from torchvision import models  # brings torch's compiler: a second that --help and refusals need not wait

    if name not in models.list_models(module=models):
        raise InputError(f"{name!r} is not a torchvision classifier; for instance resnet50 or densenet121.")
    network = models.get_model(name, weights=None)
    if start is not None:
        _load_start(network, name, Path(start))
    if stem_stride is not None:
        _first_convolution(network).stride = (stem_stride, stem_stride)
    stages = _stages(network, name)
    if depth is not None and not 1 <= depth <= len(stages):
        raise InputError(f"{name} has {len(stages)} stages to keep; depth={depth} was asked for.")
    return Backbone(stages[:depth], levels)


def _load_start(network: nn.Module, name: str, path: Path) -> None:
    weights = read_safetensors(path)
    own = network.state_dict()
    missing = [key for key in own if key not in weights and not _is_classifier(key)]
    misshapen = [key for key in own if key in weights and weights[key].shape != own[key].shape]
    misshapen = [key for key in misshapen if not _is_classifier(key)]
    if missing or misshapen:
        raise InputError(
            f"{path} does not hold torchvision weights for {name}: "
            f"{len(missing)} tensors missing, {len(misshapen)} of another shape."
        )
    kept = {key: weights[key].to(own[key].dtype) for key in own if key in weights and not _is_classifier(key)}
    network.load_state_dict(kept, strict=False)


def read_safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a safetensors file; a missing, truncated or foreign file is an `InputError`."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected weights in a safetensors file.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}).") from None


def _is_classifier(key: str) -> bool:
    return key.split(".")[0] in ("fc", "classifier", "head", "heads")


def _first_convolution(network: nn.Module) -> nn.Conv2d:
    return next(module for module in network.modules() if isinstance(module, nn.Conv2d))


def _stages(network: nn.Module, name: str) -> list[nn.Module]:
    from torchvision import models

    if isinstance(network, models.ResNet):
        stem = [network.conv1, network.bn1, network.relu, network.maxpool]
        return [nn.Sequential(*stem, network.layer1), network.layer2, network.layer3, network.layer4]
    if isinstance(network, models.DenseNet):
        return _dense_stages(network.features)
    if isinstance(network, models.MobileNetV2 | models.MobileNetV3 | models.EfficientNet | models.VGG):
        return [network.features]
    if isinstance(network, models.ConvNeXt | models.RegNet | models.MNASNet | models.ShuffleNetV2):
        return _first_stages(network)
    raise InputError(
        f"{name!r} has no convolutional feature map to pool; use a residual, dense, mobile, efficient, VGG, "
        "ConvNeXt, RegNet, MNASNet or ShuffleNet network."
    )


def _first_stages(network: nn.Module) -> list[nn.Module]:
    """Networks that are a chain of children up to their pooling or classifier."""
    chain = []
    for key, module in network.named_children():
        if _is_classifier(key) or key == "avgpool":
            break
        chain.append(module)
    return [nn.Sequential(*chain)]


def _dense_stages(features: nn.Sequential) -> list[nn.Module]:
    """Split after each rectified norm: a mean over unrectified responses would cancel out."""
    stages: list[nn.Module] = []
    chain: list[nn.Module] = []
    for key, module in features.named_children():
        if not key.startswith("transition"):
            chain.append(module)
            continue
        parts = dict(module.named_children())
        stages.append(nn.Sequential(*chain, parts["norm"], parts["relu"]))
        chain = [parts["conv"], parts["pool"]]
    stages.append(nn.Sequential(*chain, nn.ReLU(inplace=True)))
    return stages


def freeze_normalisation(module: nn.Module) -> None:
    """Put batch norms into evaluation mode: their statistics stay, their scales still learn.

    Batches that hold many versions of few scenes have statistics unlike those of any image that the model
    will see, so fine-tuning with such batches keeps the statistics fixed.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def calibrate_normalisation(backbone: Backbone, batches: list[torch.Tensor]) -> None:
    """Set the running statistics of every batch norm to the averages over `batches` of ``(B, 3, H, W)``.

    Needed once after a change of stem stride, which moves the statistics away from those of the start.
    """
    norms = [part for part in backbone.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    was_training = backbone.training
    backbone.train()
    with torch.no_grad():
        for images in batches:
            backbone(images)
    backbone.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def pad_to_minimum(images: torch.Tensor, minimum: int = _PROBE_SIDE) -> torch.Tensor:
    """Repeat the border of images that are smaller than the backbone's `minimum` side."""
    height, width = images.shape[-2:]
    if min(height, width) >= minimum:
        return images
    pad = (0, max(0, minimum - width), 0, max(0, minimum - height))
    return F.pad(images, pad, mode="replicate")
