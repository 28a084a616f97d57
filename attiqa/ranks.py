"""Spearman correlations of thousands of predictions with one target, tie-correct, in one pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from attiqa.errors import InputError

# values ranked at a time: few enough for the caches, enough for Python's share to be small; and of those, how
# many at a time where a value takes 16 bytes
_BLOCK_VALUES = 2**18
_GATHERED_VALUES = 2**15
# share of values with a near tie above which a block is ranked by long keys
_MANY_TIES = 0.1
_PAYLOAD_BITS = 29  # of a float64's mantissa that a float32 leaves empty

Rows = NDArray[np.float32]


class _Target(NamedTuple):
    """Ranks of the target: twice their average rank is a whole number."""

    doubled: NDArray[np.int64]  # (N,)
    centred: NDArray[np.float64]  # (N,), sums to zero
    spread: float  # sum of squares of `centred`


class _Scratch:
    """What one thread works in, for R rows of N values; fresh memory for each block would cost time."""

    def __init__(self, height: int, count: int) -> None:
        shape = (height, count)
        self.rows = np.empty(shape, np.float32)
        self.levels = np.empty(shape, np.float32)
        self.keys = np.empty(shape, np.uint32)
        self.near = np.empty(shape, bool)
        small = (max(1, min(height, _GATHERED_VALUES // count)), count)
        self.indices = np.empty(small, np.intp)
        self.ranks = np.empty(small)
        self.places = np.arange(count, dtype=np.uint32)


def spearman_matrix(predictions: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Spearman's rank correlation of every row of `predictions` with `targets`, ties at average ranks.

    A float value and the place of its image are packed into one machine word; sorting those words orders the
    targets' ranks by prediction without an index sort, and threads share the rows (see `_rank_by_short_key`).
    float64 and integers take SciPy's ranking, which is slower.

    Args:
        predictions: ``(..., N)``; float16 and float32 take the fast path.
        targets: ``(N,)``, not constant.

    Returns:
        float64 ``(...)``; NaN where a row of predictions is constant.

    Raises:
        InputError: sizes differ, N < 2, a value is not finite, or the targets are constant.
    """
    rows = np.asarray(predictions)
    target = _ranked(rows.shape, targets)
    flat = np.ascontiguousarray(rows).reshape(-1, rows.shape[-1])
    fast = rows.dtype in (np.float32, np.float16)
    step = max(1, _BLOCK_VALUES // flat.shape[1])
    result = np.empty(len(flat))

    def work(starts: Sequence[int]) -> None:
        scratch = _Scratch(min(step, len(flat)), flat.shape[1])
        for start in starts:
            block = flat[start : start + step]
            result[start : start + step] = (
                _rank(block.astype(np.float32, copy=False), target, scratch)
                if fast
                else _rank_by_scipy(block, target)
            )

    _in_threads(work, range(0, len(flat), step))
    return result.reshape(rows.shape[:-1])


def spearman_differences(high: ArrayLike, low: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Spearman's rank correlation of ``high[p] - low[q]`` with `targets` for every pair (p, q).

    The same numbers as `spearman_matrix` of all differences, which are never held at once. Differences are
    taken in float32: values that are closer than its rounding are tied.

    Args:
        high, low: ``(P, N)`` and ``(Q, N)``, converted to float32.
        targets: ``(N,)``, not constant.

    Returns:
        float64 ``(P, Q)``; NaN where a difference is constant.

    Raises:
        InputError: as `spearman_matrix`.
    """
    upper, lower = np.ascontiguousarray(high, np.float32), np.ascontiguousarray(low, np.float32)
    if upper.ndim != 2 or lower.ndim != 2 or upper.shape[1] != lower.shape[1]:
        raise InputError(f"expected scores (P, N) and (Q, N); these are {upper.shape} and {lower.shape}.")
    target = _ranked(upper.shape, targets)
    count = upper.shape[1]
    columns = max(1, min(len(lower), _BLOCK_VALUES // count))
    rows = max(1, _BLOCK_VALUES // (columns * count))
    corners = [(p, q) for p in range(0, len(upper), rows) for q in range(0, len(lower), columns)]
    result = np.empty((len(upper), len(lower)))

    def work(own: Sequence[tuple[int, int]]) -> None:
        scratch = _Scratch(rows * columns, count)
        for p, q in own:
            high_part, low_part = upper[p : p + rows, None], lower[None, q : q + columns]
            shape = (high_part.shape[0], low_part.shape[1])
            block = scratch.rows[: shape[0] * shape[1]]
            with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused below
                np.subtract(high_part, low_part, out=block.reshape(*shape, count))
            result[p : p + rows, q : q + columns] = _rank(block, target, scratch).reshape(shape)

    _in_threads(work, corners)
    return result


def _ranked(shape: tuple[int, ...], targets: ArrayLike) -> _Target:
    """Check the target against predictions of `shape` and rank it."""
    target = np.asarray(targets, dtype=np.float64)
    if target.ndim != 1 or shape[-1:] != target.shape or target.size < 2:
        raise InputError(
            "a rank correlation needs predictions (..., N) and targets (N,) with N of at least 2; "
            f"these are {shape} and {target.shape}."
        )
    _check_finite(target)
    if (target == target[0]).all():
        raise InputError(
            f"all {target.size} targets are {target[0]:g}; a rank correlation needs at least two values."
        )
    doubled = np.rint(2 * rankdata(target)).astype(np.int64)
    centred = doubled - (target.size + 1.0)
    return _Target(doubled, centred, float((centred**2).sum()))


def _check_finite(values: NDArray) -> None:
    if not np.isfinite(values).all():
        raise InputError(
            "a rank correlation needs finite numbers; these hold NaN or infinity: drop those items."
        )


def _in_threads(work: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """Share `parts` among threads, which call `work` with their own; NumPy releases the interpreter lock."""
    count = min(os.cpu_count() or 1, len(parts))
    if count < 2:
        return work(parts)
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, [parts[first::count] for first in range(count)]))  # a list: raises their errors
    return None


def _rank_by_scipy(rows: NDArray, target: _Target) -> NDArray[np.float64]:
    _check_finite(rows)
    ranks = rankdata(rows, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    return _divide(ranks @ target.centred, (ranks**2).sum(axis=-1), target)


def _rank(rows: Rows, target: _Target, scratch: _Scratch) -> NDArray[np.float64]:
    """Spearman of float32 rows ``(R, N)``."""
    found = _rank_by_short_key(rows, target, scratch)
    return _rank_by_long_key(rows, target) if found is None else found


def _rank_by_short_key(rows: Rows, target: _Target, scratch: _Scratch) -> NDArray[np.float64] | None:
    """Rank by 32-bit words: a row's values rounded to as many levels as fit, and below them the place.

    Rounding keeps the order but for values that meet on a level; those few are put in order exactly. 32-bit
    words sort more than twice as fast as 64-bit ones. ``None`` where the levels of a row don't suffice:
    constant rows, NaN or infinity, ranges beyond float32, many ties.
    """
    height, count = rows.shape
    bits = (count - 1).bit_length()
    low = rows.min(axis=1, keepdims=True)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        span = rows.max(axis=1, keepdims=True) - low
        # a hair less than all levels, so that rounding can't reach one more; int32 converts fast
        scale = np.float32(2.0 ** min(30, 32 - bits) * (1 - 2.0**-20)) / span
    if not (np.isfinite(scale) & (scale > 0)).all():
        return None
    levels, keys, near = scratch.levels[:height], scratch.keys[:height], scratch.near[:height]
    np.subtract(rows, low, out=levels)
    levels *= scale
    np.copyto(keys.view(np.int32), levels, casting="unsafe")
    keys <<= np.uint32(bits)
    keys |= scratch.places
    keys.sort(axis=1)
    # whether a key and the next of its row share a level; the levels' memory is free again
    gaps = levels.view(np.uint32)
    np.bitwise_xor(keys[:, 1:], keys[:, :-1], out=gaps[:, :-1])
    gaps[:, -1] = 0xFFFFFFFF
    np.less(gaps, np.uint32(1 << bits), out=near)
    if np.count_nonzero(near) > _MANY_TIES * near.size:
        return None
    place = np.uint32((1 << bits) - 1)
    tied = _settle(keys, near, rows, place)
    keys &= place
    covariance = np.empty(height)
    positions = _positions(count)
    for start in range(0, height, len(scratch.indices)):
        part = slice(start, min(start + len(scratch.indices), height))
        indices, ranks = scratch.indices[: part.stop - start], scratch.ranks[: part.stop - start]
        np.copyto(indices, keys[part])
        # the indices are in range: "clip" spares the check and a buffer
        target.centred.take(indices, out=ranks, mode="clip")
        np.dot(ranks, positions, out=covariance[part])
    return _correlate(covariance, tied, lambda at: target.centred[keys.reshape(-1)[at]], target)


def _rank_by_long_key(rows: Rows, target: _Target) -> NDArray[np.float64]:
    """Rank by 64-bit words: a float32 as float64, the target's rank in the 29 low bits that it leaves zero.

    The words sort as floats in the order of the float32 values; which of several equal ones comes first does
    not matter.
    """
    _check_finite(rows)
    keys = (rows + np.float32(0)).astype(np.float64)  # + 0 makes -0 equal to 0
    words: NDArray[np.int64] = keys.view(np.int64)
    words |= target.doubled
    keys.sort(axis=1)
    gaps = words[:, 1:] ^ words[:, :-1]  # not negative where the signs agree
    tied = np.zeros(words.shape, dtype=bool)
    np.less(gaps.view(np.uint64), np.uint64(1 << _PAYLOAD_BITS), out=tied[:, :-1])
    words &= (1 << _PAYLOAD_BITS) - 1
    ranks = words - np.float64(target.centred.size + 1)
    covariance = ranks @ _positions(target.centred.size)
    return _correlate(covariance, np.flatnonzero(tied), lambda at: ranks.reshape(-1)[at], target)


def _settle(keys: NDArray[np.uint32], near: NDArray[np.bool_], rows: Rows, place: np.uint32) -> NDArray:
    """Order keys that share a level by their exact values, in place; returns where a key ties with the next.

    Args:
        keys: ``(R, N)``, sorted within each row.
        near: ``(R, N)``, whether a key and the next of its row share a level.
        rows: ``(R, N)`` the values.
        place: mask of the bits that hold a key's place in its row.

    Returns:
        Flat positions, rising.
    """
    flat, marks = keys.reshape(-1), near.reshape(-1)
    flagged = np.flatnonzero(marks)
    if not flagged.size:
        return flagged
    start = flagged - flagged % rows.shape[1]
    # index -1 is the end of the last row, where no mark is
    alone = ~(marks[flagged - 1] | marks[flagged + 1])
    if alone.all():
        return _settle_pairs(flat, flagged, start, rows, place)
    pairs = _settle_pairs(flat, flagged[alone], start[alone], rows, place)
    return np.sort(np.concatenate([pairs, _settle_runs(flat, flagged[~alone], rows, place)]))


def _settle_pairs(
    keys: NDArray[np.uint32], first: NDArray, start: NDArray, rows: Rows, place: np.uint32
) -> NDArray:
    """`_settle` for levels of two keys, at `first` and behind it; `start` is where their rows begin."""
    values = rows.reshape(-1)
    left, right = keys[first], keys[first + 1]
    left_value, right_value = values[start + (left & place)], values[start + (right & place)]
    swapped = np.flatnonzero(left_value > right_value)
    keys[first[swapped]], keys[first[swapped] + 1] = right[swapped], left[swapped]
    return first[left_value == right_value]


def _settle_runs(keys: NDArray[np.uint32], flagged: NDArray, rows: Rows, place: np.uint32) -> NDArray:
    """`_settle` for levels that any number of keys share: by one sort of (level, exact value)."""
    count = rows.shape[1]
    members = np.union1d(flagged, flagged + 1)
    group = np.cumsum(np.isin(members - 1, flagged, invert=True))
    values = rows.reshape(-1)[members - members % count + (keys[members] & place)]
    exact = (group.astype(np.uint64) << np.uint64(32)) | _ordered_bits(values)
    order = np.argsort(exact)
    keys[members] = keys[members[order]]
    exact = exact[order]
    return members[:-1][exact[1:] == exact[:-1]]


def _ordered_bits(values: Rows) -> NDArray[np.uint32]:
    """float32 to uint32 in the same order (IEEE 754: flip the sign bit, or all bits of a negative)."""
    bits = (values + np.float32(0)).view(np.uint32)  # + 0 makes -0 equal to 0
    return bits ^ ((bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(0x80000000))


def _positions(count: int) -> NDArray[np.float64]:
    """0 to `count` - 1, centred."""
    return np.arange(count, dtype=np.float64) - np.float64((count - 1) / 2)


def _correlate(
    covariance: NDArray[np.float64],
    tied: NDArray[np.int64],
    ranks_at: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    target: _Target,
) -> NDArray[np.float64]:
    """Correlation of positions with the target's ranks in the order of the predictions; corrects for ties.

    Args:
        covariance: ``(R,)``, sums of centred position times the target's rank there, as if nothing tied.
        tied: flat positions whose prediction equals the next one's.
        ranks_at: the target's ranks at flat positions.
        target: as ranked.
    """
    count = target.centred.size
    spread = np.full(len(covariance), (count**3 - count) / 12)
    if not tied.size:
        return _divide(covariance, spread, target)
    # a run of consecutive flat positions is one group of ties; rows can't join, for a row's last is never one
    first = np.flatnonzero(np.diff(tied, prepend=-2) != 1)
    sizes = np.diff(first, append=tied.size) + 1
    starts = tied[first]
    group_rows = starts // count
    offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shift = np.repeat((sizes - 1) / 2, sizes) - offsets  # mean position minus own position
    change = shift * ranks_at(np.repeat(starts, sizes) + offsets)
    rows = len(covariance)
    covariance = covariance + np.bincount(np.repeat(group_rows, sizes), change, minlength=rows)
    spread -= np.bincount(group_rows, (sizes.astype(np.float64) ** 3 - sizes) / 12, minlength=rows)
    return _divide(covariance, spread, target)


def _divide(
    covariance: NDArray[np.float64], spread: NDArray[np.float64], target: _Target
) -> NDArray[np.float64]:
    scale = np.sqrt(spread * target.spread)
    # a constant row's spread cancels to zero up to rounding of (N**3 - N) / 12
    constant = spread < 0.25
    return np.where(constant, np.nan, np.clip(covariance / np.where(constant, 1, scale), -1, 1))
