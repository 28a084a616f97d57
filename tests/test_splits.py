"""Splits: seeded, by group, stored with a digest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from attiqa.datasets.rated import RatedSet
from attiqa.errors import InputError
from attiqa.splits import (
    official_split,
    random_splits,
    read_splits,
    subset_of_training,
    write_splits,
)


def rated_set(count: int = 100, group: int = 5, splits: list[str] | None = None) -> RatedSet:
    names = np.array([f"{number:03d}.png" for number in range(count)])
    return RatedSet(
        name="csv",
        names=names,
        paths=tuple(map(Path, names)),
        mos=np.linspace(1, 5, count),
        mos_range=(1, 5),
        groups=np.array([f"g{number // group}" for number in range(count)]),
        grouping="reference",
        splits=None if splits is None else np.array(splits),
        extra={},
    )


def test_ten_splits_cover_everything_once_and_keep_groups_whole() -> None:
    rated = rated_set()
    splits = random_splits(rated)
    assert len(splits) == 10
    for split in splits:
        rows = np.concatenate([split.train, split.validation, split.test])
        assert sorted(rows) == list(range(100))
        assert [len(split.train), len(split.validation), len(split.test)] == [70, 10, 20]
        sides = [set(rated.groups[side]) for side in (split.train, split.validation, split.test)]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 20
    assert len({tuple(split.test) for split in splits}) > 5


def test_splits_repeat_with_their_seed_and_do_not_depend_on_how_many_are_drawn() -> None:
    rated = rated_set()
    few, many, other = random_splits(rated, 3), random_splits(rated, 10), random_splits(rated, 3, seed=1)
    for one, two in zip(few, many[:3], strict=True):
        np.testing.assert_array_equal(one.test, two.test)
    assert any(not np.array_equal(one.test, two.test) for one, two in zip(few, other, strict=True))


def test_plain_80_20_leaves_validation_empty() -> None:
    split = random_splits(rated_set(), 1, validation=0)[0]
    assert (len(split.train), len(split.validation), len(split.test)) == (80, 0, 20)


def test_official_split_is_the_owners() -> None:
    sides = ["train"] * 6 + ["validation"] + ["test"] * 3
    split = official_split(rated_set(10, 1, sides))
    assert split.test.tolist() == [7, 8, 9]
    with pytest.raises(InputError, match="comes without an official split"):
        official_split(rated_set())
    with pytest.raises(InputError, match="has no test images"):
        official_split(rated_set(2, 1, ["train", "train"]))


def test_a_tenth_of_the_training_groups_leaves_the_test_side_alone() -> None:
    rated = rated_set(1000)
    split = random_splits(rated, 1)[0]
    small = subset_of_training(rated, split, 0.1)
    assert len(small.train) == 70
    assert set(small.train) < set(split.train)
    np.testing.assert_array_equal(small.test, split.test)
    with pytest.raises(InputError, match="training fraction"):
        subset_of_training(rated, split, 0)


def test_splits_come_back_from_their_file_and_a_change_is_noticed(tmp_path: Path) -> None:
    rated, path = rated_set(), tmp_path / "splits.json"
    splits = random_splits(rated, 2)
    digest = write_splits(path, rated, splits, "random, seed 0")
    again, same = read_splits(path, rated)
    assert digest == same
    for one, two in zip(splits, again, strict=True):
        for side in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(one, side), getattr(two, side))
    content = json.loads(path.read_text())
    content["splits"][0]["train"].append(content["splits"][0]["test"].pop())
    (tmp_path / "leak.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has been changed since it was written"):
        read_splits(tmp_path / "leak.json", rated)
    with pytest.raises(InputError, match="names 50 images that are not in csv as found"):
        read_splits(path, rated.select(np.arange(50)))
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InputError, match="no file of splits"):
        read_splits(tmp_path / "other.json", rated)


def test_impossible_splits_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"test \+ validation < 1"):
        random_splits(rated_set(), test=0.9, validation=0.2)
    with pytest.raises(InputError, match=r"has 2 groups \(by reference\), too few"):
        random_splits(rated_set(10, 5))
