"""What a prompt selection leaves: a ranked table, a heat map an attribute, and sets for every strategy."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attiqa.clip.prompts import Pools, chosen_set, set_record
from attiqa.clip.selection import RANKS, PairTable
from attiqa.files import atomic_path, write_json


def write_selection(folder: Path, pools: Pools, tables: Sequence[PairTable]) -> None:
    """Write everything into `folder`.

    ``pairs.csv`` ranks all pairs by the first strategy that all attributes have (``joint`` where both proxies
    ran); ``prompts.json`` is its best set; ``sets/STRATEGY-RANK.json`` are the best, median and worst sets of
    every strategy, for the ablations; ``ATTRIBUTE.png`` are the heat maps.
    """
    write_table(folder / "pairs.csv", tables)
    for table in tables:
        write_heat_map(folder / f"{table.pool.name}.png", table)
    common = [name for name in tables[0].strategies if all(name in table.strategies for table in tables)]
    for strategy in common:
        for rank in RANKS:
            pairs = {table.pool.name: table.pick(strategy, rank) for table in tables}
            write_json(folder / "sets" / f"{strategy}-{rank}.json", set_record(chosen_set(pools, pairs)))
    best = {table.pool.name: table.pick(table.strategies[0]) for table in tables}
    write_json(folder / "prompts.json", set_record(chosen_set(pools, best)))


def write_table(path: Path, tables: Sequence[PairTable]) -> None:
    """Write every pair with its rank and its SROCC in each proxy; a proxy that was not run is left empty."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["attribute", "rank", "positive", "negative", "distortion", "human", "objective"])
        for table in tables:
            objective = table.objective(table.strategies[0]).ravel()
            columns = [
                None if values is None else values.ravel() for values in (table.distortion, table.human)
            ]
            for rank, flat in enumerate(table.order(table.strategies[0]).tolist(), start=1):
                values = ["" if column is None else f"{column[flat]:.6f}" for column in columns]
                writer.writerow([table.pool.name, rank, *table.pair(flat), *values, f"{objective[flat]:.6f}"])


def write_heat_map(path: Path, table: PairTable) -> None:
    """Draw the objective of all pairs; positives go down, negatives across, and a dot marks the best."""
    import matplotlib.pyplot as plt

    strategy = table.strategies[0]
    values = table.objective(strategy)
    rows, columns = np.argsort(-values.mean(axis=1)), np.argsort(-values.mean(axis=0))
    height, width = 2.5 + 0.16 * len(rows), 3.5 + 0.16 * len(columns)
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    limit = 2.0 if strategy == "joint" else 1.0
    picture = axes.imshow(values[np.ix_(rows, columns)], cmap="RdBu", vmin=-limit, vmax=limit)
    axes.set_yticks(range(len(rows)), [table.pool.positive[index] for index in rows], fontsize=6)
    axes.set_xticks(
        range(len(columns)), [table.pool.negative[index] for index in columns], rotation=90, fontsize=6
    )
    best = np.unravel_index(values.argmax(), values.shape)
    axes.plot(int(np.argmax(columns == best[1])), int(np.argmax(rows == best[0])), "k.", markersize=5)
    positive, negative = table.pick(strategy)
    axes.set_title(f"{table.pool.name}: {strategy} SROCC, best {positive} / {negative}", fontsize=9)
    figure.colorbar(picture, shrink=0.6)
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110)
    finally:
        plt.close(figure)
