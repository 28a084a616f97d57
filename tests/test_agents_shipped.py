"""The policies that ship load as any other and enhance scenes that it never saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.evaluation import Bench
from agents.export import ExportOptions
from agents.judging import judging
from agents.launch import make_core
from agents.playing import envs_of, play
from agents.policy_file import SHIPPED, load_policy
from agents.scenes import HELD_OUT_RAWS
from agents.search import random_search
from attiqa.options import parse
from isp_env.embedded import write_embedded_scenes
from isp_env.sources import RawFolder

# of the random search that policies are held against: what a gain is worth depends on the parameters' ranges
RENDERS = 36


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    """Of the policy whose reward and preview size the bench has."""
    return load_policy(SHIPPED / "photographs").card


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, card: dict[str, Any]) -> Bench:
    """What the runs of seed 0 hold out: the kernel of five looks is learnt from the other side."""
    _, raws = write_embedded_scenes(
        tmp_path_factory.mktemp("scenes"), 0, raws_a_scene=1, study_raws=0, held_out_raws=HELD_OUT_RAWS
    )
    scores = judging(card["reward"], "cpu")
    assert card["reward_model"] == scores.about["reward_model"]
    return Bench(make_core(RawFolder(raws), scores, int(card["short_side"]), "cpu"), scores.score)


@pytest.fixture(scope="module")
def searched(bench: Bench) -> float:
    """The gain of a random search."""
    found = random_search(bench.gains, len(bench), len(bench.core.space), RENDERS, 0)
    return float(bench.gains(np.arange(len(bench)), found.actions).mean())


def test_exports_take_the_policy_of_several_looks_where_none_is_named(tmp_path):
    options = parse(ExportOptions, ["--input", "RAWS", "--out", str(tmp_path)], prog="", description="")
    assert load_policy(options.run).card["task"] == "refine"


@pytest.mark.parametrize(
    "name, wanted, times", [("photographs", 1, 4.2), ("five-looks", 1, 4.6), ("five-looks", 5, 7.0)]
)
def test_a_shipped_policy_gains_on_scenes_that_it_never_saw(card, bench, searched, name, wanted, times):
    stored = load_policy(SHIPPED / name)
    for entry in ("reward", "reward_model", "short_side"):  # the bench is one for both
        assert stored.card[entry] == card[entry]
    envs = envs_of(stored, bench.core, wanted if stored.card["task"] == "refine" else None)
    answer, looks = play(envs, np.arange(len(bench)), stored.act)
    gains = bench.at(answer, looks).gains
    assert looks == wanted
    assert searched > 0.01
    assert gains.mean() > times * searched
    assert (gains > 0).mean() >= 0.8
