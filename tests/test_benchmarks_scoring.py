"""Scoring with a cache: every image once, broken files named, a torn cache survives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.scorers import Scorer
from benchmarks.scoring import ScoreCache, score_files


class Counting:
    """Mean brightness, and how many images it was asked for."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        return images.mean((1, 2, 3))


def brightness(score: object, digest: str = "d" * 64) -> Scorer:
    return Scorer("brightness", digest, "a test", False, "0 to 1", score)  # type: ignore[arg-type]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = []
    for index, size in enumerate([(8, 6), (8, 6), (5, 9), (8, 6)]):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", size, (40 * (index + 1),) * 3).save(path)
        paths.append(path)
    return paths


def test_scores_follow_the_order_of_the_paths(photos: list[Path], tmp_path: Path) -> None:
    column = score_files(brightness(Counting()), photos, tmp_path / "cache", batch_size=2)
    np.testing.assert_allclose(column.values, [40 / 255, 80 / 255, 120 / 255, 160 / 255], rtol=1e-6)
    assert column.failures == []


def test_a_second_run_computes_nothing(photos: list[Path], tmp_path: Path) -> None:
    first = score_files(brightness(Counting()), photos, tmp_path / "cache")
    again = Counting()
    second = score_files(brightness(again), photos, tmp_path / "cache")
    assert again.images == 0
    np.testing.assert_array_equal(first.values, second.values)


def test_another_model_digest_computes_again(photos: list[Path], tmp_path: Path) -> None:
    score_files(brightness(Counting()), photos, tmp_path / "cache")
    other = Counting()
    score_files(brightness(other, "e" * 64), photos, tmp_path / "cache")
    assert other.images == len(photos)


def test_a_run_that_was_stopped_goes_on_where_it_was(photos: list[Path], tmp_path: Path) -> None:
    def stops(images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] == (9, 5):
            raise KeyboardInterrupt
        return images.mean((1, 2, 3))

    with pytest.raises(KeyboardInterrupt):
        score_files(brightness(stops), photos, tmp_path / "cache", batch_size=2)
    rest = Counting()
    column = score_files(brightness(rest), photos, tmp_path / "cache", batch_size=2)
    assert rest.images == 2
    assert np.isfinite(column.values).all()


def test_a_torn_last_line_of_the_cache_is_dropped(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "m" * 64)
    cache.add({"a" * 64: 0.123456789, "b" * 64: 0.5})
    text = cache.path.read_text()
    cache.path.write_text(text[:-3])  # killed in the middle of the last number
    torn = ScoreCache(tmp_path, "m" * 64)
    assert torn.get("a" * 64) == 0.123456789
    assert torn.get("b" * 64) is None
    torn.add({"b" * 64: 0.75})
    assert ScoreCache(tmp_path, "m" * 64).get("b" * 64) == 0.75


def test_broken_files_are_named_and_stop_nothing(photos: list[Path], tmp_path: Path) -> None:
    broken, absent = tmp_path / "broken.png", tmp_path / "absent.png"
    broken.write_bytes(photos[0].read_bytes()[:40])
    column = score_files(brightness(Counting()), [photos[0], broken, absent, photos[1]], tmp_path / "cache")
    assert np.isfinite(column.values).tolist() == [True, False, False, True]
    assert [Path(item).name for item, _ in column.failures] == ["broken.png", "absent.png"]
    assert "not a file" in column.failures[1][1]


def test_one_image_that_a_scorer_refuses_does_not_lose_its_batch(photos: list[Path], tmp_path: Path) -> None:
    def picky(images: torch.Tensor) -> torch.Tensor:
        if bool((images.mean((1, 2, 3)) < 0.2).any()):
            raise RuntimeError("too dark")
        return images.mean((1, 2, 3))

    column = score_files(brightness(picky), [photos[0], photos[1], photos[3]], tmp_path / "cache")
    assert np.isfinite(column.values).tolist() == [False, True, True]
    assert "too dark" in column.failures[0][1]


def test_a_nan_score_is_a_failure_and_is_not_cached(photos: list[Path], tmp_path: Path) -> None:
    column = score_files(
        brightness(lambda x: x.mean((1, 2, 3)) * float("nan")), photos[:1], tmp_path / "cache"
    )
    assert np.isnan(column.values).all()
    assert "gives nan" in column.failures[0][1]
    assert np.isfinite(score_files(brightness(Counting()), photos[:1], tmp_path / "cache").values).all()
