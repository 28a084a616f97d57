"""The searches find the best answer of a problem whose best answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from agents.search import Floats, Indices, cma_es, coordinate_search, random_search

OPTIMA = np.array([[0.3, -0.2, 0.5, 0.0], [-0.6, 0.4, 0.1, 0.2], [0.0, 0.0, 0.0, 0.0]])
HEIGHTS = (OPTIMA**2).sum(axis=1)


def bowl(frames: Indices, actions: Floats) -> Floats:
    """Zero at neutral, `HEIGHTS` at the optimum of each frame."""
    return HEIGHTS[frames] - ((actions - OPTIMA[frames]) ** 2).sum(axis=1)


def test_cma_es_finds_the_optimum_of_every_frame():
    found = cma_es(bowl, frames=3, dimensions=4, evaluations=400)
    np.testing.assert_allclose(found.actions, OPTIMA, atol=0.02)
    np.testing.assert_allclose(found.gains, HEIGHTS, atol=1e-3)


def test_coordinate_search_finds_a_separable_optimum():
    found = coordinate_search(bowl, frames=3, dimensions=4, evaluations=160)
    np.testing.assert_allclose(found.actions, OPTIMA, atol=0.03)


def test_random_search_gets_nearer_with_more_renders_and_never_below_neutral():
    few = random_search(bowl, frames=3, dimensions=4, evaluations=8)
    many = random_search(bowl, frames=3, dimensions=4, evaluations=512)
    assert many.gains[:2].sum() > few.gains[:2].sum()
    assert many.gains[0] > 0.7 * HEIGHTS[0]
    assert (few.gains >= 0).all()
    np.testing.assert_array_equal(many.actions[2], 0.0)  # nothing beats neutral there


@pytest.mark.parametrize("search", [random_search, cma_es])
def test_a_seed_repeats_a_search_and_another_seed_does_not(search):
    first, again, other = (search(bowl, 3, 4, evaluations=32, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.curve, again.curve)
    assert not np.array_equal(first.curve, other.curve)


@pytest.mark.parametrize("search", [random_search, cma_es, coordinate_search])
def test_the_curve_rises_to_the_reported_gain_and_the_action_earns_it(search):
    found = search(bowl, 3, 4, evaluations=40)
    assert (np.diff(found.curve, axis=1) >= 0).all()
    assert found.evaluations <= 40
    np.testing.assert_array_equal(found.curve[:, -1], found.gains)
    np.testing.assert_allclose(bowl(np.arange(3), found.actions), found.gains)
    assert (np.abs(found.actions) <= 1).all()
