"""What is delivered: nothing that clips anew, the best of what is left, and nothing worse than neutral."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from agents.answers import Settings, potential_of
from agents.delivery import DRAW_BACK, delivered, deliveries, no_worse_than_neutral
from agents.drawback import is_colorless
from agents.playing import Look, best_so_far
from isp_env.color import srgb_to_linear
from isp_env.envs import Core
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.sources import MemoryFrames
from tests.fakes import RandomFrames

SPACE = ParameterSpace(TUNE_PARAMETERS)


@pytest.fixture(scope="module")
def core() -> Core:
    """One picture that is bright already, and a reward that likes it brighter still."""
    frame = RandomFrames([(72, 80)]).frame(0, 72)
    bright = torch.linspace(0.3, 0.9, 72 * 80).view(1, 72, 80).expand(3, -1, -1).contiguous()
    frame = dataclasses.replace(frame, image=bright, white_balance=torch.ones(3), color_matrix=torch.eye(3))
    return Core(MemoryFrames([frame]), SPACE, Pipeline(SPACE), lambda x: x.mean((1, 2, 3)), short_side=72)


def setting(core: Core, **moved: float) -> Settings:
    actions = np.zeros((1, len(SPACE)))
    for name, action in moved.items():
        actions[0, SPACE.names.index(name)] = action
    return Settings(actions, SPACE, core.pipeline)


def look(core: Core, answer: Settings) -> Look:
    """A look at frame 0, as an environment would score it."""
    potential = potential_of(core, np.zeros(1, np.int64), answer).double().numpy()
    return Look(answer, potential, np.ones(1))


def test_a_setting_that_would_clip_is_taken_back_as_far_as_it_brightens(core: Core) -> None:
    actions = np.zeros((2, len(SPACE)))
    actions[:, SPACE.names.index("denoise_chroma")] = 0.5
    actions[1, SPACE.names.index("exposure")] = 0.5  # a whole stop on a picture that is bright already
    answer, shares = delivered(core, np.zeros(2, np.int64), Settings(actions, SPACE, core.pipeline))
    assert shares[0] == 1.0 > shares[1]
    np.testing.assert_array_equal(answer.rows([0]).actions, actions[:1])
    values = answer.record(1)["parameters"]
    assert values["exposure"] == pytest.approx(shares[1] * 1.0, abs=1e-6)
    assert values["denoise_chroma"] == pytest.approx(0.5)


def test_no_more_is_taken_back_than_the_next_tenth(core: Core) -> None:
    frames = np.zeros(1, np.int64)
    answer, (share,) = delivered(core, frames, setting(core, exposure=0.5))
    assert 0.0 < share < 1.0
    assert list(np.diff(DRAW_BACK["shares"])) == pytest.approx([-0.1] * 10)
    np.testing.assert_allclose(answer.actions, share * setting(core, exposure=0.5).actions, atol=1e-6)
    _, (again,) = delivered(core, frames, answer)
    _, (more,) = delivered(core, frames, setting(core, exposure=0.5 * (share + 0.1)))
    assert again == 1.0 > more


def test_what_is_black_and_white_stays_so(core: Core) -> None:
    tinted = setting(core, temperature=0.4, tint=-0.2, contrast=-0.5)
    (only,) = deliveries(core, np.zeros(1, np.int64), [look(core, tinted)])
    np.testing.assert_array_equal(only.answer.actions, setting(core, contrast=-0.5).actions)
    assert only.share == 1.0
    assert only.potential == pytest.approx(potential_of(core, np.zeros(1, np.int64), only.answer).item())
    image = core.images_of(np.zeros(1, np.int64), core.neutral_images)[0].clone()
    image[0, :8, :8] += 0.03  # a small red area, elsewhere it is grey
    colored = MemoryFrames(
        [dataclasses.replace(RandomFrames([(72, 80)]).frame(0, 72), image=srgb_to_linear(image))]
    )
    other = Core(colored, SPACE, core.pipeline, lambda x: x.mean((1, 2, 3)), short_side=72)
    magenta = setting(core, tint=0.1, exposure=-0.3)
    answer, _ = delivered(other, np.zeros(1, np.int64), magenta)
    assert not answer.differs(magenta).any()
    answer, _ = delivered(core, np.zeros(1, np.int64), magenta)
    assert answer.differs(magenta).all()


@pytest.mark.parametrize("most", [0.01, 0.1])
def test_without_color_are_pictures_of_which_no_area_has_any(most: float) -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.random((1, 100, 130)), 3, axis=0)
    noisy = grey + rng.normal(0, most, (3, 100, 130))  # the means of nine pixels are a third of that
    assert is_colorless(grey, most)
    assert not is_colorless(noisy, most / 3)
    red = grey.copy()
    red[0, 3:6, 3:6] += 1.1 * most  # one area of many
    assert not is_colorless(red, most)
    assert is_colorless(red, 1.2 * most)


def test_the_best_of_several_looks_is_that_of_what_is_left_of_them(core: Core) -> None:
    frames = np.zeros(1, np.int64)
    brightest = look(core, setting(core, exposure=0.5))
    kept, share = delivered(core, frames, brightest.answer)
    exposure = float(kept.actions[0, SPACE.names.index("exposure")])
    gentle = look(core, setting(core, exposure=exposure, tone_shadows=0.5))
    assert brightest.potential > gentle.potential
    *_, best = best_so_far(deliveries(core, frames, [brightest, gentle]))
    np.testing.assert_array_equal(best.answer.actions, gentle.answer.actions)
    assert best.share == 1.0
    first, *_ = best_so_far(deliveries(core, frames, [brightest, gentle]))
    assert first.share == share
    assert first.potential == pytest.approx(potential_of(core, frames, kept).item(), abs=1e-6)
    # whichever comes first
    *_, best = best_so_far(deliveries(core, frames, [gentle, brightest]))
    np.testing.assert_array_equal(best.answer.actions, gentle.answer.actions)


def test_what_the_reward_likes_less_than_neutral_is_replaced_by_it_row_by_row(core: Core) -> None:
    frames = np.zeros(2, np.int64)
    actions = np.concatenate([setting(core, exposure=move).actions for move in (-0.5, 0.1)])
    answer = Settings(actions, SPACE, core.pipeline)
    potential = potential_of(core, frames, answer).double().numpy()
    delivered_answer, kept = no_worse_than_neutral(core, frames, Look(answer, potential, np.ones(2)))
    assert kept.tolist() == [False, True]
    np.testing.assert_array_equal(delivered_answer.actions, [0 * actions[0], actions[1]])
