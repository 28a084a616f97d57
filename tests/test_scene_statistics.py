"""Labels from scene statistics: agreed order, a table that a killed run goes on from, batches, checks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from attiqa.errors import InputError
from attiqa.peers import Scorer
from attiqa.training.distorted import LabelledBatch
from attiqa.training.judge import Options, trained
from attiqa.training.judge_checks import (
    independence,
    label_agreement,
    relative_cost,
    scale_score,
    version_scores,
    weaknesses,
)
from attiqa.training.scene_statistics import (
    JoinedBatches,
    RatedVersions,
    StatisticsBatches,
    consensus_order,
    rate_versions,
)
from tests.tiny import tiny_network


def contrast(images: torch.Tensor) -> torch.Tensor:
    return images.std((1, 2, 3))


def darkness(images: torch.Tensor) -> torch.Tensor:
    return 1 - images.mean((1, 2, 3))


SCORERS = [
    Scorer("contrast", "0", "a test", False, "any", contrast),
    Scorer("darkness", "1", "a test", True, "any", darkness),
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut", "coffee"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def rated(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> RatedVersions:
    table = tmp_path_factory.mktemp("run") / "table.csv"
    return rate_versions(photographs, SCORERS, table, versions=4, seed=3)


def test_versions_are_rated_upwards_and_the_first_is_the_photograph(rated: RatedVersions) -> None:
    assert rated.images.shape == (2, 4, 3, 192, 192)
    assert rated.images.dtype == torch.uint8
    assert rated.ratings.shape == (2, 4, 2)
    assert bool((rated.ratings[..., 1] < 0).all())  # darkness: lower is better, so it is turned round
    assert sorted(rated.ranks()[..., 0].flatten().tolist()) == pytest.approx([i / 7 for i in range(8)])


def test_a_killed_labelling_goes_on_and_ends_the_same(
    photographs: list[Path], rated: RatedVersions, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    rate_versions(photographs[:1], SCORERS, table, versions=4, seed=3)
    asked = []

    def counted(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return contrast(images)

    counting = [Scorer("contrast", "0", "a test", False, "any", counted), SCORERS[1]]
    resumed = rate_versions(photographs, counting, table, versions=4, seed=3)
    assert len(asked) == 4  # the second photograph alone
    torch.testing.assert_close(resumed.ratings, rated.ratings)
    assert torch.equal(resumed.images, rated.images)
    with pytest.raises(InputError, match="is no table of photograph, version, contrast; remove it"):
        rate_versions(photographs, SCORERS[:1], table, versions=4, seed=3)
    with pytest.raises(InputError, match="at least two versions"):
        rate_versions(photographs, SCORERS, table, versions=1, seed=3)


def test_only_what_every_measure_says_is_an_order() -> None:
    ranks = torch.tensor([[0.9, 0.9], [0.5, 0.1], [0.1, 0.5], [0.51, 0.12], [torch.nan, 0.0]])
    order = consensus_order(ranks, gap=0.05)
    assert order[0].tolist() == [0, 1, 1, 1, 0]
    assert order[1].tolist() == [-1, 0, 0, 0, 0]  # they disagree, are too near, or one is unknown
    assert torch.equal(order, -order.T)


def test_pairs_of_a_photograph_weigh_as_much_as_pairs_across(rated: RatedVersions) -> None:
    batches = StatisticsBatches(rated, 5, photographs=2, versions=3, side=64)
    batch = batches(7)
    assert batch.images.shape == (6, 3, 64, 64)
    assert bool(batch.labels.isnan().all())
    assert batch.order is not None
    same = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool()
    for pairs in (batch.order[same], batch.order[~same]):
        assert float(pairs.abs().sum()) in (0.0, pytest.approx(1.0))
    assert torch.equal(
        batch.images, StatisticsBatches(rated, 5, photographs=2, versions=3, side=64)(7).images
    )
    with pytest.raises(InputError, match="there are 2 in 4"):
        StatisticsBatches(rated, 5, photographs=3)


def test_a_photograph_is_above_its_degraded_versions_where_that_is_asked_for(rated: RatedVersions) -> None:
    spoiled = RatedVersions(rated.images, -torch.arange(8.0).view(2, 4, 1).flip(1).expand(2, 4, 2))
    for known in (False, True):
        batch = StatisticsBatches(spoiled, 5, photographs=2, versions=4, side=64, known_order=known)(0)
        assert batch.order is not None
        above = (batch.order[:4, :4] > 0).sum(1).tolist()
        assert sorted(above) == [0, 1, 2, 3] if not known else above[0] == 3
    assert torch.equal(batch.order, -batch.order.T)


def test_joined_sources_have_no_pairs_between_them_and_weigh_the_same() -> None:
    order = torch.zeros(3, 3)
    order[0, 1:], order[1:, 0] = 1, -1
    first = LabelledBatch(torch.zeros(3, 3, 8, 8), torch.zeros(3, 2), order)
    second = LabelledBatch(torch.ones(2, 3, 8, 8), torch.ones(2, 2), order[:2, :2])
    third = LabelledBatch(torch.ones(1, 3, 8, 8), torch.ones(1, 2))
    joined = JoinedBatches(lambda _: first, lambda _: second, lambda _: third)(0)
    assert joined.order is not None
    assert len(joined.images) == len(joined.labels) == len(joined.order) == 6
    assert not joined.order[:3, 3:].any()
    assert [float(joined.order[s, s].abs().sum()) for s in (slice(3), slice(3, 5), slice(5, 6))] == [1, 1, 0]


def test_the_score_is_brought_to_the_scale_of_its_labels(rated: RatedVersions) -> None:
    network = tiny_network()
    before = version_scores(network, rated)
    ranks = before.flatten().argsort().argsort().view(2, 4, 1).float() / 7
    scale_score(network, rated, ranks)
    after = version_scores(network, rated)
    assert torch.equal(after.flatten().argsort(), before.flatten().argsort())
    assert float(after.mean()) == pytest.approx(0.5, abs=0.03)  # a tiny network's scores are nearly equal
    found = label_agreement(network, rated, ["rank"], ranks)
    assert found["srocc_rank"] == found["accuracy_within_a_photograph"] == 1.0
    with pytest.raises(RuntimeError, match="nothing was learnt"):
        scale_score(network, rated, 1 - ranks)


def test_a_model_agrees_with_itself_and_costs_what_it_costs(rated: RatedVersions) -> None:
    network = tiny_network()

    def assess(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            attributes, quality = network(images)
        return quality, attributes

    images = list(rated.images[:, 0, :, :96, :96].float() / 255)
    same = independence(assess, assess, {"photographs": images}, images[:1])
    assert same["srocc_over_images"] == {"photographs": 1.0}
    assert set(same["mean_srocc_along_a_distortion_of_kodak24"].values()) == {1.0}
    assert 0.2 < relative_cost(assess, assess, torch.stack(images)) < 5


def test_the_recipe_trains_in_two_rounds_and_a_finished_run_is_read_back(
    photographs: list[Path], rated: RatedVersions, tmp_path: Path
) -> None:
    options = Options(tmp_path, tmp_path, first_steps=1, steps=1, photographs=2, scenes=1, side=64, hidden=8)
    first = trained(options, rated, photographs)
    assert sorted(path.name for path in (tmp_path / "attiqa-judge-run").iterdir()) == [
        "state-1.safetensors",
        "state-2.safetensors",
    ]
    again = trained(options, rated, photographs)
    assert first.architecture["depth"] == options.depth
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())


def test_what_is_no_better_than_chance_is_said() -> None:
    rows = {
        "own (whole view)": {"srocc": 0.4, "srocc_ci95": [0.1, 0.6]},
        "own (native view)": {"srocc": -0.2, "srocc_ci95": [-0.5, 0.1]},
        "peer": {"srocc": -0.9, "srocc_ci95": [-0.95, -0.8]},
    }
    found = weaknesses({"set": {"rows": rows}}, {"tint+": {"0.25": 0.4, "1.0": 0.9}}, "own")
    assert len(found) == 2
    assert "own (native view): SROCC -0.20 [-0.50, +0.10], no better than chance" in found[0]
    assert "40% of photographs score above their tint+ at 0.25" in found[1]
