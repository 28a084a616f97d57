"""What a reward charges for, told by small renders."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.charges import BETWEEN_NEIGHBOURS, STEP, Charges
from attiqa.rewards.guarded import GuardedReward
from isp_env.envs import Core
from tests.fakes import small_core
from tests.test_slopes import Even, real_core, settings


def charges_of(core: Core) -> Charges:
    assert core.charge
    return Charges(core.samples_of(np.arange(len(core))), core.space, core.pipeline, core.charge)


def test_small_renders_tell_the_charges_of_large_ones() -> None:
    core = real_core(GuardedReward([Even()]))
    actions = settings(core, 0.4)
    looked = core.look_at(np.arange(len(core)), core.space.to_physical(actions), slopes=True)
    assert float(looked["charge"].max()) > 0.02
    found, _ = charges_of(core)(actions.double())
    np.testing.assert_allclose(found, looked["charge"], atol=0.01)
    np.testing.assert_allclose(charges_of(core)(torch.zeros_like(actions))[0], 0.0, atol=1e-6)


def test_nothing_is_scored_for_them() -> None:
    reward = GuardedReward([Even()])
    core = real_core(reward)
    reward.scorers = ()  # asking these would be an error
    charge, _ = charges_of(core)(settings(core, 0.4))
    assert float(charge.min()) > 0


def test_their_slopes_are_differences_inside_the_limits() -> None:
    core = small_core(
        GuardedReward([Even()], clip_weight=0, color_weight=0, chroma_weight=0, paling_weight=0)
    )
    charged = charges_of(core)
    actions = torch.tensor([[-0.6, 0.0], [-0.5, 0.9], [-0.2, 1.0], [1.0, 0.3], [0.5, 0.0]]).double()
    charge, slopes = charged(actions)
    for axis in range(2):
        moved = actions.clone()
        steps = torch.where(actions[:, axis] > 1 - STEP, -STEP, STEP)
        moved[:, axis] += steps
        assert float(moved.abs().max()) <= 1.0
        np.testing.assert_allclose(slopes[:, axis], (charged(moved)[0] - charge) / steps, atol=1e-9)
    assert float(slopes[0, 0]) < 0  # what is darker than the neutral render is better brightened
    np.testing.assert_array_equal(slopes[:, 1], 0.0)  # this renderer knows no contrast


def test_what_needs_neighbours_is_left_out() -> None:
    core = real_core(GuardedReward([Even()]))
    actions = settings(core, 0.4).double()
    beside = [parameter.operator in BETWEEN_NEIGHBOURS for parameter in core.space.parameters]
    assert 0 < sum(beside) < len(beside)
    others = actions.clone()
    others[:, beside] = 0.9
    charge, slopes = charges_of(core)(others)
    expected, _ = charges_of(core)(actions)
    np.testing.assert_array_equal(charge, expected)
    np.testing.assert_array_equal(slopes[:, beside], 0.0)
    assert float(slopes[:, [not each for each in beside]].abs().max()) > 0


def test_a_reward_that_charges_for_nothing_has_none() -> None:
    assert small_core().charge is None


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_the_charge_of_no_change_has_no_slope(value: float) -> None:
    """Of grey pixels too, where chroma has a corner."""
    reward = GuardedReward([Even()], color_radius=0.0)
    grey = torch.full((1, 3, 32, 32), value)
    images = grey.clone().requires_grad_()
    (slope,) = torch.autograd.grad(reward.charge(images, grey).sum(), images)
    assert bool(torch.isfinite(slope).all())
