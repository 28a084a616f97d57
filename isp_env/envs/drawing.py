"""Which frame each slot sees in each episode: a pure function of seed, slot and episode.

A counter-based generator has no hidden state, so a whole batch is drawn in one pass, slot ``i`` of a
batch seeded ``s`` draws what a single environment seeded ``s + i`` draws, and resuming a run needs the
episode counts alone.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from attiqa.errors import InputError

Draw = Literal["independent", "bucketed", "paired"]

# SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, Fig. 16)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _mixed(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def uniform(seeds: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """float64 ``(B,)`` in [0, 1): the number that each seed's stream holds at its counter.

    Args:
        seeds: integers ``(B,)``.
        counters: integers ``(B,)``, from 0.
    """
    start = _mixed(np.asarray(seeds).astype(np.uint64) + _GAMMA)
    bits = _mixed(start + (np.asarray(counters).astype(np.uint64) + np.uint64(1)) * _GAMMA)
    return (bits >> np.uint64(11)) * 2.0**-53


class FrameDraw:
    """Draws frames for the slots of a batch, each frame equally often in expectation.

    Args:
        bucket_of: int64 ``(N,)``, the shape bucket of each frame.
        num_envs: slots.
        draw: ``"independent"``: every slot for itself, as a single environment of its seed would.
            ``"bucketed"``: the slots that begin together share one shape, drawn in proportion to its
            number of frames, so that one batch runs instead of one a shape.
            ``"paired"``: slots 0 and 1 draw the same frames, 2 and 3, and so on, for learners that compare
            two actions on one frame. A last slot without another draws for itself.
    """

    def __init__(self, bucket_of: np.ndarray, num_envs: int, draw: Draw) -> None:
        if draw not in get_args(Draw):
            raise InputError(f"draw is one of {', '.join(map(repr, get_args(Draw)))}; got {draw!r}.")
        self._draw = draw
        self._buckets = [np.flatnonzero(bucket_of == bucket) for bucket in np.unique(bucket_of)]
        self._ends = np.cumsum([len(bucket) for bucket in self._buckets])
        self._episodes = np.zeros(num_envs, dtype=np.int64)
        self._batches = 0
        self._seed = 0

    def restart(self, seed: int) -> None:
        """Begin every slot's stream anew: slot ``i`` gets the stream of ``seed + i``."""
        self._seed, self._batches = seed % 2**63, 0
        self._episodes[:] = 0

    def next(self, slots: np.ndarray) -> np.ndarray:
        """The next frame of each of `slots` (int64 ``(b,)``); returns frame numbers, int64 ``(b,)``."""
        streams = slots // 2 if self._draw == "paired" else slots
        chance = uniform(self._seed + streams, self._episodes[slots])
        self._episodes[slots] += 1
        total = int(self._ends[-1])
        if self._draw != "bucketed":
            return (chance * total).astype(np.int64)
        # the complement keeps the batch's stream apart from the slots' own
        which = uniform(np.array([~self._seed]), np.array([self._batches]))[0]
        self._batches += 1
        bucket = self._buckets[int(np.searchsorted(self._ends, which * total, side="right"))]
        return bucket[(chance * len(bucket)).astype(np.int64)]

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as JSON values."""
        return {"seed": self._seed, "batches": self._batches, "episodes": self._episodes.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        if len(state["episodes"]) != len(self._episodes):
            raise InputError(
                f"the saved state has {len(state['episodes'])} slots and this environment "
                f"{len(self._episodes)}; make it with num_envs={len(state['episodes'])}."
            )
        self._seed, self._batches = int(state["seed"]), int(state["batches"])
        self._episodes[:] = state["episodes"]
