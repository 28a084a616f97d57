"""Pseudo-labels from natural scene statistics: what NIQE and BRISQUE agree on, of degraded photographs.

NIQE (Mittal et al., SPL 2013) and BRISQUE (Mittal et al., TIP 2012) rate each version by how far the local
statistics of its luminance are from those of photographs. Either alone errs often, so a pair of versions has
an order only where both agree on it. The labels are kept in a table beside the run: a killed run goes on.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attiqa.errors import InputError
from attiqa.files import atomic_path
from attiqa.images import read_image, to_float
from attiqa.peers import Scorer
from attiqa.progress import progress_bar
from attiqa.training.degraded import LEAST_SIDE, degrade, region
from attiqa.training.distorted import LabelledBatch
from attiqa.training.loop import BatchSource

LEAST_GAP = 0.05  # versions whose mean ranks are nearer than this share of all have no order
_SAVED_EVERY = 20  # photographs


@dataclass(frozen=True)
class RatedVersions:
    """Degraded photographs with their ratings.

    Attributes:
        images: uint8 ``(P, V, 3, S, S)``, display sRGB: V versions of P photographs, the first undegraded.
        ratings: float32 ``(P, V, M)`` by M measures, higher is better; NaN where one has no value.
    """

    images: torch.Tensor
    ratings: torch.Tensor

    def ranks(self) -> torch.Tensor:
        """``(P, V, M)``: the share of all versions that a measure rates lower, in [0, 1]; NaN stays."""
        flat = self.ratings.flatten(0, 1)
        shares = flat.argsort(0).argsort(0).float() / max(1, len(flat) - 1)
        return torch.where(flat.isnan(), torch.nan, shares).view_as(self.ratings)


def rate_versions(
    photographs: Sequence[Path], scorers: Sequence[Scorer], table: Path, *, versions: int, seed: int
) -> RatedVersions:
    """Degrade each photograph in several ways and rate the results.

    A version is a function of seed, file name and number alone. Measures see its whole region of up to 288
    pixels a side; what is kept is a part of 192, so that the ratings rest on more blocks than training sees.

    Args:
        photographs: image files.
        scorers: measures, see `attiqa.peers.load_peer`.
        table: CSV ``photograph,version,NAME...`` of ratings; rows found there are not made again.
        versions: of each photograph; the first is as it is.
        seed: of regions and changes.

    Raises:
        InputError: fewer than two versions, a file that cannot be read, or a table of other measures.
    """
    if versions < 2:
        raise InputError(f"ranking needs at least two versions of a photograph; {versions} was asked for.")
    known = _read(table, scorers)
    images, ratings = [], []
    bar = progress_bar(photographs, desc="scene statistics", unit="photograph")
    for done, path in enumerate(bar, start=1):
        photograph = read_image(path)
        for number in range(versions):
            draw = np.random.default_rng([seed, number, *path.name.encode()])
            image = region(photograph, draw)
            if number:
                image = degrade(image, draw)
            key = (path.name, number)
            if key not in known:
                known[key] = _rated(image, scorers)
            images.append(_part(image, draw))
            ratings.append(known[key])
        if done % _SAVED_EVERY == 0 or done == len(photographs):
            _write(table, scorers, known)
    shape = (len(photographs), versions)
    return RatedVersions(torch.stack(images).unflatten(0, shape), torch.tensor(ratings).unflatten(0, shape))


def _rated(image: torch.Tensor, scorers: Sequence[Scorer]) -> list[float]:
    shown = to_float(image).unsqueeze(0)
    with torch.inference_mode():
        return [(-1 if s.lower_is_better else 1) * float(s.score(shown)) for s in scorers]


def _part(image: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    y, x = (int(draw.integers(length - LEAST_SIDE + 1)) for length in image.shape[1:])
    return image[:, y : y + LEAST_SIDE, x : x + LEAST_SIDE].contiguous()


def _read(table: Path, scorers: Sequence[Scorer]) -> dict[tuple[str, int], list[float]]:
    if not table.exists():
        return {}
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    head = ["photograph", "version", *(scorer.name for scorer in scorers)]
    if not rows or rows[0] != head:
        raise InputError(f"{table} is no table of {', '.join(head)}; remove it and it is made anew.")
    return {(row[0], int(row[1])): [float(value) for value in row[2:]] for row in rows[1:]}


def _write(table: Path, scorers: Sequence[Scorer], known: dict[tuple[str, int], list[float]]) -> None:
    with atomic_path(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["photograph", "version", *(scorer.name for scorer in scorers)])
        writer.writerows([name, number, *values] for (name, number), values in known.items())


def consensus_order(ranks: torch.Tensor, gap: float = LEAST_GAP) -> torch.Tensor:
    """The order on which all measures agree.

    Args:
        ranks: ``(B, M)``, higher is better; NaN is unknown.
        gap: least difference of the mean rank.

    Returns:
        float32 ``(B, B)`` in {-1, 0, 1}; +1 where the row is better by every measure.
    """
    mean = ranks.mean(1)
    # comparisons with NaN are false, so the unknown has no order
    better = (ranks.unsqueeze(1) > ranks.unsqueeze(0)).all(-1)
    beats = better & (mean.unsqueeze(1) - mean.unsqueeze(0) >= gap)
    return beats.float() - beats.T.float()


class StatisticsBatches:
    """Batches of degraded photographs with the order that scene statistics agree on; no attribute labels.

    Pairs of one photograph weigh, together, as much as pairs of different ones: how a change moves the
    statistics says more of quality than what a scene adds to them. Batch `step` depends on seed and step.

    With `known_order` each photograph is in the batch as it is, and above its degraded versions whatever the
    statistics say: some like a photograph better when it is over-sharpened, or mildly noisy.
    """

    def __init__(
        self,
        rated: RatedVersions,
        attributes: int,
        *,
        photographs: int = 10,
        versions: int = 4,
        side: int = 160,
        seed: int = 0,
        known_order: bool = False,
    ) -> None:
        """`attributes` labels an image, all unknown; each batch holds ``photographs * versions`` images."""
        if len(rated.images) < photographs or rated.images.shape[1] < versions:
            raise InputError(
                f"a batch of {photographs} photographs in {versions} versions needs as many; there are "
                f"{len(rated.images)} in {rated.images.shape[1]}."
            )
        self.rated, self.ranks, self.attributes = rated, rated.ranks(), attributes
        self.photographs, self.versions, self.side, self.seed = photographs, versions, side, seed
        self.known_order = known_order

    def __call__(self, step: int) -> LabelledBatch:
        """Images ``(B, 3, side, side)``, unknown labels ``(B, attributes)`` and the weighted order."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        P, V = self.rated.images.shape[:2]
        scenes = torch.randperm(P, generator=draw)[: self.photographs]
        rows = [self._versions(V, draw) for _ in scenes]
        scene, version = scenes.repeat_interleave(self.versions), torch.cat(rows)
        images = torch.stack(
            [self._crop(p, v, draw) for p, v in zip(scene.tolist(), version.tolist(), strict=True)]
        )
        order = consensus_order(self.ranks[scene, version])
        own = scene.unsqueeze(1) == scene.unsqueeze(0)
        if self.known_order:
            degraded = (version > 0).float()
            known = degraded.unsqueeze(0) - degraded.unsqueeze(1)  # +1: the row is the photograph itself
            order = torch.where(own & (known != 0), known, order)
        order = scaled(order * own) + scaled(order * ~own)
        labels = torch.full((len(images), self.attributes), torch.nan)
        return LabelledBatch(images, labels, order)

    def _versions(self, count: int, draw: torch.Generator) -> torch.Tensor:
        if not self.known_order:
            return torch.randperm(count, generator=draw)[: self.versions]
        degraded = 1 + torch.randperm(count - 1, generator=draw)[: self.versions - 1]
        return torch.cat([torch.zeros(1, dtype=degraded.dtype), degraded])

    def _crop(self, photograph: int, version: int, draw: torch.Generator) -> torch.Tensor:
        image = self.rated.images[photograph, version]
        room = image.shape[-1] - self.side + 1
        y, x, mirror = torch.randint(2**30, (3,), generator=draw).tolist()
        part = to_float(image[:, y % room : y % room + self.side, x % room : x % room + self.side])
        return part.flip(2) if mirror % 2 else part


class JoinedBatches:
    """Batches of several sources side by side; pairs across sources have no order.

    The quality order of each source weighs the same, however many pairs it has.
    """

    def __init__(self, *sources: BatchSource) -> None:
        self.sources = sources

    def __call__(self, step: int) -> LabelledBatch:
        """The batches of one step as one."""
        parts = [source(step) for source in self.sources]
        blank = [torch.zeros(len(part.labels), len(part.labels)) for part in parts]
        orders = [none if part.order is None else part.order for part, none in zip(parts, blank, strict=True)]
        return LabelledBatch(
            torch.cat([part.images for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.block_diag(*(scaled(order) for order in orders)),
        )


def scaled(order: torch.Tensor) -> torch.Tensor:
    """An order whose weights sum to one; none stays none."""
    total = order.abs().sum()
    return order / total if total > 0 else order
