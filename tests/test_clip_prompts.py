"""Prompt sets and adjective pools are data files that say what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attiqa.attributes import read_attributes
from attiqa.clip.prompts import Pools, chosen_set, named_set, read_pools, set_names, set_record
from attiqa.errors import InputError


def test_every_attribute_has_fifty_adjectives_a_side_and_no_word_twice() -> None:
    pools = read_pools()
    assert [pool.name for pool in pools.pools] == list(read_attributes().names)
    for pool in pools.pools:
        for words in (pool.positive, pool.negative):
            assert len(words) == 50
            assert len({word.lower() for word in words}) == 50
        assert not {word.lower() for word in pool.positive} & {word.lower() for word in pool.negative}
        assert pool.distortion == pool.name


def test_the_papers_pairs_are_among_the_candidates() -> None:
    pools = {pool.name: pool for pool in read_pools().pools}
    for attribute in named_set("paper").attributes:
        assert attribute.positive in pools[attribute.name].positive
        assert attribute.negative in pools[attribute.name].negative


def test_the_set_paper_is_table_1() -> None:
    pairs = [(a.name, *named_set("paper").prompts(a)) for a in named_set("paper").attributes]
    assert pairs == [
        ("sharpness", "Splendid image", "Blurry image"),
        ("contrast", "Distinct image", "Vague image"),
        ("brightness", "Sunny image", "Darkened image"),
        ("colorfulness", "Vibrant image", "Colorless image"),
        ("noisiness", "Peerless image", "Grainy image"),
    ]


def test_every_bundled_set_reads() -> None:
    assert set_names()[0] == "paper"
    for name in set_names():
        assert named_set(name).names
    attribute = named_set("single").attributes[0]
    assert named_set("single").prompts(attribute) == ("Good photo.", "Bad photo.")


def test_the_query_can_be_filled_for_any_attribute() -> None:
    query = read_pools().query
    assert "{attribute}" in query
    assert "{meaning}" in query


def test_a_chosen_set_is_an_attribute_file(tmp_path: Path) -> None:
    pools = read_pools()
    pairs = {pool.name: (pool.positive[1], pool.negative[1]) for pool in pools.pools}
    chosen = chosen_set(pools, pairs)
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(set_record(chosen)))
    assert named_set(str(path)) == read_attributes(path) == chosen
    assert chosen.attributes[0].positive == "Sharp"
    assert chosen.attributes[0].distortion == "sharpness"


def test_a_sixth_attribute_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pools.json"
    composition = {"positive": ["Balanced", "Harmonious"], "negative": ["Cluttered"]}
    path.write_text(json.dumps({"attributes": {"composition": composition}}))
    pools = read_pools(path)
    assert pools.pools[0].distortion is None
    assert pools.sentences(pools.pools[0].positive) == ["Balanced image", "Harmonious image"]
    assert isinstance(pools, Pools)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"attributes": {}}, "names no attribute"),
        ({"attributes": {"a": {"positive": ["x"]}}}, "each attribute needs lists"),
        ({"attributes": {"a": {"positive": ["x"], "negative": []}}}, "each attribute needs lists"),
        ({"attributes": {"a": {"positive": ["x"], "negative": ["x"]}}}, "has x in both lists"),
        ({"attributes": ["a"]}, "is not a file of adjectives"),
        ({"template": "{word}", "attributes": {"a": {"positive": ["x"], "negative": ["y"]}}}, "'word'"),
    ],
)
def test_a_wrong_pool_file_is_a_sentence(tmp_path: Path, content: object, sentence: str) -> None:
    path = tmp_path / "pools.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        read_pools(path)


def test_an_unknown_set_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="paper, clipiqa, single"):
        named_set("papers")
