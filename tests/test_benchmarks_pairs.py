"""Preference pairs: every layout read as distributed, accuracy and its tests recomputed by hand and SciPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from attiqa.errors import InputError
from benchmarks import common
from benchmarks.pairs import Pair, pairs_from_ratings, read_pairs, write_pairs
from benchmarks.preferences import accuracy_row, by_strength, compare_scorers, outcomes
from benchmarks.scorers import ScoreColumn, Scorer
from benchmarks.sd_pairs import PairOptions, _out_of_fold, main

DRAWS = {"repeats": 200, "seed": 0}


def test_own_layout_survives_a_round_trip(tmp_path: Path) -> None:
    pairs = [Pair("a cat", "a.png", "b.png", 3, 1, 1), Pair("a dog, big", "c.png", "d.png", 0, 2)]
    write_pairs(tmp_path / "pairs.csv", pairs)
    assert read_pairs(tmp_path, "pairs") == pairs


def test_imagereward_rank_one_is_best_and_equal_ranks_tie(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    entry = {"id": "1", "prompt": "p", "generations": ["a", "b", "c"], "ranking": [1, 3, 3]}
    path.write_text(json.dumps([entry]))
    pairs = read_pairs(path, "imagereward")
    assert [(p.votes_a, p.votes_b, p.ties) for p in pairs] == [(1, 0, 0), (1, 0, 0), (0, 0, 1)]


@pytest.mark.data
def test_imagereward_is_read_as_distributed(data_root: Path) -> None:
    path = data_root / "labels" / "imagereward" / "test.json"
    pairs = read_pairs(path, "imagereward")
    entries = json.loads(path.read_text())
    assert len(pairs) == sum(len(e["generations"]) * (len(e["generations"]) - 1) // 2 for e in entries)
    assert len({pair.prompt for pair in pairs}) == len({entry["prompt"] for entry in entries})


def test_pickapic_labels_become_votes_and_unlabelled_rows_go(tmp_path: Path) -> None:
    path = tmp_path / "pick.csv"
    path.write_text(
        "caption,image_0_uid,image_1_uid,label_0,label_1,has_label\n"
        "p,u0,u1,1.0,0.0,True\np,u2,u3,0.5,0.5,True\np,u4,u5,0.0,1.0,False\n"
    )
    pairs = read_pairs(path, "pickapic")
    assert [(p.image_a, p.votes_a, p.votes_b, p.ties) for p in pairs] == [
        ("u0.jpg", 1, 0, 0),
        ("u2.jpg", 0, 0, 1),
    ]


def test_pickapic_json_lines_read_like_its_csv(tmp_path: Path) -> None:
    row = {"caption": "p", "image_0_uid": "x", "image_1_uid": "y", "label_0": 0, "label_1": 1}
    (tmp_path / "pick.jsonl").write_text(json.dumps(row) + "\n")
    assert read_pairs(tmp_path / "pick.jsonl", "pickapic") == [Pair("p", "x.jpg", "y.jpg", 0, 1)]


@pytest.mark.parametrize(
    "text, message",
    [
        ("prompt,image_a,image_b,votes_a\np,a,b,1\n", "lacks the column votes_b"),
        ("prompt,image_a,image_b,votes_a,votes_b\np,a,a,1,0\n", "with itself"),
        ("prompt,image_a,image_b,votes_a,votes_b\np,a,b,many,0\n", "expected numbers"),
        ("prompt,image_a,image_b,votes_a,votes_b\np,a,b,nan,0\n", "zero or more"),
        ("prompt,image_a,image_b,votes_a,votes_b\np,a,b,0,0\n", "not all zero"),
        ("prompt,image_a,image_b,votes_a,votes_b\np,,b,1,0\n", "lacks image_a or image_b"),
        ("prompt,image_a,image_b,votes_a,votes_b\np,a,b,1,0\np,b,a,2,0\n", "b, a more than once"),
    ],
)
def test_bad_rows_are_refused_in_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path, "pairs")


def test_rated_images_pair_within_a_prompt_from_the_gap_on() -> None:
    names, prompts, ratings = ["a", "b", "c", "d"], ["p", "p", "p", "q"], [1.0, 1.5, 1.9, 5.0]
    pairs = pairs_from_ratings(names, prompts, ratings, 0.5)
    assert [(p.image_a, p.image_b, p.votes_b) for p in pairs] == [("a", "b", 1), ("a", "c", 1)]
    with pytest.raises(InputError, match="lower --gap"):
        pairs_from_ratings(names, prompts, ratings, 3)


PAIRS = [
    Pair("p", "a", "b", 5, 0),
    Pair("p", "b", "c", 3, 2),
    Pair("q", "d", "e", 1, 4),
    Pair("q", "d", "f", 2, 2, 1),
    Pair("r", "g", "h", 4, 1),
]
SCORES = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 1.0, "e": 1.0, "f": 0.0, "g": 9.0, "h": 0.0}


def test_outcomes_are_right_wrong_tie_or_uncounted() -> None:
    np.testing.assert_array_equal(outcomes(PAIRS, SCORES), [1, 0, 0.5, np.nan, 1])
    assert np.isnan(outcomes(PAIRS, {"a": 1.0})).all()


def test_accuracy_counts_ties_openly_and_tests_the_sign() -> None:
    row = accuracy_row(PAIRS, outcomes(PAIRS, SCORES), **DRAWS)
    assert row["accuracy"] == pytest.approx(2.5 / 4)
    assert (row["right"], row["wrong"], row["scorer_ties"], row["human_ties"]) == (2, 1, 1, 1)
    assert row["p_value"] == pytest.approx(binomtest(2, 3).pvalue)
    assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]


def test_images_without_a_score_are_counted_not_dropped() -> None:
    row = accuracy_row(PAIRS, outcomes(PAIRS, {k: v for k, v in SCORES.items() if k != "g"}), **DRAWS)
    assert row["unscored"] == 1


def test_a_single_prompt_is_said() -> None:
    pairs = PAIRS[:2]
    assert "one prompt only" in accuracy_row(pairs, outcomes(pairs, SCORES), **DRAWS)["note"]


def test_strength_bands_hold_every_decided_pair_once() -> None:
    rows = by_strength(PAIRS, outcomes(PAIRS, SCORES))
    assert sum(row["pairs"] for row in rows) == 4
    assert (rows[-1]["pairs"], rows[-1]["accuracy"]) == (1, 1.0)  # the unanimous pair


def test_strength_of_rated_pairs_is_their_gap_in_quarters() -> None:
    pairs = pairs_from_ratings(list("abcd"), ["p"] * 4, [1.0, 2.0, 3.5, 5.0], 0.0)
    rows = by_strength(pairs, outcomes(pairs, {"a": 1, "b": 2, "c": 3, "d": 4}))
    assert rows[-1]["up_to"] == 4.0
    assert sum(row["pairs"] for row in rows) == 6
    assert {row["accuracy"] for row in rows} == {1.0}


def test_a_constant_scorer_ties_on_every_pair() -> None:
    row = accuracy_row(PAIRS, outcomes(PAIRS, dict.fromkeys(SCORES, 1.0)), **DRAWS)
    assert (row["right"], row["wrong"], row["scorer_ties"]) == (0, 0, 4)
    assert (row["accuracy"], row["p_value"]) == (0.5, 1.0)


def test_pairs_of_a_rated_set_say_which_images_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["name,mos,group"]
    for index in range(8):
        Image.new("RGB", (8, 8), (30 * index,) * 3).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{index},g{index % 2}")
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "gone.png,3,g0"]) + "\n")
    scorer = Scorer("bright", "b" * 64, "a test", False, "", lambda images: images.mean((1, 2, 3)))
    monkeypatch.setattr(common, "load_peer", lambda name, weights, device: scorer)
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    arguments = ["--data", str(tmp_path), "--layout", "ratings", "--dataset", "csv", "--model", "none"]
    assert main([*arguments, "--peers", "bright", "--quick", *places]) == 0
    printed = capsys.readouterr().out
    assert "1 listed images are not on disk, such as gone.png" in printed
    assert "A quick look" in printed
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["options"]["repeats"] == 100
    assert record["command"][:3] == ["benchmarks/sd_pairs.py", "--data", record["options"]["data"]]
    assert not record["options"]["data"].startswith("/")


def test_a_model_that_learnt_the_ratings_is_also_shown_as_it_did_unseen() -> None:
    row = {"within_group_pair_accuracy": 0.75, "within_group_pairs": 8}
    card = {
        "training_data": [{"what": "human/avt_ai"}],
        "cross_validation": {"avt-ai": {"rows": {"attiqa (whole view, out of fold)": row}}},
    }
    columns = [ScoreColumn("fitted", "", "", False, np.zeros(0), card=card)]
    columns += [ScoreColumn("other", "", "", False, np.zeros(0))]
    options = PairOptions(layout="ratings", dataset="avt-ai")
    found = [{"scorer": "fitted", "accuracy": 0.75, "right": 6, "wrong": 2}]
    assert _out_of_fold(options, 8, columns) == found
    assert _out_of_fold(options, 9, columns) == []  # other pairs than the card's
    assert _out_of_fold(PairOptions(layout="ratings", dataset="avt-quality"), 8, columns) == []


def test_scorers_are_compared_on_the_pairs_that_both_know() -> None:
    columns = [ScoreColumn(name, "", "", False, np.zeros(0)) for name in ("one", "two")]
    results = [np.array([1, 1, 0, np.nan, 1.0]), np.array([0, 1, 0, 1, np.nan])]
    (row,) = compare_scorers(columns, results)
    assert (row["pairs"], row["first_better"], row["second_better"]) == (3, 1, 0)


def test_two_scorers_of_known_order_come_out_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    pairs = []
    for index in range(24):
        levels = random.choice(200, 2, replace=False)
        for side, level in zip("ab", levels, strict=True):
            Image.new("RGB", (8, 8), (int(level),) * 3).save(tmp_path / f"{index}{side}.png")
        votes = (2, 0) if levels[0] > levels[1] else (0, 2)
        pairs.append(Pair(f"prompt {index % 6}", f"{index}a.png", f"{index}b.png", *votes))
    write_pairs(tmp_path / "pairs.csv", pairs)
    (tmp_path / "0a.png").unlink()

    def peer(name: str, weights: Path | None, device: str) -> Scorer:
        sign = 1.0 if name == "bright" else -1.0
        return Scorer(name, name * 8, "a test", False, "", lambda images: sign * images.mean((1, 2, 3)))

    monkeypatch.setattr(common, "load_peer", peer)
    out = tmp_path / "out"
    arguments = ["--data", str(tmp_path), "--model", "none", "--peers", "bright", "dark", "--repeats", "50"]
    assert main([*arguments, "--cache", str(tmp_path / "cache"), "--out", str(out)]) == 0
    record = json.loads((out / "record.json").read_text())
    accuracy = {row["scorer"]: (row["accuracy"], row["unscored"]) for row in record["rows"]}
    assert accuracy == {"bright": (1.0, 1), "dark": (0.0, 1)}
    assert record["paired_tests"][0]["first_better"] == 23
    assert record["scorers"][0]["failures"][0]["item"].endswith("0a.png")
    assert "reported, 200 other pairs" in capsys.readouterr().out
    assert (out / "accuracy.png").stat().st_size > 1000
    assert len((out / "items.csv").read_text().splitlines()) == 25


def test_without_data_the_command_explains_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 5
