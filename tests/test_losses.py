"""Ranking and regression losses against hand-written pair loops and torch's own."""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional as F

from attiqa.losses import margin_ranking_loss, ordered_pair_loss, pair_order, regression_loss


def test_margin_ranking_equals_torch_over_every_untied_pair() -> None:
    scores = torch.randn(9, 3)
    labels = torch.randint(0, 4, (9, 3)).float()
    expected = torch.zeros(())
    for k in range(3):
        pairs = [(i, j) for i, j in itertools.combinations(range(9), 2) if labels[i, k] != labels[j, k]]
        left, right = (torch.tensor(side) for side in zip(*pairs, strict=True))
        sign = torch.sign(labels[left, k] - labels[right, k])
        expected += F.margin_ranking_loss(scores[left, k], scores[right, k], sign, margin=0.1)
    torch.testing.assert_close(margin_ranking_loss(scores, labels), expected)


def test_labels_count_by_order_alone() -> None:
    scores, labels = torch.randn(8, 5), torch.rand(8, 5)
    torch.testing.assert_close(
        margin_ranking_loss(scores, labels), margin_ranking_loss(scores, labels.exp() * 7 - 3)
    )


def test_scores_in_label_order_beyond_the_margin_cost_nothing() -> None:
    labels = torch.arange(6.0)
    assert margin_ranking_loss(labels * 0.11, labels) == 0
    assert margin_ranking_loss(labels * 0.05, labels) > 0


def test_ties_and_unknown_labels_are_masked() -> None:
    scores = torch.randn(4, requires_grad=True)
    loss = margin_ranking_loss(scores, torch.tensor([1.0, 1.0, float("nan"), float("nan")]))
    loss.backward()
    assert loss == 0
    assert scores.grad is not None
    assert bool((scores.grad == 0).all())
    assert pair_order(torch.tensor([float("nan"), 1.0])).abs().sum() == 0


def test_ranking_loss_has_a_correct_gradient() -> None:
    scores = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    order = pair_order(torch.rand(6, 2, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda s: ordered_pair_loss(s, order, margin=0.3), (scores,))


def test_a_partial_order_counts_only_its_own_pairs() -> None:
    order = torch.zeros(3, 3)
    order[0, 1], order[1, 0] = 1, -1
    loss = ordered_pair_loss(torch.tensor([0.0, 1.0, 99.0]), order, margin=0.1)
    torch.testing.assert_close(loss, torch.tensor(1.1))


def test_regression_loss_is_the_mse_of_known_labels() -> None:
    scores, labels = torch.randn(7, 2), torch.randn(7, 2)
    torch.testing.assert_close(regression_loss(scores, labels), 2 * F.mse_loss(scores, labels))
    labels[0] = float("nan")
    torch.testing.assert_close(regression_loss(scores, labels), 2 * F.mse_loss(scores[1:], labels[1:]))


def test_the_loss_teaches_a_linear_model_a_known_order() -> None:
    inputs = torch.randn(64, 4)
    truth = inputs @ torch.tensor([2.0, -1.0, 0.5, 0.0])
    weight = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        margin_ranking_loss(inputs @ weight, truth).backward()
        optimizer.step()
    ranks = [(inputs @ weight.detach()).argsort().argsort().double(), truth.argsort().argsort().double()]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.99


def test_a_weighted_pair_counts_as_often_as_its_weight() -> None:
    scores = torch.randn(3)
    order = torch.tensor([[0.0, 1.0, 1.0], [-1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    heavy = order.clone()
    heavy[0, 1] = 3.0
    pairs = [(0, 1, 3.0), (1, 0, 1.0), (0, 2, 1.0), (2, 0, 1.0)]
    hinges = [(w, (0.1 - order[i, j] * (scores[i] - scores[j])).clamp(min=0)) for i, j, w in pairs]
    expected = sum(w * h for w, h in hinges) / sum(w for w, _ in hinges)
    torch.testing.assert_close(ordered_pair_loss(scores, heavy), expected)
    torch.testing.assert_close(ordered_pair_loss(scores, heavy * 0.01), expected)
