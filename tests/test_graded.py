"""Graded versions of photographs, and the order that the score's MLP learns from their layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.io import write_png

from attiqa.distortions import DISTORTIONS
from attiqa.nn.network import Regressor
from attiqa.training.graded import Graded, graded_layers, graded_levels, train_order
from attiqa.training.photographs import PhotographPool, random_window
from tests.tiny import tiny_network


def levels_of(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.stack([graded_levels(generator) for _ in range(count)])


def test_each_end_of_each_distortion_comes_alone_within_its_range() -> None:
    levels = levels_of(20)
    assert not levels[:, 0].any()
    ends = Graded(torch.zeros(*levels.shape[:2], 1), levels).alone()
    two_sided = sum(distortion.two_sided for distortion in DISTORTIONS.values())
    assert len(ends) == len(DISTORTIONS) + two_sided
    assert all(int(end.sum()) >= 2 * 20 for end in ends)
    for k, distortion in enumerate(DISTORTIONS.values()):
        assert -1 <= levels[..., k].min() < 0
        assert (levels[..., k].max() > 0) == distortion.two_sided


def test_the_mlp_learns_the_order_of_versions_of_photographs_it_never_saw() -> None:
    levels = levels_of(120)
    shown = torch.randn(9, 40, generator=torch.Generator().manual_seed(0))
    scene = torch.randn(120, 1, 40, generator=torch.Generator().manual_seed(1))
    hidden = (levels @ shown + 0.3 * scene).relu()
    regressor = Regressor(40, 16)
    linear = regressor.linear.weight.clone()
    train_order(regressor, Graded(hidden[:100], levels[:100]), epochs=15)
    with torch.no_grad():
        scores = regressor(hidden[100:])
    below = scores[:, 1:] < scores[:, :1]
    assert float(below[(levels[100:, 1:].abs().sum(-1) > 0.3)].float().mean()) > 0.85
    assert torch.equal(regressor.linear.weight, linear)
    assert not any(parameter.requires_grad for parameter in regressor.parameters())


def test_training_the_order_repeats_and_leaves_the_callers_generator_alone() -> None:
    levels = levels_of(20)
    graded = Graded(torch.rand(20, levels.shape[1], 8), levels)
    first, second = Regressor(8, 4), Regressor(8, 4)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train_order(first, graded, epochs=2, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    train_order(second, graded, epochs=2, seed=1)
    assert torch.equal(first.mlp[0].weight, second.mlp[0].weight)


def test_layers_are_those_of_the_network_photograph_by_photograph(tmp_path: Path) -> None:
    for number in range(2):
        write_png(torch.randint(0, 255, (3, 90, 120), dtype=torch.uint8), str(tmp_path / f"{number}.png"))
    pool = PhotographPool(sorted(tmp_path.glob("*.png")))
    network = tiny_network()
    graded = graded_layers(network, pool, seed=4)
    again = graded_layers(network, pool, seed=4)
    assert graded.hidden.shape[:2] == graded.levels.shape[:2] == (2, len(levels_of(1)[0]))
    assert torch.equal(graded.hidden, again.hidden)
    assert float((graded.hidden[:, 0] - graded.hidden[:, 5]).abs().max()) > 0


def test_a_window_is_a_part_of_the_image() -> None:
    image = torch.arange(3 * 40 * 60, dtype=torch.float32).view(1, 3, 40, 60)
    for seed in range(8):
        window = random_window(image, torch.Generator().manual_seed(seed))
        assert 24 <= window.shape[-2] <= 40
        assert 36 <= window.shape[-1] <= 60
        assert torch.isin(window, image).all()
