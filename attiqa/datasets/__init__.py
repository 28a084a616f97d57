"""Rated image sets as their owners distribute them; `load_dataset` reads one by name."""

from attiqa.datasets.rated import RatedSet
from attiqa.datasets.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "RatedSet", "load_dataset"]
