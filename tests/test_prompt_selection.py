"""`attiqa prompts`: from photographs and human scores to tables, heat maps and prompt sets."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from attiqa.attributes import read_attributes
from attiqa.cli import label, prompts
from attiqa.distortions import distort
from attiqa.images import read_image, to_float
from attiqa.views import short_side
from tests.tiny_clip import write_tiny_clip

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
NAMES = read_attributes().names


def _tiles() -> torch.Tensor:
    """Four 64-pixel tiles of each of scikit-image's photographs, float32 (20, 3, 64, 64), display sRGB."""
    folder = Path(skimage.__file__).parent / "data"
    tiles = []
    for name in PHOTOGRAPHS:
        image = short_side(to_float(read_image(folder / name))[None], 128)[0]
        tiles += [image[:, y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64)]
    return torch.stack(tiles)


def _save(images: torch.Tensor, folder: Path) -> list[Path]:
    folder.mkdir()
    for number, image in enumerate((images * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs") / "tiles"
    _save(_tiles(), folder)
    return folder


def _rated(folder: Path) -> Path:
    """Photographs with all five attributes changed at random, "rated" by what was done to them."""
    generator = torch.Generator().manual_seed(1)
    images = _tiles().repeat(3, 1, 1, 1)
    levels = {name: -torch.rand(len(images), generator=generator) * 0.8 for name in NAMES}
    paths = _save(distort(images, levels, generator), folder / "rated")
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *NAMES])
        for row, path in enumerate(paths):
            writer.writerow([path.name, *(float(levels[name][row]) for name in NAMES)])
        writer.writerow(["absent.png", *[0.0] * 5])
    return folder / "scores.csv"


def test_the_command_runs_both_proxies_and_its_choice_is_what_label_takes(
    photographs: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = _rated(tmp_path)
    out = tmp_path / "selection"
    clip = ["--model", str(clip_folder), "--device", "cpu"]
    human = ["--human", str(scores), "--human-images", str(tmp_path / "rated")]
    assert prompts.main(["select", str(photographs), "--out", str(out), *human, *clip]) == 0
    captured = capsys.readouterr()
    assert "60 of 61 rated images are used" in captured.err
    assert captured.out.count("joint SROCC") == 5

    with open(out / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 2500
    chosen = read_attributes(out / "prompts.json")
    for attribute in chosen.attributes:
        ranked = [row for row in rows if row["attribute"] == attribute.name]
        assert (ranked[0]["positive"], ranked[0]["negative"]) == (attribute.positive, attribute.negative)
        objective = [float(row["objective"]) for row in ranked]
        assert objective == sorted(objective, reverse=True)
        sums = [float(row["distortion"]) + float(row["human"]) for row in ranked]
        np.testing.assert_allclose(objective, sums, atol=2e-6)
        assert objective[0] > 0 > objective[-1]
        assert Image.open(out / f"{attribute.name}.png").size[0] > 600
    sets = {path.stem for path in (out / "sets").iterdir()}
    strategies = ("joint", "distortion", "human")
    assert sets == {f"{strategy}-{rank}" for strategy in strategies for rank in ("best", "median", "worst")}
    assert read_attributes(out / "sets" / "joint-best.json") == chosen

    argv = [str(tmp_path / "rated"), "--out", str(out / "embeddings"), "--prompts", str(out / "prompts.json")]
    assert label.main([*argv, *clip]) == 0
    assert "60 images labelled: 0 embedded now" in capsys.readouterr().out
    assert json.loads((out / "embeddings" / "scores.json").read_text())["prompts"]["attributes"]


def test_a_sixth_attribute_without_a_distortion_is_selected_by_human_scores_alone(
    clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = _rated(tmp_path)
    scores.write_text(scores.read_text().replace("brightness", "mood"))
    pools = tmp_path / "pools.json"
    words = {"positive": ["Sunny", "Sandy"], "negative": ["Monochrome", "Darkened"]}
    pools.write_text(json.dumps({"attributes": {"mood": words}}))
    argv = ["--human", str(scores), "--human-images", str(tmp_path / "rated"), "--adjectives", str(pools)]
    out = tmp_path / "selection"
    assert prompts.main(["select", *argv, "--out", str(out), "--model", str(clip_folder)]) == 0
    assert "(human SROCC" in capsys.readouterr().out
    assert {path.name for path in (out / "sets").iterdir()} == {
        "human-best.json",
        "human-median.json",
        "human-worst.json",
    }
    argv = ["select", str(tmp_path / "rated"), "--adjectives", str(pools), "--out", str(out)]
    assert prompts.main([*argv, "--model", str(clip_folder)]) == 2
    assert "mood has no distortion" in capsys.readouterr().err


def test_human_scores_that_are_not_there_are_named_before_anything_is_distorted(
    clip_folder: Path, photographs: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(prompts, "distorted_embeddings", lambda *_, **__: pytest.fail("distorted"))
    human = ["--human", str(tmp_path / "absent.csv")]
    common = ["select", str(photographs), "--out", str(tmp_path / "out"), "--model", str(clip_folder)]
    assert prompts.main([*common, *human]) == 2
    assert "absent.csv does not exist" in capsys.readouterr().err


def test_list_and_show_print_the_sets_and_the_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    assert prompts.main(["list"]) == 0
    assert "paper     Splendid/Blurry, Distinct/Vague" in capsys.readouterr().out
    assert prompts.main(["show", "paper"]) == 0
    assert json.loads(capsys.readouterr().out)["attributes"][4]["negative"] == "Grainy"
    assert prompts.main(["show", "adjectives"]) == 0
    assert "noisiness, negative (50): Grainy, Noisy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["select", "--out", "x"], "give photographs"),
        (["select", "absent", "--out", "x", "--levels", "2"], "at least 3 distortion levels"),
        (["show", "nothing"], "neither a prompt set"),
        (["choose"], "usage: attiqa prompts list"),
    ],
)
def test_wrong_calls_end_in_a_sentence_and_exit_code_2(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prompts.main(argv) == 2
    assert sentence in capsys.readouterr().err
