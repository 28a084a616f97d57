"""Losses of ATTIQA: margin ranking over all pairs of a batch, and what the ablations and fine-tuning use."""

from __future__ import annotations

import math

import torch

from attiqa.errors import InputError

MARGIN = 0.1  # arXiv 2406.01020, section 3.4


def pair_order(labels: torch.Tensor) -> torch.Tensor:
    """Which image of each pair ranks higher.

    Args:
        labels: ``(B,)`` or ``(B, K)``, higher is better; NaN means unknown.

    Returns:
        ``(B, B)`` or ``(B, B, K)`` in {-1, 0, 1}, of the labels' dtype: +1 where the row's label exceeds
        the column's, 0 for ties and wherever either label is NaN.
    """
    row, column = labels.unsqueeze(1), labels.unsqueeze(0)
    # two comparisons, not sign(row - column): NaN compares false and so becomes a tie
    return (row > column).to(labels.dtype) - (row < column).to(labels.dtype)


def ordered_pair_loss(scores: torch.Tensor, order: torch.Tensor, margin: float = MARGIN) -> torch.Tensor:
    """Mean hinge ``max(0, margin - sign(order) * (s_row - s_column))`` over the pairs with an order (Eq. 3).

    Args:
        scores: ``(B,)`` or ``(B, K)``.
        order: ``(B, B)`` or ``(B, B, K)`` in {-1, 0, 1}; pairs at 0 do not count, one at 2 or -2
            counts twice: the mean is weighted by the magnitude.
        margin: by how much the better image must lead.

    Returns:
        Scalar: each column's mean over its own ordered pairs, summed over columns (Eq. 4). Zero, with a
        gradient of zero, where nothing is ordered.
    """
    difference = scores.unsqueeze(1) - scores.unsqueeze(0)
    counted = order.abs()
    hinge = (margin - order.sign() * difference).clamp(min=0) * counted
    return (hinge.sum((0, 1)) / counted.sum((0, 1)).clamp(min=torch.finfo(scores.dtype).tiny)).sum()


def margin_ranking_loss(scores: torch.Tensor, labels: torch.Tensor, margin: float = MARGIN) -> torch.Tensor:
    """Margin ranking over all in-batch pairs, ties masked, summed over attributes (Eq. 3, 4).

    All pairs of the batch and the masking of ties are our choice; the paper is silent on how pairs are drawn.

    Args:
        scores: ``(B,)`` or ``(B, K)`` predictions.
        labels: pseudo-labels of the same shape, in any unit; only their order counts; NaN is unknown.
        margin: by how much the better image must lead.
    """
    return ordered_pair_loss(scores, pair_order(labels).to(scores.dtype), margin)


def regression_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean squared error over known labels, summed over attributes: the paper's L2 ablation.

    Labels of unknown unit should be standardised first; NaN labels do not count.
    """
    known = ~torch.isnan(labels)
    squared = torch.where(known, scores - labels.nan_to_num(), 0).square()
    return (squared.sum(0) / known.sum(0).clamp(min=1)).sum()


def finite(loss: torch.Tensor, step: int) -> float:
    """The loss as a number; refuses NaN and infinity before they reach the state on disk."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise InputError(
            f"the loss is {value:g} after {step + 1} steps: training has diverged; take a smaller learning "
            "rate (and another --out)."
        )
    return value
