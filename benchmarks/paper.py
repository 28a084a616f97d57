"""What the ATTIQA paper reports (Kwon et al., ACCV 2024, arXiv 2406.01020); tables mark it "reported".

Only figures that this project's own design notes quote from the paper stand here. Its Tables 2 to 7 could
not be read while this was written, so no other row is given: a missing row is better than a remembered one.
"""

from __future__ import annotations

from typing import Any

from benchmarks.significance import pairs_needed, sign_test, wilson_interval

PAPER = "Kwon et al., ACCV 2024"

# AGIQA-3k, in-domain: SROCC and PLCC
AGIQA_3K: dict[str, Any] = {"scorer": "ATTIQA", "source": PAPER, "srocc": 0.854, "plcc": 0.911}

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
    "rate": 0.58,
    "interval": wilson_interval(116, 200),
    "p_value": sign_test(116, 84),
    "pairs_needed": pairs_needed(0.58),
    "kind": "reported",
    "source": PAPER,
}
