"""What all tests share: where the real material lies, and quiet, repeatable torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real raws, photographs and ratings; tests that need it are skipped without it."""
    root = Path(
        os.environ.get("ATTIQA_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data")
    )
    if not root.is_dir():
        pytest.skip(f"real material not found at {root} (set ATTIQA_DATA)")
    return root


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
