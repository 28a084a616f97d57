"""The bundled attiqa-mini: what its card claims, on photographs that it never saw."""

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
def mini() -> QualityModel:
    return attiqa.load()


@pytest.fixture(scope="module")
def photographs() -> list[torch.Tensor]:
    return whole_views()


def test_weights_and_card_belong_together_and_are_small() -> None:
    weights = find_weights("attiqa-mini")
    card = read_json(card_path(weights))
    assert weights.stat().st_size < 25_000_000
    assert card["digest"] == file_digest(weights)
    assert card["attributes"] == list(NAMES)
    assert "no CLIP" in card["summary"]
    assert {entry["licence"] for entry in card["training_data"]} >= {"ImageNet terms", "GPL-3.0"}


def test_the_card_reports_out_of_fold_agreement_beside_peers_and_the_height_baseline() -> None:
    tables = read_json(card_path(find_weights("attiqa-mini")))["cross_validation"]
    rows = tables["avt-ai"]["rows"]
    for name in ("NIQE", "BRISQUE", "MANIQA"):
        assert any(row.startswith(name) for row in rows)
    # scipy.stats.spearmanr on the published files
    assert rows["BRISQUE (published scores)"]["srocc"] == pytest.approx(0.5642, abs=1e-4)
    assert tables["avt-quality"]["rows"]["image height alone"]["srocc"] == pytest.approx(0.8967, abs=1e-4)
    for table in tables.values():
        for row in table["rows"].values():
            assert row["srocc_ci95"][0] < row["srocc"] < row["srocc_ci95"][1]


def test_each_head_follows_its_own_distortion(mini: QualityModel, photographs: list[torch.Tensor]) -> None:
    found = cross_talk(mini.assess, photographs, NAMES)
    assert float(found["srocc"].diagonal().min()) >= 0.95
    assert float((found["swing"] - torch.eye(5)).max()) < 0.6


def test_photographs_score_above_their_strong_distortions(
    mini: QualityModel, photographs: list[torch.Tensor]
) -> None:
    rates = pristine_preference(mini.assess, photographs, levels=(0.5, 1.0))
    assert sum(rate["1.0"] for rate in rates.values()) / len(rates) > 0.85
    for certain in ("sharpness-", "noisiness-", "haze-", "brightness-", "blocks-"):
        assert rates[certain]["1.0"] == 1.0, certain


def test_the_score_of_an_image_does_not_depend_on_its_batch(mini: QualityModel) -> None:
    images = torch.rand(5, 3, 200, 260)
    together = mini.score(images)
    alone = torch.cat([mini.score(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_bfloat16_ranks_as_float32_does(mini: QualityModel, photographs: list[torch.Tensor]) -> None:
    fast = attiqa.load("attiqa-mini", precision="bfloat16")
    images = photographs[0].unsqueeze(0) * torch.linspace(0.1, 1, 8).view(-1, 1, 1, 1)
    torch.testing.assert_close(fast.score(images), mini.score(images), atol=0.03, rtol=0)


def test_calibrated_scores_of_photographs_are_about_standard(
    mini: QualityModel, photographs: list[torch.Tensor]
) -> None:
    reward = CalibratedReward(mini)
    values = torch.cat([reward(photograph.unsqueeze(0)) for photograph in photographs])
    assert float(values.abs().max()) < 4
    assert set(calibration_of(mini).columns) == {"score", *NAMES}


@pytest.mark.data
def test_on_kodak_photographs_every_head_reaches_the_goal(mini: QualityModel, data_root: Path) -> None:
    paths = list_images([data_root / "photos" / "kodak24"])[::6]
    held_out = [whole(to_float(read_image(path)).unsqueeze(0))[0] for path in paths]
    assert float(cross_talk(mini.assess, held_out, NAMES)["srocc"].diagonal().min()) >= 0.95
