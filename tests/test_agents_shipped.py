"""The policies that ship load as any other and enhance scenes that it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import agents
from agents.evaluation import Bench
from agents.judging import judging
from agents.launch import make_core
from agents.playing import envs_of, play
from agents.policy_file import load_policy
from agents.scenes import HELD_OUT_RAWS
from isp_env.embedded import write_embedded_scenes
from isp_env.sources import RawFolder

SHIPPED = Path(agents.__file__).parent / "policies"


@pytest.mark.parametrize("name, most, least", [("photographs", 1, 0.07), ("five-looks", 5, 0.09)])
def test_a_shipped_policy_gains_on_scenes_that_it_never_saw(tmp_path, name, most, least):
    stored = load_policy(SHIPPED / name)
    scores = judging(stored.card["reward"], "cpu")
    assert stored.card["reward_model"]["digest"] == scores.about["reward_model"]["digest"]
    # what the runs of seed 0 hold out: the kernel of five looks is learnt from the other side
    _, raws = write_embedded_scenes(tmp_path, 0, raws_a_scene=1, study_raws=0, held_out_raws=HELD_OUT_RAWS)
    core = make_core(RawFolder(raws), scores, int(stored.card["short_side"]), "cpu")
    bench = Bench(core, scores.score)
    frames = np.arange(len(core))
    answer, looks = play(envs_of(stored, core), frames, stored.act)
    gains = bench.at(answer, looks).gains
    assert looks == most
    assert gains.mean() > least
    assert (gains > 0).mean() >= 0.8
