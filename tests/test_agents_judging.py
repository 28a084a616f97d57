"""Judges: what a reward does not contain, all pointing upwards, and a sentence for what is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from agents import judging as rooms
from agents.judging import find_judges, judging
from agents.launch import in_training
from attiqa.checkpoint import card_path
from attiqa.model import bundled_models
from attiqa.peers import OFFLINE_PEERS, Scorer
from tests.tiny import tiny_checkpoint, tiny_model


def peer(name: str, lower_is_better: bool) -> Scorer:
    return Scorer(name, "0" * 64, "a test", lower_is_better, "any", lambda images: images.mean(dim=(1, 2, 3)))


def test_without_weights_one_sentence_names_what_does_not_judge():
    found = find_judges("attiqa-mini", "cpu")
    assert set(found.scores) == set(bundled_models()) - {"attiqa-mini"}
    (sentence,) = found.missing
    assert sentence.startswith("nima-technical, nima-aesthetic, niqe, brisque do not judge: ")
    assert "--peer-weights" in sentence


def test_peers_that_are_not_there_are_named_one_by_one(tmp_path):
    found = find_judges("guarded", "cpu", tmp_path, ["nosuch"])
    assert [sentence.split()[0] for sentence in found.missing] == [*OFFLINE_PEERS, "nosuch"]
    assert all("does not judge: " in sentence for sentence in found.missing)


def test_a_bundled_model_judges_rewards_that_do_not_contain_it(tmp_path, monkeypatch):
    other = tiny_checkpoint(tmp_path)
    monkeypatch.setattr(rooms, "bundled_models", lambda: {**bundled_models(), str(other): other})
    assert set(find_judges("guarded", "cpu").scores) >= {str(other)}
    assert "attiqa-mini" not in find_judges("guarded", "cpu").scores
    inside = find_judges(str(other), "cpu")
    assert "attiqa-mini" in inside.scores
    assert str(other) not in inside.scores
    assert card_path(other).is_file()


def test_more_is_better_for_every_judge(monkeypatch):
    monkeypatch.setattr(rooms, "OFFLINE_PEERS", {"up": None, "down": None})
    monkeypatch.setattr(rooms, "load_peer", lambda name, weights, device: peer(name, name == "down"))
    found = find_judges("attiqa-mini", "cpu", Path())
    images = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(found.scores["down"](images), -found.scores["up"](images))
    assert found.about["down"]["sign"] == -1


def test_only_training_computes_its_reward_in_bfloat16():
    scores = judging("guarded", "cpu")
    assert in_training(scores, {"reward": "guarded", "device": "cpu", "precision": "float32"}) is scores
    teaching = in_training(scores, {"reward": "guarded", "device": "cpu", "precision": "bfloat16"})
    precisions = [found.reward.scorers[0].precision for found in (teaching, scores)]
    assert precisions == ["bfloat16", "float32"]
    assert teaching.score is scores.score


def test_judges_go_into_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "load", lambda name, device: tiny_model(tmp_path))
    judges = rooms.Judges({"a": torch.mean}, {"a": {"digest": "0"}})
    found = judging("attiqa-mini", "cpu", judges)
    assert found.judges == {"a": torch.mean}
    assert found.about["judges"] == {"a": {"digest": "0"}}
    assert "judges" not in judging("attiqa-mini", "cpu").about


@pytest.mark.data
@pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="extra `peers`: no ai-edge-litert"
)
def test_nima_judges_where_its_files_are(data_root):
    found = find_judges("guarded", "cpu", data_root / "weights")
    assert {"nima-technical", "nima-aesthetic"} <= set(found.scores)
