"""Label files of rated AI-generated images, and tables of one's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from attiqa.datasets.rated import Labels
from attiqa.datasets.tables import (
    MissingLabelsError,
    find_labels,
    numbers,
    read_csv,
    read_excel,
    splits_by_code,
)


def read_agiqa3k(root: Path) -> Labels:
    """AGIQA-3k (Li et al., TCSVT 2023): 2982 images of 300 prompts by six generators.

    `extra`: ``alignment`` (MOS of agreement with the prompt), ``generator`` and ``style``.
    """
    path = find_labels(root, "data.csv")
    table = read_csv(path, ["name", "prompt", "style", "mos_quality", "mos_align"])
    return Labels(
        table["name"],
        numbers(path, table, "mos_quality"),
        (0, 5),
        groups=table["prompt"],
        extra={
            "alignment": numbers(path, table, "mos_align"),
            "generator": np.array([name.rsplit("_", 1)[0] for name in table["name"]]),
            "style": np.array([style or "none" for style in table["style"]]),
        },
    )


def read_agiqa1k(root: Path) -> Labels:
    """AGIQA-1k (Zhang et al., ICME workshops 2023): 1080 images; the z-score table has the prompts."""
    path = find_labels(root, "AIGC_MOS_Zscore.xlsx", "AIGC_all.csv")
    if path.suffix == ".csv":
        table = read_csv(path, ["Image", "Score"])
        return Labels(
            table["Image"],
            numbers(path, table, "Score"),
            (0, 5),
            extra={"generator": _first_parts(table["Image"])},
            notes=("this table has no prompts: splits by prompt need AIGC_MOS_Zscore.xlsx",),
        )
    table = read_excel(path, ["Image", "Prompt", "MOS"])
    # the table as distributed has one name twice, with two ratings: which is whose can't be known
    counts = Counter(table["Image"])
    kept = [row for row, name in enumerate(table["Image"]) if counts[name] == 1]
    names = [table["Image"][row] for row in kept]
    dropped = len(table["Image"]) - len(names)
    return Labels(
        names,
        numbers(path, table, "MOS")[kept],
        (0, 5),
        groups=[table["Prompt"][row] for row in kept],
        extra={"generator": _first_parts(names)},
        notes=(f"{dropped} rows are left out, for their image is listed twice",) if dropped else (),
    )


def read_aigiqa20k(root: Path) -> Labels:
    """AIGIQA-20k (Li et al., CVPR workshops 2024): a table for each of its official sides."""
    names: list[str] = []
    prompts: list[str] = []
    splits: list[str] = []
    mos = []
    for side in ("train", "val", "test"):
        path = root / f"info_{side}.csv"
        if path.is_file():
            table = read_csv(path, ["name", "prompt", "mos"])
            names += table["name"]
            prompts += table["prompt"]
            splits += splits_by_code(path, [side] * len(table["name"]))
            mos.append(numbers(path, table, "mos"))
    if not mos:
        raise MissingLabelsError(f"{root} holds none of info_train.csv, info_val.csv, info_test.csv.")
    return Labels(names, np.concatenate(mos), (0, 5), groups=prompts, splits=splits)


def read_avt_ai(root: Path) -> Labels:
    """AVT-AI-Image-Dataset (Goering et al., QoMEX 2023): 14 prompts by five generators."""
    path = find_labels(root, "ratings.csv")
    table = read_csv(path, ["image_key", "quality", "appeal", "prompt"])
    return Labels(
        [f"{key}.webp" for key in table["image_key"]],
        numbers(path, table, "quality"),
        (1, 5),
        groups=table["prompt"],
        extra={
            "appeal": numbers(path, table, "appeal"),
            "generator": np.array([key.split("/")[0] for key in table["image_key"]]),
        },
    )


def read_own_table(root: Path) -> Labels:
    """A table of one's own: a CSV with ``name,mos[,split][,group]``, images beside it or in ``images``.

    `root` is a folder with ``labels.csv``, or the CSV file itself. The scale is taken from the ratings.
    """
    path = root if root.suffix.lower() == ".csv" and root.is_file() else find_labels(root, "labels.csv")
    table = read_csv(path, ["name", "mos"])
    mos = numbers(path, table, "mos")
    low, high = float(mos.min()), float(mos.max())
    known = {"name", "mos", "split", "group"}
    return Labels(
        table["name"],
        mos,
        (low, high if high > low else low + 1),
        groups=table.get("group"),
        splits=splits_by_code(path, table["split"]) if "split" in table else None,
        extra={name: np.array(values) for name, values in table.items() if name not in known},
        notes=(f"the scale was taken from the ratings: {low:g} to {high:g}",),
    )


def _first_parts(names: list[str]) -> np.ndarray:
    return np.array([name.split("_")[0] for name in names])
