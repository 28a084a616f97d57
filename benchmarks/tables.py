"""Markdown tables that also read well in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that its columns align; all but the first column to the right."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *["-" * (width - 1) + ":" for width in widths[1:]]]
    lines = [
        "| "
        + " | ".join(
            _pad(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in [cells[0], rule, *cells[1:]]
    ]
    return "\n".join(lines)


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits; a dash where it is not defined."""
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def with_interval(value: float | None, interval: Sequence[float] | None, digits: int = 3) -> str:
    """``0.561 [0.37, 0.71]``; the interval one digit shorter, and left out where there is none."""
    if interval is None:
        return number(value, digits)
    low, high = interval
    return f"{number(value, digits)} [{number(low, digits - 1)}, {number(high, digits - 1)}]"


def percent(value: float | None, interval: Sequence[float] | None = None) -> str:
    """``78.8 % [70.1, 86.3]`` of a fraction."""
    if value is None or not np.isfinite(value):
        return "-"
    suffix = "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return f"{100 * value:.1f} %{suffix}"


def p_value(value: float) -> str:
    """A p-value with four digits, never a bare zero."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)
