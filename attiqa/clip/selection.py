"""Prompt selection (ATTIQA, section 3.3): which antonym pair follows an attribute best.

Two proxy tasks judge every (positive, negative) pair of a pool by SROCC: (1) distortion intensity, on several
levels of the same photograph; (2) human scores of the attribute. The best sum of both is the choice.
Everything works on embeddings, so a pair costs a subtraction and a rank correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attiqa.clip.labels import cosine_scores
from attiqa.clip.prompts import Pool
from attiqa.errors import InputError
from attiqa.ranks import spearman_differences, spearman_matrix

STRATEGIES = ("joint", "distortion", "human")
RANKS = ("best", "median", "worst")

# scores of one block of pairs: 2**24 float32 are 64 MiB
_BLOCK_SCORES = 2**24


@dataclass(frozen=True)
class PairTable:
    """What the proxies say about every pair of one pool.

    Attributes:
        pool: the candidates.
        distortion: float64 ``(P, Q)``, mean per-image SROCC of proxy 1, or ``None`` where it was not run.
        human: float64 ``(P, Q)``, SROCC of proxy 2, or ``None``.
    """

    pool: Pool
    distortion: NDArray[np.float64] | None = None
    human: NDArray[np.float64] | None = None

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies that these proxies allow: each alone, and the sum of both."""
        single = tuple(name for name in ("distortion", "human") if getattr(self, name) is not None)
        return STRATEGIES if len(single) == 2 else single

    def objective(self, strategy: str) -> NDArray[np.float64]:
        """The number that `strategy` maximises, ``(P, Q)``; ``joint`` is the plain sum (section 3.3)."""
        if strategy not in self.strategies:
            raise InputError(
                f"strategy {strategy!r} needs proxies that were not run for {self.pool.name}; "
                f"it has {', '.join(self.strategies) or 'none'}."
            )
        if strategy == "joint":
            return self.objective("distortion") + self.objective("human")
        return self.distortion if strategy == "distortion" else self.human  # type: ignore[return-value]

    def order(self, strategy: str) -> NDArray[np.int64]:
        """Flat pair indices ``(P * Q,)`` from best to worst; equals keep the pool's order."""
        return np.argsort(-self.objective(strategy), axis=None, kind="stable")

    def pick(self, strategy: str, rank: str = "best") -> tuple[str, str]:
        """The (positive, negative) adjectives at a rank of the objective: best, median or worst."""
        order = self.order(strategy)
        index = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}[rank]
        return self.pair(int(order[index]))

    def pair(self, flat: int) -> tuple[str, str]:
        """The adjectives of a flat pair index."""
        row, column = divmod(flat, len(self.pool.negative))
        return self.pool.positive[row], self.pool.negative[column]


def distortion_srocc(
    images: torch.Tensor, levels: Sequence[float], positive: torch.Tensor, negative: torch.Tensor
) -> NDArray[np.float64]:
    """Proxy 1: does ``s_pos - s_neg`` fall as the distortion grows?

    Args:
        images: unit vectors ``(I, L, D)`` of I photographs at L levels each.
        levels: ``(L,)`` levels as `attiqa.distortions` counts them: lower is more distorted.
        positive, negative: text unit vectors ``(P, D)`` and ``(Q, D)``.

    Returns:
        float64 ``(P, Q)``: SROCC with the level within each photograph, averaged over photographs (our
        choice: the paper names the task and not the average). All scores tied count as 0.
    """
    count, level_count, dim = images.shape
    flat = images.reshape(count * level_count, dim)
    high = _scores(flat, positive).reshape(count, level_count, -1).transpose(0, 2, 1)  # (I, P, L)
    low = _scores(flat, negative).reshape(count, level_count, -1).transpose(0, 2, 1)  # (I, Q, L)
    target = np.asarray(levels, dtype=np.float64)
    total = np.zeros((high.shape[1], low.shape[1]))
    step = max(1, _BLOCK_SCORES // (total.size * level_count))
    for start in range(0, count, step):
        block = high[start : start + step, :, None] - low[start : start + step, None]  # (i, P, Q, L)
        total += np.nan_to_num(spearman_matrix(block, target)).sum(axis=0)
    return total / count


def human_srocc(
    images: torch.Tensor, opinions: NDArray[np.float64], positive: torch.Tensor, negative: torch.Tensor
) -> NDArray[np.float64]:
    """Proxy 2: does ``s_pos - s_neg`` follow what people said of the attribute?

    Args:
        images: unit vectors ``(N, D)``.
        opinions: ``(N,)`` human scores, higher is more of the attribute (for noisiness: cleaner).
        positive, negative: text unit vectors ``(P, D)`` and ``(Q, D)``.

    Returns:
        float64 ``(P, Q)``; a pair whose scores are all tied counts as 0.
    """
    high = _scores(positive, images)  # (P, N)
    low = _scores(negative, images)  # (Q, N)
    return np.nan_to_num(spearman_differences(high, low, opinions))


def _scores(rows: torch.Tensor, columns: torch.Tensor) -> NDArray[np.float32]:
    return cosine_scores(rows, columns).cpu().numpy()
