"""Pretraining: labelled batches, a loop that learns, and a killed run that goes on exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from attiqa.attributes import read_attributes
from attiqa.distortions import DISTORTIONS
from attiqa.errors import InputError
from attiqa.training import loop
from attiqa.training.agreement import cross_talk, pristine_preference
from attiqa.training.distorted import DistortedBatches, LabelledBatch, severity_order
from attiqa.training.loop import cosine_rate, prefetched
from attiqa.training.photographs import PhotographPool
from attiqa.training.pretraining import pretrain
from tests.tiny import tiny_network

NAMES = read_attributes().names


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> PhotographPool:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut", "coffee", "chelsea"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return PhotographPool(sorted(folder.iterdir()))


def test_the_pool_keeps_what_can_be_read_and_names_the_rest(pool: PhotographPool, tmp_path: Path) -> None:
    assert len(pool) == 3
    assert [Path(key).name for key, _ in pool.failures] == ["broken.png"]
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of 1 photographs"):
        PhotographPool([tmp_path / "a.png"])


def test_a_batch_is_a_function_of_seed_and_step(pool: PhotographPool) -> None:
    first, again, other = (
        DistortedBatches(pool, NAMES, scenes=2, side=64, seed=seed)(5) for seed in (1, 1, 2)
    )
    assert first.images.shape == (12, 3, 64, 64)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_labels_are_the_levels_and_the_first_version_is_the_photograph(pool: PhotographPool) -> None:
    batch = DistortedBatches(pool, NAMES, scenes=3, side=64)(0)
    assert bool((batch.labels[::6] == 0).all())
    brightness = batch.labels[:, NAMES.index("brightness")].view(3, 6)
    light = batch.images.mean((1, 2, 3)).view(3, 6)
    darker, brighter = brightness < -0.3, brightness > 0.3
    assert bool(darker.any())
    assert bool(brighter.any())
    assert bool((light < light[:, :1])[darker].all())
    assert bool((light > light[:, :1])[brighter].all())


def test_unjudged_distortions_give_labels_but_no_quality_order(pool: PhotographPool) -> None:
    batches = DistortedBatches(pool, NAMES, scenes=12, side=64, judged=["brightness"])
    batch = batches(0)
    assert batch.order is not None
    labels = batch.labels.view(12, 6, 5)
    light = NAMES.index("brightness")
    others = [k for k in range(5) if k != light]
    assert bool((labels[:, :3, others] == 0).all())  # the chain runs along the judged one alone
    assert bool((labels[..., others].abs().nan_to_num() > 0).any())
    beats = (batch.order > 0).nonzero().tolist()
    assert beats
    for better, worse in beats:
        first, second = batch.labels[better], batch.labels[worse]
        assert torch.equal(first[others].nan_to_num(), second[others].nan_to_num())
        assert abs(float(first[light])) < abs(float(second[light]))


def test_severity_orders_only_what_is_certain() -> None:
    levels = torch.tensor([[0.0, 0.0], [-0.5, 0.0], [-0.9, 0.3], [0.5, 0.0], [-0.5, -0.05], [0.0, 0.0]])
    scene = torch.tensor([0, 0, 0, 0, 0, 1])
    order = severity_order(levels, scene)
    assert order[0].tolist() == [0, 1, 1, 1, 1, 0]  # the photograph beats its versions, not another scene
    assert order[1].tolist() == [-1, 0, 1, 0, 0, 0]  # opposite sides and near ties have no order
    assert torch.equal(order, -order.T)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    rates = [cosine_rate(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 1e-3


def test_prefetching_keeps_the_order_and_passes_errors_on() -> None:
    batches = [LabelledBatch(torch.full((1,), float(step)), torch.zeros(1)) for step in range(7)]
    assert [float(b.images) for b in prefetched(batches.__getitem__, 2, 7)] == [2, 3, 4, 5, 6]
    with pytest.raises(IndexError):
        list(prefetched(batches.__getitem__, 5, 9))


def test_pretraining_learns_to_rank_a_distortion(pool: PhotographPool) -> None:
    network = tiny_network()
    batches = DistortedBatches(pool, ["brightness"] * 5, scenes=4, side=64)
    losses = pretrain(network, batches, 80, learning_rate=3e-3, warmup=5)
    assert np.mean(losses[-10:]) < 0.65 * np.mean(losses[:5])

    def assess(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            attributes, quality = network(images)
        return quality, attributes[:, :1]

    fresh = [pool.crop(index % 3, 64, torch.Generator().manual_seed(100 + index)) for index in range(6)]
    assert float(cross_talk(assess, fresh, ["brightness"])["srocc"]) > 0.97


def test_a_killed_run_goes_on_exactly(pool: PhotographPool, tmp_path: Path) -> None:
    batches = DistortedBatches(pool, NAMES, scenes=2, versions=4, side=64)
    straight = tiny_network(1)
    whole = pretrain(straight, batches, 6, quality_weight=1.0)

    class KilledError(Exception):
        pass

    def kill(step: int, _: float) -> None:
        if step == 3:
            raise KilledError

    state = tmp_path / "run" / "state.safetensors"
    with pytest.raises(KilledError):
        pretrain(tiny_network(1), batches, 6, quality_weight=1.0, state=state, state_every=3, report=kill)
    resumed = tiny_network(2)  # whatever it starts from, the state replaces it
    rest = pretrain(resumed, batches, 6, quality_weight=1.0, state=state, state_every=3)
    assert rest == whole[3:]
    for key, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_a_run_that_diverges_says_so_and_keeps_the_state_from_before(
    pool: PhotographPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = DistortedBatches(pool, NAMES, scenes=1, versions=4, side=64)
    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)  # as where every step takes minutes

    def batches(step: int) -> LabelledBatch:
        batch = good(step)
        return LabelledBatch(batch.images * (float("nan") if step == 2 else 1.0), batch.labels)

    state = tmp_path / "state.safetensors"
    with pytest.raises(InputError, match="the loss is nan after 3 steps: training has diverged"):
        pretrain(tiny_network(), batches, 9, state=state)
    kept = load_file(state)
    assert int(kept["progress"]) == 2
    assert all(bool(torch.isfinite(value).all()) for value in kept.values() if value.is_floating_point())


def test_a_state_of_another_run_is_refused(pool: PhotographPool, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"model.other": torch.zeros(1), "progress": torch.tensor(1)}, tmp_path / "s.safetensors")
    batches = DistortedBatches(pool, NAMES, scenes=1, side=64)
    with pytest.raises(InputError, match="not a state of this training run"):
        pretrain(tiny_network(), batches, 2, state=tmp_path / "s.safetensors")
    with pytest.raises(InputError, match="steps >= 1"):
        pretrain(tiny_network(), batches, 0)


def test_cross_talk_of_a_perfect_measure_is_the_identity(pool: PhotographPool) -> None:
    """Heads that measure exactly one distortion each follow it alone; the third is blind."""

    def assess(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        light = images.mean((1, 2, 3))
        detail = images.diff(dim=3).abs().mean((1, 2, 3))
        return -(light - light[0]).abs(), torch.stack([detail, light], dim=1)

    photographs = [pool.crop(i, 64, torch.Generator().manual_seed(i)) for i in range(3)]
    found = cross_talk(assess, photographs, ["sharpness", "brightness"])
    assert bool((found["srocc"].diagonal() > 0.95).all())
    assert bool((found["swing"].diagonal() == 1).all())
    assert float(found["swing"][1, 0]) < 0.05  # sharpening does not brighten
    preferred = pristine_preference(assess, photographs)
    assert set(preferred) >= {"brightness-", "brightness+", "noisiness-"}
    assert preferred["brightness-"] == {"0.25": 1.0, "0.5": 1.0, "1.0": 1.0}
    assert len(preferred) == sum(2 if d.two_sided else 1 for d in DISTORTIONS.values())
