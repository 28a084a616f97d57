"""Search baselines: what the reward can give to one image when many renders may be spent on it.

All of them move a whole set of frames at once: one call of the objective renders the candidates of every
frame. The neutral render costs nothing (an environment holds it anyway), so no search ends below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from attiqa.progress import progress_bar

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_AT_ONCE = 256  # renders of random search between two looks at its progress


class Objective(Protocol):
    """The gain over the neutral render of frames rendered with actions."""

    def __call__(self, frames: Indices, actions: Floats) -> Floats:
        """Frame numbers ``(N,)`` and actions ``(N, P)`` in [-1, 1] to gains ``(N,)``, higher is better."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        actions: ``(F, P)`` in [-1, 1], the best action of each frame (zeros where nothing beat neutral).
        gains: ``(F,)``, its gain over the neutral render, never negative.
        curve: ``(F, N)``, the best gain after each evaluation.
    """

    actions: Floats
    gains: Floats
    curve: Floats

    @property
    def evaluations(self) -> int:
        """Renders spent on each frame."""
        return self.curve.shape[1]


class _Best:
    """The best action of each frame so far, and how it came about."""

    def __init__(self, frames: int, dimensions: int):
        self.actions = np.zeros((frames, dimensions))
        self.gains = np.zeros(frames)
        self._curve: list[Floats] = []

    def offer(self, actions: Floats, gains: Floats) -> None:
        """Candidates ``(F, K, P)`` with their gains ``(F, K)``, in the order in which they were tried."""
        running = np.maximum(np.maximum.accumulate(gains, axis=1), self.gains[:, None])
        self._curve.append(running)
        winner = gains.argmax(axis=1)
        rows = np.arange(len(gains))
        better = gains[rows, winner] > self.gains
        self.actions[better] = actions[rows, winner][better]
        self.gains = running[:, -1].copy()

    def result(self) -> SearchResult:
        return SearchResult(self.actions, self.gains, np.concatenate(self._curve, axis=1))


def _bar(name: str, frames: int, evaluations: int) -> tqdm[Any]:
    return progress_bar(desc=name, total=frames * evaluations, unit="render", delay=2.0, leave=False)


def _evaluate(objective: Objective, actions: Floats, bar: tqdm[Any]) -> Floats:
    """Candidates ``(F, K, P)`` of all frames in one call; gains ``(F, K)``."""
    frames, candidates, dimensions = actions.shape
    numbers = np.repeat(np.arange(frames, dtype=np.int64), candidates)
    gains = objective(numbers, actions.reshape(-1, dimensions))
    bar.update(len(numbers))
    return np.asarray(gains, dtype=np.float64).reshape(frames, candidates)


def random_search(
    objective: Objective, frames: int, dimensions: int, evaluations: int = 64, seed: int = 0
) -> SearchResult:
    """The best of `evaluations` random actions for each frame.

    A uniform draw in a box of ten or more sides lies almost always near its corners, where no photograph
    looks good; each draw is therefore shrunk by a uniform factor, which makes the baseline much stronger
    (our choice).
    """
    generator = np.random.default_rng(seed)
    directions = generator.uniform(-1.0, 1.0, (frames, evaluations, dimensions))
    actions = directions * generator.uniform(0.0, 1.0, (frames, evaluations, 1))
    best = _Best(frames, dimensions)
    at_once = -(-_AT_ONCE // frames)
    with _bar("random search", frames, evaluations) as bar:
        for begin in range(0, evaluations, at_once):
            drawn = actions[:, begin : begin + at_once]
            best.offer(drawn, _evaluate(objective, drawn, bar))
    return best.result()


def cma_es(
    objective: Objective,
    frames: int,
    dimensions: int,
    evaluations: int = 400,
    seed: int = 0,
    sigma: float = 0.3,
) -> SearchResult:
    """CMA-ES (Hansen's `cma`), one strategy a frame, the populations of all frames rendered together.

    Args:
        objective: the gain over neutral.
        frames: number of frames.
        dimensions: number of parameters; CMA-ES needs two or more.
        evaluations: renders a frame; rounded down to whole populations, at least one.
        seed: of the sampling; each frame has a stream of its own.
        sigma: initial standard deviation, in units of half the box.
    """
    import cma  # takes longer to import than torch, and exports search nothing

    strategies = [
        cma.CMAEvolutionStrategy(np.zeros(dimensions), sigma, _cma_options(seed, frame))
        for frame in range(frames)
    ]
    population = strategies[0].popsize
    best = _Best(frames, dimensions)
    generations = max(evaluations // population, 1)
    with _bar("CMA-ES", frames, generations * population) as bar:
        for _ in range(generations):
            asked = [strategy.ask() for strategy in strategies]
            actions = np.asarray(asked, dtype=np.float64)  # (F, population, P)
            gains = _evaluate(objective, actions, bar)
            for strategy, candidates, row in zip(strategies, asked, gains, strict=True):
                strategy.tell(candidates, (-row).tolist())
            best.offer(actions, gains)
    return best.result()


def _cma_options(seed: int, frame: int) -> dict[str, object]:
    generator = np.random.default_rng([seed, frame])
    return {
        "bounds": [-1.0, 1.0],
        "randn": lambda *shape: generator.standard_normal(shape),
        "seed": np.nan,  # leaves numpy's global generator alone; the stream above is the seed
        "verbose": -9,
    }


def coordinate_search(
    objective: Objective, frames: int, dimensions: int, evaluations: int = 400, candidates: int = 5
) -> SearchResult:
    """One parameter at a time, in turn, over a window that halves after each round; no randomness.

    Args:
        objective: the gain over neutral.
        frames: number of frames.
        dimensions: number of parameters.
        evaluations: renders a frame; whole sweeps of one parameter, at least one.
        candidates: values tried for a parameter in each sweep.
    """
    best = _Best(frames, dimensions)
    sweeps = max(evaluations // candidates, 1)
    with _bar("coordinate search", frames, sweeps * candidates) as bar:
        for sweep in range(sweeps):
            parameter, turn = sweep % dimensions, sweep // dimensions
            window = np.linspace(-1.0, 1.0, candidates) * 0.5**turn
            actions = np.repeat(best.actions[:, None, :], candidates, axis=1)
            actions[:, :, parameter] = np.clip(actions[:, :, parameter] + window, -1.0, 1.0)
            best.offer(actions, _evaluate(objective, actions, bar))
    return best.result()
