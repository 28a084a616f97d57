"""Eq. 1 and 2, and `attiqa label` from files to a table of scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attiqa.attributes import read_attributes
from attiqa.cli import label
from attiqa.clip.embedding import load_clip
from attiqa.clip.labels import antonym_differences, antonym_probabilities, cosine_scores
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def _units(count: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 32, generator=torch.manual_seed(seed)), dim=1)


def test_eq_2_is_the_softmax_over_the_two_cosines() -> None:
    images, positive, negative = _units(7), _units(3, 1), _units(3, 2)
    for scale in (1.0, 100.0):
        pairs = torch.stack([cosine_scores(images, positive), cosine_scores(images, negative)], dim=-1)
        expected = (scale * pairs.double()).softmax(dim=-1)[..., 0].float()
        got = antonym_probabilities(images, positive, negative, scale)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_differences_keep_the_order_where_the_softmax_saturates_into_ties() -> None:
    positive, negative = torch.eye(2)[:1], -torch.eye(2)[:1]
    angles = torch.linspace(0.30, 0.31, 50)
    images = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert len(antonym_probabilities(images, positive, negative).unique()) == 1
    assert (antonym_differences(images, positive, negative)[:, 0].diff() < 0).all()


def test_half_precision_embeddings_are_scored_in_float32() -> None:
    images, positive, negative = _units(4), _units(2, 1), _units(2, 2)
    got = antonym_differences(images.half(), positive, negative)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, antonym_differences(images, positive, negative), atol=2e-3, rtol=0)


def test_the_command_writes_each_images_differences_for_the_papers_prompts(
    photos: Path, tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "cache"
    argv = [str(photos), "--out", str(out), "--model", str(clip_folder), "--device", "cpu"]
    assert label.main(argv) == 0
    captured = capsys.readouterr()
    assert "5 images labelled: 5 embedded now" in captured.out
    assert captured.err.count("skipped:") == 1
    with open(out / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    encoder = load_clip(str(clip_folder))
    attributes = read_attributes()
    for row, path in zip(rows, sorted(photos.glob("*.png")), strict=True):
        assert row["path"] == str(path)
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None]
        high = encoder.embed_texts([attributes.prompts(a)[0] for a in attributes.attributes])
        low = encoder.embed_texts([attributes.prompts(a)[1] for a in attributes.attributes])
        expected = (encoder.embed_images(pixels) @ (high - low).T)[0]
        got = torch.tensor([float(row[name]) for name in attributes.names])
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)
    record = json.loads((out / "scores.json").read_text())
    assert record["encoder"]["digest"] == encoder.identity["digest"]
    assert record["prompts"]["attributes"][0]["positive"] == "Splendid"

    assert label.main([*argv, "--prompts", "clipiqa"]) == 0
    assert "0 embedded now, 5 known" in capsys.readouterr().out


def test_another_model_or_crop_on_the_same_cache_is_one_sentence(
    photos: Path, tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(photos), "--out", str(tmp_path / "cache"), "--model", str(clip_folder), "--device", "cpu"]
    assert label.main(argv) == 0
    assert label.main([*argv, "--crops", "five"]) == 2
    assert "was made with crops 'centre' and not 'five'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--prompts", "none"], "neither a prompt set"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--device", "warp"], "the device 'warp' cannot be used"),
        (["--model", "ViT-B-61"], "is no open_clip model"),
    ],
)
def test_wrong_options_end_in_a_sentence_and_exit_code_2(
    photos: Path,
    tmp_path: Path,
    clip_folder: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    sentence: str,
) -> None:
    argv = [str(photos), "--out", str(tmp_path / "cache"), "--model", str(clip_folder), *change]
    assert label.main(argv) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_without_a_readable_image_is_an_error(
    tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").touch()
    argv = [str(tmp_path / "a.png"), "--out", str(tmp_path / "cache"), "--model", str(clip_folder)]
    assert label.main(argv) == 2
    assert "none of the 1 files could be read" in capsys.readouterr().err
