"""Degraded photographs: every change is real, repeatable, and graded from mild to strong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from attiqa.training.degraded import LEAST_SIDE, REGION_SIDE, STAGES, Change, degrade, region

CHANGES = [change for stage in STAGES for change in stage]


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_stronger_change_leaves_less_of_the_photograph(change: Change) -> None:
    image = Image.fromarray(data.astronaut()[:256, 100:356])
    kept = []
    for amount in (0.0, 0.5, 1.0):
        changed = change(image, amount, np.random.default_rng(4))
        assert (changed.mode, changed.size) == ("RGB", image.size)
        kept.append(peak_signal_noise_ratio(np.array(image), np.array(changed)))
    assert kept[0] > kept[1] > kept[2]
    assert kept[0] > 24
    assert kept[2] < 32


def test_a_region_is_large_enough_for_block_statistics(photograph: torch.Tensor) -> None:
    for size in ((375, 500), (120, 90), (200, 900)):
        shown = torch.nn.functional.interpolate(photograph[None].float(), size)[0].to(torch.uint8)
        for seed in range(6):
            found = region(shown, np.random.default_rng(seed))
            assert found.dtype == torch.uint8
            assert all(LEAST_SIDE <= side <= REGION_SIDE for side in found.shape[1:])


def test_a_version_is_a_function_of_its_seed(photograph: torch.Tensor) -> None:
    image = photograph[:, :200, :220]
    first, again, other = (degrade(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == image.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, image)
