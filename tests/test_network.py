"""Backbones and the attribute network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from attiqa.errors import InputError
from attiqa.nn.backbones import build_backbone, calibrate_normalisation, freeze_normalisation
from attiqa.nn.network import AttributeHeads, build_network
from tests.tiny import tiny_network

WIDTHS = {"resnet18": 512, "mobilenet_v3_small": 576, "densenet121": 1024, "shufflenet_v2_x0_5": 1024}


@pytest.mark.parametrize(("name", "width"), WIDTHS.items())
def test_a_backbone_by_name_yields_pooled_features_of_any_image_size(name: str, width: int) -> None:
    backbone = build_backbone(name).eval()
    assert backbone.width == width
    with torch.no_grad():
        assert backbone(torch.rand(2, 3, 96, 64)).shape == (2, width)


def test_final_features_equal_torchvisions_own(tmp_path: Path) -> None:
    theirs = models.densenet121(weights=None).eval()
    theirs.classifier = torch.nn.Identity()
    start = tmp_path / "start.safetensors"
    save_file(theirs.state_dict(), start)
    ours = build_backbone("densenet121", start=start).eval()
    images = torch.rand(1, 3, 64, 96)
    normalised = models.DenseNet121_Weights.DEFAULT.transforms(crop_size=64, resize_size=64)
    statistics = (torch.tensor(values).view(3, 1, 1) for values in (normalised.mean, normalised.std))
    mean, std = statistics
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs((images - mean) / std), rtol=1e-4, atol=1e-5)


def test_several_levels_are_concatenated_and_end_in_the_final_features() -> None:
    torch.manual_seed(3)
    last = build_backbone("resnet18").eval()
    torch.manual_seed(3)
    both = build_backbone("resnet18", levels=2).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert both(images).shape == (1, 256 + 512)
        torch.testing.assert_close(both(images)[:, 256:], last(images))


def test_a_shallower_backbone_ends_in_the_features_of_its_last_stage() -> None:
    torch.manual_seed(3)
    deep = build_backbone("resnet18", levels=3).eval()
    torch.manual_seed(3)
    shallow = build_backbone("resnet18", depth=2).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(shallow(images), deep(images)[:, :128])
    with pytest.raises(InputError, match="has 4 stages to keep"):
        build_backbone("resnet18", depth=5)


def test_a_larger_stem_stride_leaves_the_weights_shapes_alone() -> None:
    usual, strided = build_backbone("resnet18"), build_backbone("resnet18", stem_stride=4)
    assert {k: v.shape for k, v in usual.state_dict().items()} == {
        k: v.shape for k, v in strided.state_dict().items()
    }
    assert strided.stages[0][0].stride == (4, 4)


def test_heads_equal_separate_two_layer_networks() -> None:
    heads = AttributeHeads(width=6, hidden=4, count=3)
    features = torch.randn(5, 6)
    for k in range(3):
        rows = slice(4 * k, 4 * k + 4)
        hidden = torch.relu(features @ heads.first.weight[rows].T + heads.first.bias[rows])
        expected = hidden @ heads.last_weight[k] + heads.last_bias[k]
        torch.testing.assert_close(heads.last(heads.hidden(features))[:, k], expected)


def test_a_sixth_attribute_is_one_more_column() -> None:
    network = build_network("shufflenet_v2_x0_5", attributes=6, hidden=8, regressor_hidden=8).eval()
    attributes, quality = network(torch.rand(2, 3, 64, 64))
    assert attributes.shape == (2, 6)
    assert quality.shape == (2,)


def test_gradients_reach_backbone_heads_and_regressor() -> None:
    network = tiny_network().train()
    attributes, quality = network(torch.rand(4, 3, 64, 64))
    (attributes.square().sum() + quality.square().sum()).backward()
    for part in (network.backbone.stages[0][0], network.heads.first, network.regressor):
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters())


def test_frozen_normalisation_keeps_its_statistics_while_training() -> None:
    backbone = build_backbone("resnet18").train()
    freeze_normalisation(backbone)
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone(torch.rand(4, 3, 64, 64))
    assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())


def test_calibrated_normalisation_makes_evaluation_agree_with_training() -> None:
    backbone = build_backbone("resnet18", stem_stride=4)
    images = torch.rand(32, 3, 128, 128)
    calibrate_normalisation(backbone, [images])
    with torch.no_grad():
        evaluated = backbone.eval()(images)
        trained = backbone.train()(images)
    # not equal: running variances are unbiased, and the last stage has only 128 values a channel
    assert float((evaluated - trained).abs().mean()) < 0.02 * float(trained.abs().mean())


@pytest.mark.parametrize("name", ["resnet5", "maskrcnn_resnet50_fpn", "vit_b_16"])
def test_a_network_without_feature_map_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(InputError, match=name):
        build_backbone(name)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(
        InputError, match="torchvision weights for resnet18: 119 tensors missing, 1 of another"
    ):
        build_backbone("resnet18", start=path)
    with pytest.raises(InputError, match="4 stages to pool"):
        build_backbone("resnet18", levels=5)
