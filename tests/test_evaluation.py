"""``attiqa evaluate`` and ``attiqa data``, with SciPy and published peer scores as referees."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from PIL import Image

from attiqa.checkpoint import save_checkpoint
from attiqa.cli.main import main
from attiqa.datasets.registry import load_dataset
from attiqa.errors import InputError
from attiqa.evaluation.agreement import METRICS, agreement, check_test_sides, over_splits, with_spread
from attiqa.evaluation.comparison import compare_scorers, pair_accuracy, rated_pairs
from attiqa.evaluation.features import feature_cosine
from attiqa.nn.network import build_network
from attiqa.splits import Split
from tests.tiny import tiny_card, tiny_checkpoint, tiny_model


def noisy(count: int = 120, noise: float = 0.5) -> tuple[NDArray, NDArray]:
    random = np.random.default_rng(count)
    targets = random.uniform(1, 5, count)
    return targets + random.normal(0, noise, count), targets


def test_every_metric_comes_with_an_interval_around_it() -> None:
    scores, targets = noisy()
    rows = agreement(scores, targets, repeats=200)
    assert rows["srocc"]["value"] == pytest.approx(scipy.stats.spearmanr(scores, targets).statistic)
    assert list(rows) == list(METRICS)
    for row in rows.values():
        assert row["low"] < row["value"] < row["high"]
    assert agreement(scores, targets, repeats=200) == rows
    assert "low" not in agreement(scores, targets, repeats=0)["krcc"]


def test_splits_are_summed_up_by_the_median_over_their_test_sides() -> None:
    scores, targets = noisy()
    none = np.array([], dtype=np.int64)
    splits = [Split(none, none, np.arange(start, start + 40)) for start in (0, 40, 80)]
    summary = over_splits(scores, targets, splits)
    expected = [scipy.stats.spearmanr(scores[s.test], targets[s.test]).statistic for s in splits]
    rows = summary["rows"]
    assert isinstance(rows, list)
    assert [row["srocc"] for row in rows] == pytest.approx(expected)
    assert summary["median"]["srocc"] == pytest.approx(np.median(expected))
    per_split = np.stack([scores, -scores, scores])
    assert over_splits(per_split, targets, splits)["rows"][1]["srocc"] == pytest.approx(-expected[1])
    with pytest.raises(InputError, match="expected predictions of shape"):
        over_splits(scores[:5], targets, splits)


def test_most_draws_of_two_items_are_undefined_and_leave_out_the_interval() -> None:
    rows = agreement([0.1, 0.2], [1.0, 3.0], repeats=50)
    assert rows["srocc"] == {"value": 1.0}
    assert rows["krcc"] == {"value": 1.0}


def test_splits_that_test_too_little_are_named_before_anything_is_trained_on_them() -> None:
    none = np.array([], dtype=np.int64)
    for test, sentence in (([0], "split 1 has 1 test images, which is too few"), ([0, 2], "of one rating")):
        splits = [Split(none, none, np.array([0, 1])), Split(none, none, np.array(test))]
        with pytest.raises(InputError, match=sentence):
            check_test_sides([1.0, 2.0, 1.0], splits)


def test_a_model_that_collapsed_in_one_split_is_left_out_of_the_summary() -> None:
    scores, targets = noisy(40)
    none = np.array([], dtype=np.int64)
    splits = [Split(none, none, np.arange(20)), Split(none, none, np.arange(20, 40))]
    found = over_splits(np.stack([scores, np.zeros(40)]), targets, splits)
    assert found["rows"][1]["srocc"] is None
    assert found["median"]["srocc"] == found["rows"][0]["srocc"]
    found = over_splits(np.zeros(40), targets, splits)
    assert found["median"]["srocc"] is None
    assert with_spread(found, "srocc") == "undefined"


def test_comparison_finds_the_better_of_two_scorers_of_known_order() -> None:
    good, targets = noisy(200, 0.4)
    bad = targets + np.random.default_rng(9).normal(0, 1.2, 200)
    result = compare_scorers(good, bad, targets, repeats=500)
    assert result.first > result.second
    assert 0 < result.low < result.difference < result.high
    assert result.p_value < 0.01
    # a monotone change of scale is no difference for a rank statistic
    assert compare_scorers(good, np.exp(good), targets, repeats=100).p_value == 1


def test_permutation_test_keeps_its_level_when_nothing_differs() -> None:
    random = np.random.default_rng(5)
    p_values = []
    for _ in range(20):
        targets = random.normal(size=30)
        one, other = (targets + random.normal(size=30) for _ in range(2))
        p_values.append(compare_scorers(one, other, targets, repeats=39).p_value)
    assert np.mean(np.array(p_values) < 0.05) < 0.2
    assert 0.3 < np.mean(p_values) < 0.7


def test_pairs_stay_within_groups_and_ties_of_scores_count_half() -> None:
    targets, groups = [1.0, 2.0, 2.1, 5.0], ["a", "a", "a", "b"]
    pairs = rated_pairs(targets, groups, gap=0.5)
    assert pairs.tolist() == [[1, 0], [2, 0]]
    assert len(rated_pairs(targets, groups)) == 3
    assert pair_accuracy([0.0, 1.0, 0.0, 9.0], pairs) == 0.75
    with pytest.raises(InputError, match="at least one pair"):
        pair_accuracy([1.0, 2.0], rated_pairs([1, 1], ["a", "a"]))
    with pytest.raises(InputError, match="finite scores"):
        pair_accuracy([np.nan, 1.0, 0.0, 9.0], pairs)


@pytest.mark.data
def test_published_peers_get_their_known_numbers_on_generated_images(data_root: Path) -> None:
    """Reference values: the table in the data folder's README, computed there from the authors' scores."""
    rated = load_dataset("avt-ai", data_root / "human" / "avt_ai")
    with open(data_root / "human" / "avt_ai" / "published_peer_scores.csv", newline="") as file:
        rows = {row["image_key"]: row for row in csv.DictReader(file)}
    pairs = rated_pairs(rated.mos, rated.groups, gap=0.5)
    assert len(pairs) == 97  # the README's 99 counts some borderline gaps too
    known = {"NIQE": (-1, 0.45, 0.82), "MANIQA": (1, 0.47, 0.81), "BRISQUE": (-1, 0.56, 0.79)}
    for name, (sign, rank_correlation, accuracy) in known.items():
        scores = np.array([sign * float(rows[key.removesuffix(".webp")][name]) for key in rated.names])
        assert agreement(scores, rated.mos, repeats=0)["srocc"]["value"] == pytest.approx(
            rank_correlation, abs=0.005
        )
        assert pair_accuracy(scores, pairs) == pytest.approx(accuracy, abs=0.01)


@pytest.fixture
def own_set(tmp_path: Path) -> Path:
    """Twenty-four small photographs of six groups; one is missing, one is broken."""
    root = tmp_path / "own"
    root.mkdir()
    random = np.random.default_rng(2)
    lines = ["name,mos,group"]
    for number in range(24):
        pixels = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60, 40), Image.Resampling.BICUBIC).save(root / f"{number}.png")
        lines.append(f"{number}.png,{1 + 4 * random.random():.3f},g{number // 4}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    (root / "3.png").unlink()
    (root / "4.png").write_bytes(b"broken")
    return root


def test_evaluate_writes_record_scores_splits_and_picture_and_repeats_exactly(
    own_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    out = tmp_path / "out"
    arguments = [
        "evaluate",
        "--model",
        str(checkpoint),
        "--dataset",
        "csv",
        "--root",
        str(own_set),
        "--out",
        str(out),
    ]
    arguments += ["--crops", "whole", "--count", "3", "--repeats", "20", "--before", str(checkpoint)]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert "srocc" in output.out
    assert "csv: 1 images are missing, the first: 3.png" in output.err
    assert "csv: 1 images are unreadable" in output.err
    record = json.loads((out / "record.json").read_text())
    (result,) = record["results"]
    assert (result["images"], result["missing"], len(result["unreadable"])) == (22, ["3.png"], 1)
    assert result["feature_cosine"]["mean"] == pytest.approx(1, abs=1e-5)
    splits = json.loads((out / "splits-csv.json").read_text())
    assert result["splits_sha256"] == splits["sha256"]
    assert len(result["splits"]["rows"]) == 3
    digest = tiny_model(tmp_path).digest[:8]
    assert Image.open(out / f"scatter-{digest}.png").size[0] > 300
    with open(out / f"scores-csv-{digest}-whole.csv", newline="") as file:
        next(file)
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    rated = load_dataset("csv", own_set)
    kept = [name for name in rated.names if rows[name]["score"]]
    scores = [float(rows[name]["score"]) for name in kept]
    mos = [rated.mos[list(rated.names).index(name)] for name in kept]
    expected = scipy.stats.spearmanr(scores, mos).statistic
    assert result["overall"]["srocc"]["value"] == pytest.approx(expected, abs=1e-9)
    assert main([*arguments[:-2], "--splits", str(out / "splits-csv.json")]) == 0
    again = json.loads((out / "record.json").read_text())["results"][0]
    assert again["splits"] == result["splits"]
    assert again["overall"] == result["overall"]


def test_a_handful_of_images_is_evaluated_without_splits(
    own_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{number}.png,{number / 5}" for number in range(5, 9)]
    (own_set / "labels.csv").write_text("\n".join(["name,mos", *rows]))
    arguments = ["evaluate", "--dataset", "csv", "--root", str(own_set), "--out", str(tmp_path / "out")]
    arguments += ["--model", str(tiny_checkpoint(tmp_path)), "--crops", "whole", "--repeats", "20"]
    assert main(arguments) == 0
    assert "csv: evaluated without splits, for split 0 has 1 test images" in capsys.readouterr().err
    (result,) = json.loads((tmp_path / "out" / "record.json").read_text())["results"]
    assert (result["images"], result["splits"], result["splits_made_by"]) == (4, None, "none")
    assert main([*arguments, "--splits", "random"]) == 2


def test_feature_cosine_tells_another_network_and_names_what_can_not_be_compared(
    own_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b", seed=1)
    paths = [own_set / "0.png", own_set / "4.png"]
    cosines = feature_cosine(one, other, paths)
    assert cosines[0] < 0.999
    assert np.isnan(cosines[1])


def test_a_model_before_fine_tuning_of_another_backbone_is_refused_before_anything_is_scored(
    own_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = build_network("resnet18", hidden=8, regressor_hidden=8, depth=1)
    save_checkpoint(tmp_path / "other.safetensors", other, tiny_card())
    out = tmp_path / "out"
    arguments = ["evaluate", "--dataset", "csv", "--root", str(own_set), "--out", str(out), "--device", "cpu"]
    arguments += ["--model", str(tiny_checkpoint(tmp_path)), "--before", str(tmp_path / "other.safetensors")]
    assert main(arguments) == 2
    assert "features; a cosine needs one backbone" in capsys.readouterr().err
    assert not out.exists()


def test_data_checks_a_folder_and_writes_its_splits(
    own_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--dataset", "csv", "--root", str(own_set)]
    assert main(["data", "check", *folder]) == 2
    output = capsys.readouterr().out
    assert "1 images are missing:\n  3.png" in output
    assert "1 images are unreadable:" in output
    out = tmp_path / "splits.json"
    assert main(["data", "splits", *folder, "--out", str(out), "--fraction", "0.5"]) == 0
    content = json.loads(out.read_text())
    assert len(content["splits"]) == 10
    assert content["sha256"] in capsys.readouterr().out
    assert "0.5 of the training groups" in content["made_by"]
    assert main(["data", "list"]) == 0
    assert "koniq10k" in capsys.readouterr().out


def test_wrong_options_end_in_a_sentence(own_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--dataset", "csv", "--root", str(own_set), str(own_set)]) == 2
    assert "--dataset and --root go in pairs" in capsys.readouterr().err
    assert main(["data", "check", "--dataset", "csv"]) == 2
    assert "needs --dataset and --root" in capsys.readouterr().err
    assert main(["evaluate", "--dataset", "csv", "--root", str(own_set), "--device", "quantum"]) == 2
    assert "the device 'quantum' cannot be used" in capsys.readouterr().err
