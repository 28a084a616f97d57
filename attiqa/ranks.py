"""Spearman correlations of thousands of predictions with one target, tie-correct, in one pass."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from attiqa.errors import InputError

# small enough for the caches, large enough that threads rarely wait for the interpreter lock
_BLOCK_VALUES = 2**18


def spearman_matrix(predictions: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Spearman's rank correlation of every row of `predictions` with `targets`, ties at average ranks.

    Each float32 value and the rank of its target are packed into one 64-bit integer; sorting those
    orders the targets' ranks by prediction without an index, and threads share the rows. float64 and
    integers take SciPy's ranking, which is slower.

    Args:
        predictions: ``(..., N)``; float16 and float32 take the fast path.
        targets: ``(N,)``, not constant.

    Returns:
        float64 ``(...)``; NaN where a row of predictions is constant.

    Raises:
        InputError: sizes differ, N < 2, a value is not finite, or the targets are constant.
    """
    rows = np.ascontiguousarray(predictions)  # keys are viewed as halves, which needs adjacent memory
    target = np.asarray(targets, dtype=np.float64)
    if target.ndim != 1 or rows.shape[-1:] != target.shape or target.size < 2:
        raise InputError(
            "a rank correlation needs predictions (..., N) and targets (N,) with N of at least 2; "
            f"these are {rows.shape} and {target.shape}."
        )
    if not (np.isfinite(rows).all() and np.isfinite(target).all()):
        raise InputError(
            "a rank correlation needs finite numbers; these hold NaN or infinity: drop those items."
        )
    if (target == target[0]).all():
        raise InputError(
            f"all {target.size} targets are {target[0]:g}; a rank correlation needs at least two values."
        )
    # twice the average rank is a whole number; centred, it sums to zero
    doubled = np.rint(2 * rankdata(target)).astype(np.uint64)
    flat = np.ascontiguousarray(rows).reshape(-1, target.size)  # sorting by key views the bytes of a row
    rank = _rank_by_key if rows.dtype in (np.float32, np.float16) else _rank_by_scipy
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(lambda block: rank(block, doubled), _blocks(flat)))
    return np.concatenate([np.empty(0), *parts]).reshape(rows.shape[:-1])


def _blocks(rows: NDArray) -> Iterator[NDArray]:
    step = max(1, _BLOCK_VALUES // rows.shape[1])
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _rank_by_scipy(rows: NDArray, doubled: NDArray[np.uint64]) -> NDArray[np.float64]:
    ranks = rankdata(rows, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    target = doubled - doubled.mean()
    return _divide(ranks @ target, (ranks**2).sum(axis=-1), (target**2).sum())


def _rank_by_key(rows: NDArray, doubled: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Spearman of float rows ``(R, N)`` with twice the targets' ranks ``(N,)``."""
    count = rows.shape[1]
    keys = (_ordered_bits(rows).astype("<u8") << np.uint64(32)) | doubled
    keys.sort(axis=-1)
    halves = keys.view("<u4")  # (R, 2N): target rank, value, target rank, value, ...
    target = halves[:, 0::2].astype(np.float64) - (count + 1)
    positions = np.arange(count) - (count - 1) / 2
    covariance = target @ positions
    spread = np.full(len(rows), (count**3 - count) / 12)
    _correct_ties(halves[:, 1::2], target, covariance, spread)
    return _divide(covariance, spread, (target[0] ** 2).sum())


def _ordered_bits(rows: NDArray) -> NDArray[np.uint32]:
    """float32 to uint32 in the same order (IEEE 754: flip the sign bit, or all bits of a negative)."""
    bits = (rows.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0 makes -0 equal to 0
    return bits ^ ((bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(0x80000000))


def _correct_ties(
    values: NDArray, target: NDArray[np.float64], covariance: NDArray[np.float64], spread: NDArray[np.float64]
) -> None:
    """Give tied members of the sorted `values` (R, N) their mean position; corrects the sums in place."""
    count = values.shape[1]
    equal = np.zeros(values.shape, dtype=bool)
    np.equal(values[:, 1:], values[:, :-1], out=equal[:, :-1])
    # a run of consecutive flat indices is one group of ties; rows can't join, for the last column is False
    flat = np.flatnonzero(equal)
    first = np.flatnonzero(np.diff(flat, prepend=-2) != 1)
    sizes = np.diff(first, append=flat.size) + 1
    starts = flat[first]
    group_rows = starts // count
    offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shift = np.repeat((sizes - 1) / 2, sizes) - offsets  # mean position minus own position
    change = shift * target.reshape(-1)[np.repeat(starts, sizes) + offsets]
    covariance += np.bincount(np.repeat(group_rows, sizes), change, minlength=len(values))
    spread -= np.bincount(group_rows, (sizes.astype(np.float64) ** 3 - sizes) / 12, minlength=len(values))


def _divide(
    covariance: NDArray[np.float64], spread: NDArray[np.float64], target_spread: float
) -> NDArray[np.float64]:
    scale = np.sqrt(spread * target_spread)
    # a constant row's spread cancels to zero up to rounding of (N**3 - N) / 12
    constant = spread < 0.25
    return np.where(constant, np.nan, np.clip(covariance / np.where(constant, 1, scale), -1, 1))
