"""Fitting the score to few ratings in closed form, and cross-validating it without leaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from attiqa.errors import InputError
from attiqa.nn.network import Regressor
from attiqa.training.crossvalidation import (
    agreement,
    group_folds,
    native_crops,
    nested_predictions,
    out_of_fold,
    pair_accuracy,
)
from attiqa.training.graded import Graded
from attiqa.training.regressor import PseudoRated, RatedFeatures, fit_regressor, predict

D = 6


@pytest.fixture
def pseudo() -> PseudoRated:
    levels = torch.zeros(40, 5, 9)
    levels[:, 1, 0], levels[:, 2, 2], levels[:, 3:] = -0.5, 0.3, 0.4
    return PseudoRated(Regressor(D, 5), Graded(torch.randn(40, 5, D).relu(), levels))


def rated(count: int, views: int = 1, groups: int = 6) -> RatedFeatures:
    hidden = torch.randn(count, views, D).relu()
    mos = (hidden.mean(1) @ torch.linspace(-0.05, 0.05, D) + 0.5).clamp(0, 1)
    return RatedFeatures({"whole": hidden}, mos, [f"g{i % groups}" for i in range(count)])


def test_without_photographs_the_fit_is_scikit_learns_ridge(pseudo: PseudoRated) -> None:
    group = rated(40)
    fitted = fit_regressor([group], pseudo, penalty=0.05, pseudo_weight=0.0, single_weight=0.0)
    columns = pseudo.columns(group.hidden["whole"].flatten(0, 1)).numpy()
    # an unpenalised column: so large that its coefficient costs nothing
    columns[:, -2] *= 1e4
    theirs = Ridge(alpha=0.05 * len(columns)).fit(columns[:, :-1], group.mos.numpy())
    ours = predict(fitted, group.hidden["whole"]).numpy()
    np.testing.assert_allclose(ours, theirs.predict(columns[:, :-1]), atol=2e-4)


def test_a_heavy_penalty_leaves_the_order_of_the_mlp(pseudo: PseudoRated) -> None:
    group = rated(40)
    fitted = fit_regressor([group], pseudo, penalty=1e9)
    before, after = predict(pseudo.start, group.hidden["whole"]), predict(fitted, group.hidden["whole"])
    assert abs(float(torch.corrcoef(torch.stack([before, after]))[0, 1])) == pytest.approx(1, abs=1e-3)


def test_a_fit_leaves_the_start_alone_and_recovers_a_linear_truth(pseudo: PseudoRated) -> None:
    before = {key: value.clone() for key, value in pseudo.start.state_dict().items()}
    training, fresh = rated(300), rated(50)
    fitted = fit_regressor([training], pseudo, penalty=1e-6, pseudo_weight=0.0, single_weight=0.0)
    torch.testing.assert_close(predict(fitted, fresh.hidden["whole"]), fresh.mos, atol=1e-3, rtol=0)
    assert all(torch.equal(value, pseudo.start.state_dict()[key]) for key, value in before.items())


def test_what_a_distortion_alone_costs_survives_ratings_that_deny_it() -> None:
    hidden, levels = torch.randn(60, 5, D).relu() + 1, torch.zeros(60, 5, 9)
    levels[:, 1, 0], levels[:, 2, 2], levels[:, 3:] = -0.5, 0.3, 0.4
    hidden[:, 1:3] = hidden[:, :1]
    hidden[:, 1, 0] -= 1.0  # one distortion with a strong effect, and one with a weak effect
    hidden[:, 2, 1] -= 0.02
    photographs = PseudoRated(Regressor(D, 5), Graded(hidden, levels))
    people = rated(80)
    people.mos.copy_((0.5 - 0.3 * people.hidden["whole"][:, 0, 1]).clamp(0, 1))

    def weak_cost(regressor: Regressor) -> torch.Tensor:
        return predict(regressor, hidden[:, 0:1]) - predict(regressor, hidden[:, 2:3])

    wanted = weak_cost(photographs.start) * photographs.moment[-2] / photographs.normal[-2, -2]

    def error(weight: float) -> float:
        fitted = fit_regressor([people], photographs, penalty=1e-3, pseudo_weight=1.0, single_weight=weight)
        return float((weak_cost(fitted) - wanted).norm() / wanted.norm())

    assert error(0.0) > 0.5
    assert error(10.0) < 0.2


def test_folds_keep_groups_whole_and_cover_every_image_once() -> None:
    groups = [f"g{i % 5}" for i in range(23)]
    for folds in (None, 3):
        masks = torch.stack(list(group_folds(groups, folds)))
        assert masks.sum(0).tolist() == [1] * 23
        for mask in masks:
            inside = {g for g, held in zip(groups, mask.tolist(), strict=True) if held}
            outside = {g for g, held in zip(groups, mask.tolist(), strict=True) if not held}
            assert not inside & outside


def test_a_prediction_does_not_see_its_own_groups_ratings(pseudo: PseudoRated) -> None:
    first, second = rated(30), rated(24)
    changed = first.mos.clone()
    held_out = torch.tensor([group == "g2" for group in first.groups])
    changed[held_out] = 1 - changed[held_out]
    spoiled = RatedFeatures(first.hidden, changed, first.groups)
    for method in (
        lambda sets: out_of_fold(sets, 0, pseudo, 0.01)["whole"],
        lambda sets: nested_predictions(sets, 0, pseudo)["whole"],
    ):
        honest, other = method([first, second]), method([spoiled, second])
        torch.testing.assert_close(honest[held_out], other[held_out])
        assert not torch.allclose(honest[~held_out], other[~held_out])


def test_pair_accuracy_counts_pairs_of_one_group_beyond_the_gap() -> None:
    mos = np.array([1.0, 2.0, 3.0, 1.0, 3.0])
    groups = np.array(["a", "a", "a", "b", "b"])
    scores = np.array([0.1, 0.3, 0.2, 0.9, 0.8])
    assert pair_accuracy(scores, mos, groups, gap=1.0) == (0.5, 4)
    assert pair_accuracy(scores, mos, groups, gap=1.5) == (0.5, 2)
    with pytest.raises(InputError, match="no two images"):
        pair_accuracy(scores, mos, groups, gap=9.0)


def test_agreement_reports_the_correlation_inside_its_interval() -> None:
    generator = np.random.default_rng(0)
    mos = generator.uniform(1, 5, 60)
    found = agreement(
        mos + generator.normal(0, 0.5, 60), mos, np.array([f"g{i % 8}" for i in range(60)]), 0.5
    )
    low, high = found["srocc_ci95"]
    assert 0.7 < low < found["srocc"] < high <= 1


def test_native_crops_never_rescale() -> None:
    image = torch.rand(1, 3, 150, 200)
    crops = native_crops(144)(image)
    assert torch.equal(crops[0, 0], image[0, :, :144, :144])
