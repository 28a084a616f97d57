"""Tools-v0: action codes, sequences, no reuse, costs, mixed tools in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attiqa.errors import InputError
from isp_env.envs.action_code import ActionCode
from isp_env.envs.tools import ToolsTask
from tests.fakes import MIXED, FakeTools, MeanGrey, small_core


def make_task(count: int = 5, reward: object = None, **options: Any) -> ToolsTask:
    task = ToolsTask(small_core(reward), count, FakeTools(), **options)
    task.begin(np.arange(count), np.arange(count) % 5)
    return task


def test_every_code_says_the_same_thing_its_own_way() -> None:
    is_open = np.ones((3, 4), dtype=bool)
    rows = np.float32([[0.9, 0, 0, 0, 0.5], [0, 0.2, 0.1, 0, -1.0], [0, 0, 0, 0.3, 1.0]])
    boxed = ActionCode("box", 3, 2).decode(rows, is_open)
    pairs = ActionCode("multi_discrete", 3, 2).decode(np.array([[0, 1], [1, 0], [3, 1]]), is_open)
    single = ActionCode("discrete", 3, 2).decode(np.array([0, 1, 6]), is_open)
    for choices, strengths in (boxed, pairs, single):
        assert choices.tolist() == [0, 1, 3]
        assert strengths[1:].tolist() == [-1.0, 1.0]


def test_a_box_takes_the_best_choice_that_is_open_and_stops_when_indifferent() -> None:
    code = ActionCode("box", 2, 2)
    rows = np.float32([[-0.5, 0.9, 0.1, 0.0], [0.0, 0.0, 0.0, 0.7]])
    choices, _ = code.decode(rows, np.array([[True, False, True], [True, True, True]]))
    assert choices.tolist() == [2, 0]


def test_masks_close_the_used_tools_in_each_layout() -> None:
    is_open = np.array([[True, False, True]])
    assert ActionCode("multi_discrete", 2, 3).masks(is_open).tolist() == [[1, 0, 1, 1, 1, 1]]
    assert ActionCode("discrete", 2, 3).masks(is_open).tolist() == [[1, 0, 0, 0, 1, 1, 1]]
    with pytest.raises(InputError, match="no mask"):
        ActionCode("box", 2, 3).masks(is_open)


@pytest.mark.parametrize(
    "kind, actions, message",
    [
        ("multi_discrete", np.zeros((2, 3), np.int64), r"shape \(2, 2\)"),
        ("multi_discrete", np.array([[0, 0], [4, 0]]), "run from 0"),
        ("discrete", np.array([0, -1]), "run from 0"),
        ("discrete", np.zeros(2), "integers"),
        ("box", np.full((2, 5), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_actions_are_refused_in_a_sentence(kind: Any, actions: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ActionCode(kind, 3, 8).decode(actions, np.ones((2, 4), dtype=bool))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"actions": "tuple"}, "multi_discrete"),
        ({"levels": 1}, "levels"),
        ({"costs": {"saw": 1.0}}, "no tool saw"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(**options)


def test_tools_run_in_the_agents_order_on_frames_of_any_shape() -> None:
    task = make_task(actions="box")
    frames = [task.core.table.buckets[b].image[r] for b, r in zip(*where(task), strict=True)]
    gain, invert = np.float32([-1, 1, -1, -1, 0.5]), np.float32([-1, -1, -1, 1, 0])
    task.advance(np.stack([gain, gain, invert, invert, gain]))
    task.advance(np.stack([invert, invert, gain, gain, invert]))
    power = 2.0**0.5
    for slot, image in enumerate(task.images()):
        expected = 1 - frames[slot] * power if slot in (0, 1, 4) else (1 - frames[slot]) * power
        assert tuple(image.shape[1:]) == MIXED[slot]
        torch.testing.assert_close(image, expected.clamp(0, 1).sqrt(), atol=1e-5, rtol=0)


def where(task: ToolsTask) -> tuple[np.ndarray, np.ndarray]:
    return task.core.table.bucket_of[task.frames], task.core.table.row_of[task.frames]


def test_a_used_tool_changes_nothing_and_is_closed_in_the_observation() -> None:
    task = make_task()
    task.advance(np.array([[1, 7]] * 5))
    seen = task.observe()
    assert seen["available"].tolist() == [[1, 0, 1, 1]] * 5
    np.testing.assert_allclose(seen["order"][:, 0], 1 / 5)
    np.testing.assert_allclose(seen["strength"][:, 0], 1.0)
    reward, over = task.advance(np.array([[1, 0]] * 5))
    assert (reward == 0).all()
    assert not over.any()
    torch.testing.assert_close(task.observe()["thumbnail"], seen["thumbnail"])
    assert task.action_masks().shape == (5, 4 + 8)


def test_episodes_end_at_stop_at_the_horizon_and_when_all_tools_are_used() -> None:
    task = make_task(horizon=4)
    _, over = task.advance(np.array([[0, 0], [1, 0], [1, 0], [1, 0], [0, 3]]))
    assert over.tolist() == [True, False, False, False, True]
    task.advance(np.array([[1, 0], [2, 0], [1, 0], [2, 0], [1, 0]]))
    _, over = task.advance(np.array([[2, 0], [3, 0], [2, 0], [2, 0], [2, 0]]))
    assert over.tolist() == [False, True, False, False, False]
    assert task.advance(np.array([[1, 0]] * 5))[1].all()


def test_rewards_telescope_less_the_costs_and_only_changed_images_are_scored() -> None:
    reward = MeanGrey()
    task = make_task(reward=reward, costs={"power": 0.25})
    reward.scored = 0
    total = torch.zeros(5)
    for actions in ([[1, 6], [2, 1], [3, 0], [0, 0], [2, 2]], [[2, 1], [2, 4], [1, 3], [1, 1], [0, 0]]):
        total += task.advance(np.array(actions))[0]
    # 4 in the first step; in the second slot 1 repeats itself and slot 4 stops
    assert reward.scored == 4 + 3
    info = task.info()
    uses = (info["order"][:, 1] > 0).float()
    torch.testing.assert_close(total, info["potential"] - info["neutral_potential"] - 0.25 * uses)


def test_a_restored_task_shows_the_same_renders() -> None:
    task, other = make_task(), make_task()
    for actions in ([[1, 6], [2, 1], [3, 0], [1, 0], [2, 2]], [[2, 1], [3, 4], [1, 3], [2, 1], [1, 0]]):
        task.advance(np.array(actions))
    other.restore(task.state())
    for name, rows in task.observe().items():
        torch.testing.assert_close(other.observe()[name], rows)
    for one, two in zip(task.images(), other.images(), strict=True):
        torch.testing.assert_close(one, two)
