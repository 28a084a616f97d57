"""What others report, each figure with where it was read; tables mark such rows "reported".

Of the ATTIQA paper (Kwon et al., ACCV 2024, arXiv 2406.01020) only the figures of its applications could
be had: AGIQA-3k, the pairs, the ISP agent. Its own rows of Tables 2 to 7 could not be read where this was
written, so none is given: a missing row is better than a remembered one. Peers' rows of the same protocols
stand in:

* DR.Experts, AAAI 2026, Tables 1 to 3: 80/20 at random, median of ten splits, for every dataset;
* Q-Align's model card (q-future/one-align): AVA's official test side, and AGIQA-3k unseen;
* the Q-Bench leaderboard (qbench_a3_single.csv): AGIQA-3k unseen;
* M3-AGIQA, arXiv 2502.15167, the table of its comparisons: AGIQA-3k and AIGIQA-20k, split by its authors.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.significance import pairs_needed, sign_test, wilson_interval

PAPER = "Kwon et al., ACCV 2024"
_DR_EXPERTS = "DR.Experts, AAAI 2026, Table {}"
_Q_ALIGN = "Q-Align's model card"
_Q_BENCH = "Q-Bench leaderboard"
_M3_AGIQA = "M3-AGIQA, arXiv 2502.15167"

NO_OWN_ROWS = "The paper's own rows of this table could not be read here, and no figure is given from memory"


@dataclass(frozen=True)
class Reported:
    """A figure from print.

    Attributes:
        scorer: whose.
        train: dataset it was fitted on; "others" for a model that never saw the tested one.
        test: dataset it was tested on.
        srocc, plcc: as printed; None where the source has none.
        source: where it was read.
        fraction: share of the training side.
    """

    scorer: str
    train: str
    test: str
    srocc: float
    plcc: float | None
    source: str
    fraction: float = 1.0

    @property
    def protocol(self) -> str:
        """``zero-shot`` or ``in-domain``."""
        return "zero-shot" if self.train == "others" else "in-domain"

    def describe(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)


# SROCC and PLCC on each dataset that the source has
_MAIN = {
    "BRISQUE": {"koniq10k": (0.715, 0.702), "clive": (0.601, 0.621), "spaq": (0.802, 0.806)}
    | {"flive": (0.320, 0.356)},
    "DB-CNN": {"koniq10k": (0.878, 0.887), "clive": (0.844, 0.862), "spaq": (0.910, 0.913)}
    | {"flive": (0.554, 0.652)},
    "HyperIQA": {"koniq10k": (0.906, 0.917), "clive": (0.859, 0.882), "spaq": (0.916, 0.919)}
    | {"flive": (0.535, 0.623)},
    "MUSIQ": {"koniq10k": (0.916, 0.928), "clive": (0.702, 0.746), "spaq": (0.917, 0.921)},
    "TReS": {"koniq10k": (0.915, 0.928), "clive": (0.846, 0.877), "flive": (0.554, 0.625)},
    "CONTRIQUE": {"koniq10k": (0.894, 0.906), "clive": (0.845, 0.857), "spaq": (0.914, 0.919)}
    | {"flive": (0.580, 0.641)},
    "QPT": {"koniq10k": (0.927, 0.941), "clive": (0.895, 0.914), "spaq": (0.925, 0.928)}
    | {"flive": (0.578, 0.675)},
    "QCN": {"koniq10k": (0.934, 0.945), "clive": (0.875, 0.893), "spaq": (0.923, 0.928)},
    "LoDa": {"koniq10k": (0.932, 0.944), "clive": (0.876, 0.899), "spaq": (0.925, 0.928)}
    | {"flive": (0.578, 0.679)},
    "DR.Experts": {"koniq10k": (0.941, 0.954), "clive": (0.914, 0.926), "spaq": (0.928, 0.933)}
    | {"flive": (0.585, 0.690)},
}
_AVA = {"VILA": (0.774, 0.774), "LIQE": (0.776, 0.763), "Q-Align": (0.822, 0.817)}

# SROCC by (fitted on, tested on)
_CROSS_PAIRS = (("flive", "koniq10k"), ("flive", "clive"), ("clive", "koniq10k"), ("koniq10k", "clive"))
_CROSS = {
    "DB-CNN": (0.716, 0.724, 0.754, 0.755),
    "HyperIQA": (0.758, 0.735, 0.772, 0.785),
    "TReS": (0.713, 0.740, 0.733, 0.786),
    "DEIQT": (0.733, 0.781, 0.744, 0.794),
    "LoDa": (0.763, 0.805, 0.745, 0.811),
    "DR.Experts": (0.783, 0.807, 0.785, 0.841),
}

# a fifth of the training side: KonIQ-10k, CLIVE
_FIFTH = {
    "HyperIQA": ((0.869, 0.873), (0.776, 0.809)),
    "DEIQT": ((0.888, 0.908), (0.792, 0.822)),
    "LoDa": ((0.907, 0.923), (0.815, 0.854)),
    "DR.Experts": ((0.917, 0.931), (0.837, 0.861)),
}

# AGIQA-3k quality, then AIGIQA-20k where the source has it
_GENERATED = {
    "ResNet50": ((0.8552, 0.9072), (0.8036, 0.8661)),
    "DBCNN": ((0.8154, 0.8747), (0.7941, 0.8542)),
    "StairIQA": ((0.8439, 0.8989), (0.8126, 0.8746)),
    "MGQA": ((0.8283, 0.8944), (0.8107, 0.8534)),
    "HyperIQA": ((0.8526, 0.8975), (0.8171, 0.8584)),
    "AMFF-Net": ((0.8565, 0.9050), None),
    "MA-AGIQA": ((0.8939, 0.9273), (0.8644, 0.9050)),
    "M3-AGIQA": ((0.9045, 0.9317), (0.8988, 0.9292)),
}


def _generated() -> list[Reported]:
    rows = [
        Reported("ATTIQA", "agiqa-3k", "agiqa-3k", 0.854, 0.911, PAPER),
        Reported("NIQE", "others", "agiqa-3k", 0.562, 0.517, _Q_BENCH),
        Reported("Q-Align (IQA)", "others", "agiqa-3k", 0.731, 0.791, _Q_ALIGN),
        Reported("OneAlign", "others", "agiqa-3k", 0.801, 0.838, _Q_ALIGN),
    ]
    for scorer, values in _GENERATED.items():
        for name, pair in zip(("agiqa-3k", "aigiqa-20k"), values, strict=True):
            rows += [] if pair is None else [Reported(scorer, name, name, *pair, _M3_AGIQA)]
    return rows


def _main() -> list[Reported]:
    rows = [
        Reported(scorer, name, name, *pair, _DR_EXPERTS.format(1))
        for scorer, sets in _MAIN.items()
        for name, pair in sets.items()
    ]
    return rows + [Reported(scorer, "ava", "ava", *pair, _Q_ALIGN) for scorer, pair in _AVA.items()]


GENERATED = _generated()
TABLES: dict[str, list[Reported]] = {
    "main": _main(),
    "cross": [
        Reported(scorer, *sets, value, None, _DR_EXPERTS.format(2))
        for scorer, values in _CROSS.items()
        for sets, value in zip(_CROSS_PAIRS, values, strict=True)
    ],
    "data-efficient": [
        Reported(scorer, name, name, *pair, _DR_EXPERTS.format(3), 0.2)
        for scorer, values in _FIFTH.items()
        for name, pair in zip(("koniq10k", "clive"), values, strict=True)
    ],
}


def reported_rows(table: str, sets: Collection[str]) -> tuple[list[Reported], str]:
    """The reported rows of one table on the datasets at hand, and what has to be said of them."""
    rows = [row for row in TABLES.get(table, []) if row.train in sets and row.test in sets]
    if rows:
        sources = sorted({row.source for row in rows})
        return rows, f"{NO_OWN_ROWS}; the reported rows are peers', from {', '.join(sources)}."
    return [], f"{NO_OWN_ROWS}; no peers' figures of this table on these datasets were found either."


# preference accuracy on 200 pairs of Stable Diffusion images
SD_PAIRS: dict[str, Any] = {
    "scorer": "ATTIQA",
    "source": PAPER,
    "pairs": 200,
    "accuracy": 0.71,
    "interval": wilson_interval(142, 200),
    "p_value": sign_test(142, 58),
}

# an ISP agent with ATTIQA as reward against expert C, 200 comparisons by people
EXPERT_WINS: dict[str, Any] = {
    "judge": "people",
    "method": "ATTIQA ISP agent",
    "against": "expert C",
    "wins": 116,
    "losses": 84,
    "ties": 0,
    "unscored": 0,
    "rate": 0.58,
    "interval": wilson_interval(116, 200),
    "p_value": sign_test(116, 84),
    "pairs_needed": pairs_needed(0.58),
    "kind": "reported",
    "source": PAPER,
}
