"""The bundled attiqa-judge: what its card claims, on photographs that it never saw."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attiqa
from attiqa.attributes import read_attributes
from attiqa.checkpoint import card_path
from attiqa.files import file_digest, read_json
from attiqa.images import list_images, read_image, to_float
from attiqa.model import QualityModel, find_weights
from attiqa.rewards.calibration import CalibratedReward, calibration_of
from attiqa.training.agreement import cross_talk, pristine_preference
from attiqa.views import whole
from tests.pictures import whole_views

NAMES = read_attributes().names


@pytest.fixture(scope="module")
def judge() -> QualityModel:
    return attiqa.load("attiqa-judge")


@pytest.fixture(scope="module")
def photographs() -> list[torch.Tensor]:
    return whole_views()


def test_weights_and_card_belong_together_and_are_small() -> None:
    weights = find_weights("attiqa-judge")
    card = read_json(card_path(weights))
    assert weights.stat().st_size < 6_500_000
    assert card["digest"] == file_digest(weights)
    assert card["attributes"] == list(NAMES)
    assert "no CLIP model and no human rating" in card["summary"]


def test_it_shares_neither_backbone_nor_seed_nor_ratings_with_the_model_it_judges() -> None:
    judge, mini = (read_json(card_path(find_weights(name))) for name in ("attiqa-judge", "attiqa-mini"))
    assert judge["architecture"]["backbone"] != mini["architecture"]["backbone"]
    assert judge["options"]["seed"] != mini["options"]["seed"]
    assert {"human/avt_ai", "human/avt_quality"} <= set(judge["protocol"]["never_trained_on"])
    assert not any("human/" in entry["what"] for entry in judge["training_data"])


def test_the_card_reports_zero_shot_agreement_beside_peers_and_the_height_baseline() -> None:
    card = read_json(card_path(find_weights("attiqa-judge")))
    rows = card["zero_shot"]["avt-ai"]["rows"]
    # scipy.stats.spearmanr on the published files
    assert rows["BRISQUE (published scores)"]["srocc"] == pytest.approx(0.5642, abs=1e-4)
    height = card["zero_shot"]["avt-quality"]["rows"]["image height alone"]
    assert height["srocc"] == pytest.approx(0.8967, abs=1e-4)
    for which, part in card["zero_shot"].items():
        own = {name: row for name, row in part["rows"].items() if name.startswith("attiqa-judge")}
        assert len(own) == 3
        for name, row in own.items():
            assert row["srocc_ci95"][0] < row["srocc"] < row["srocc_ci95"][1]
            said = any(f"{which}, {name}" in sentence for sentence in card["no_better_than_chance"])
            assert said == (row["srocc_ci95"][0] <= 0)


def test_each_head_follows_its_own_distortion(judge: QualityModel, photographs: list[torch.Tensor]) -> None:
    assert float(cross_talk(judge.assess, photographs, NAMES)["srocc"].diagonal().min()) >= 0.9


def test_photographs_score_above_their_strong_distortions(
    judge: QualityModel, photographs: list[torch.Tensor]
) -> None:
    rates = pristine_preference(judge.assess, photographs, levels=(0.5, 1.0))
    assert sum(rate["1.0"] for rate in rates.values()) / len(rates) > 0.8
    for certain in ("sharpness-", "noisiness-", "blocks-", "brightness-", "brightness+", "colorfulness+"):
        assert rates[certain]["1.0"] == 1.0, certain


def test_the_score_of_an_image_does_not_depend_on_its_batch(judge: QualityModel) -> None:
    images = torch.rand(5, 3, 200, 260)
    alone = torch.cat([judge.score(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(judge.score(images), alone, atol=1e-5, rtol=0)


def test_calibrated_scores_of_photographs_are_about_standard(
    judge: QualityModel, photographs: list[torch.Tensor]
) -> None:
    reward = CalibratedReward(judge)
    values = torch.cat([reward(photograph.unsqueeze(0)) for photograph in photographs])
    assert float(values.abs().max()) < 4
    assert set(calibration_of(judge).columns) == {"score", *NAMES}


@pytest.mark.data
def test_kodak_photographs_score_above_their_degraded_versions(judge: QualityModel, data_root: Path) -> None:
    paths = list_images([data_root / "photos" / "kodak24"])[::6]
    held_out = [whole(to_float(read_image(path)).unsqueeze(0))[0] for path in paths]
    rates = pristine_preference(judge.assess, held_out, levels=(1.0,))
    assert min(rates[end]["1.0"] for end in ("sharpness-", "noisiness-", "blocks-", "brightness+")) == 1.0
