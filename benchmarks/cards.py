"""What a model's card says about a dataset: whether it learnt from it, and how it did when it had not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from attiqa.datasets.registry import DATASETS

IN_SAMPLE = "in-sample"
ZERO_SHOT = "zero-shot"


def protocol(card: Mapping[str, Any], dataset: str) -> str:
    """``in-sample`` where the card's training data name the dataset, else ``zero-shot``.

    An in-sample row shows how well the ratings were fitted and nothing else.
    """
    names = {dataset, DATASETS[dataset].title} if dataset in DATASETS else {dataset}
    text = json.dumps(card.get("training_data", []))
    for name in names:
        words = re.escape(name).replace(r"\-", "[-_]")
        if re.search(rf"(?<![\w-]){words}(?![\w-])", text, re.IGNORECASE):
            return IN_SAMPLE
    return ZERO_SHOT


def cross_validated(card: Mapping[str, Any], dataset: str, view: str) -> dict[str, Any] | None:
    """The card's own out-of-fold row for a dataset and view (images, SROCC, PLCC), if it has one."""
    entry = card.get("cross_validation", {}).get(dataset, {})
    rows = entry.get("rows", {})
    found = [row for name, row in rows.items() if f"{view} view" in name and "out of fold" in name]
    return {"images": entry.get("images"), **found[0]} if found else None
