"""Rated images: what every dataset loader returns, and the checks that all of them share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attiqa.errors import InputError
from attiqa.images import IMAGE_SUFFIXES

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Labels:
    """What a label file says, before any image is looked for.

    Attributes:
        names: ``(N,)`` image names as the file has them, relative to an image folder.
        mos: float64 ``(N,)``, mean opinion score, higher is better.
        mos_range: the ends of the rating scale.
        groups: ``(N,)`` reference or prompt of each image, or ``None``; groups must not straddle a split.
        splits: ``(N,)`` of ``train | validation | test`` where the owners publish a split, or ``None``.
        extra: further float or string columns ``(N,)``, such as attribute scores or generators.
        notes: sentences on whatever had to be assumed or dropped.
    """

    names: Sequence[str]
    mos: NDArray[np.float64]
    mos_range: tuple[float, float]
    groups: Sequence[str] | None = None
    splits: Sequence[str] | None = None
    extra: dict[str, NDArray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RatedSet:
    """Images with human ratings.

    Attributes:
        name: the dataset's registry name.
        names: ``(N,)`` strings, unique.
        paths: one file an image, in the order of `names`.
        mos: float64 ``(N,)`` in `mos_range`, higher is better.
        mos_range: the ends of the rating scale.
        groups: string ``(N,)``; images of one group are kept on one side of a split.
        grouping: what a group is: ``image``, ``reference`` or ``prompt``.
        splits: string ``(N,)`` of ``train | validation | test``, or ``None`` where none is official.
        extra: further columns ``(N,)`` by name.
        missing: names that the labels list but that are not on disk; they are not in the set.
        notes: sentences on whatever had to be assumed or dropped.
    """

    name: str
    names: NDArray[np.str_]
    paths: tuple[Path, ...]
    mos: NDArray[np.float64]
    mos_range: tuple[float, float]
    groups: NDArray[np.str_]
    grouping: str
    splits: NDArray[np.str_] | None
    extra: dict[str, NDArray]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def unit_mos(self) -> NDArray[np.float64]:
        """The ratings brought to [0, 1] by the ends of their scale."""
        low, high = self.mos_range
        return (self.mos - low) / (high - low)

    def select(self, index: NDArray) -> RatedSet:
        """The images named by `index`, integers or booleans."""
        rows = np.arange(len(self))[index]
        return replace(
            self,
            names=self.names[rows],
            paths=tuple(self.paths[row] for row in rows),
            mos=self.mos[rows],
            groups=self.groups[rows],
            splits=None if self.splits is None else self.splits[rows],
            extra={name: values[rows] for name, values in self.extra.items()},
        )


def check_labels(labels: Labels, source: str) -> None:
    """Refuse duplicates and ratings outside the scale in a sentence; `source` names the dataset."""
    names, counts = np.unique(np.asarray(labels.names), return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"{source} lists {int((counts > 1).sum())} image names more than once, such as "
            f"'{names[counts > 1][0]}'; keep one row for each."
        )
    low, high = labels.mos_range
    outside = np.flatnonzero(~((labels.mos >= low) & (labels.mos <= high)))
    if outside.size:
        raise InputError(
            f"{source} rates from {low:g} to {high:g}, but {outside.size} of {len(labels.mos)} ratings lie "
            f"outside, such as {labels.mos[outside[0]]:g} of '{labels.names[outside[0]]}'; "
            "is it the right file?"
        )
    unknown = sorted(set(labels.splits or ()) - set(SPLIT_NAMES))
    if unknown:
        raise InputError(
            f"{source} has splits named {', '.join(unknown)}; expected {', '.join(SPLIT_NAMES)}."
        )


class ImageFinder:
    """Finds images by name in candidate folders, whatever the case of their letters.

    TID2013 lists ``i01_01_2.bmp`` and ships ``I01_01_2.BMP``. A name without a suffix is the one image
    of that name. Each folder is listed once.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [folder for folder in folders if folder.is_dir()]
        self._listings: dict[Path, dict[str, str]] = {}

    def find(self, name: str) -> Path | None:
        """The file that `name` (with or without sub-folders) stands for, or ``None``."""
        for folder in self.folders:
            parent = (folder / name).parent
            found = self._listing(parent).get(Path(name).name.lower())
            if found is not None:
                return parent / found
        return None

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._listings:
            names = os.listdir(folder) if folder.is_dir() else []
            images = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
            stems = Counter(Path(name).stem.lower() for name in images)
            bare = {Path(name).stem.lower(): name for name in images if stems[Path(name).stem.lower()] == 1}
            self._listings[folder] = bare | {name.lower(): name for name in names}
        return self._listings[folder]
